"""Which offers are of the kind that an order wishes for, one test for each wish.

A test is made once for an order and then looks at the rows of few blocks.
Not here: how much of a machine is wanted and what it costs (``quote``).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sublet.base.ids import Address
from sublet.core.book.book import Book
from sublet.core.book.column import Column, Columns
from sublet.core.book.offer_table import OfferTable
from sublet.core.book.vocabulary import Vocabulary
from sublet.core.document import Order
from sublet.core.gpu_kind import GpuKind, parse_kind

Mask = NDArray[np.bool_]
IsMet = Callable[[Columns], Any]  # of these rows, or this one: which meet the wish
Wishes = dict[str, IsMet]  # by name


class Wish(Struct, frozen=True):
    """What one column must say: at least so much, or a text that will do.

    A value, so that a compiled search can read it (``plan``).
    """

    column: Column
    least: int = 0
    table: Mask | None = None  # by the number of a text: will it do?

    def __call__(self, cells: Columns) -> Any:
        """Say which of these rows, or whether this one, meets it."""
        found = cells[self.column]
        return found >= self.least if self.table is None else self.table[found]


# Fields of an order that are "at least", and the columns that they are held against.
OF_GPU: Mapping[str, Column] = {
    "gpu_share_milli": Column.GPU_SHARE_MILLI,
    "gpu_compute": Column.GPU_COMPUTE,
    "gpu_driver": Column.GPU_DRIVER,
    "cuda": Column.CUDA,
}
SPEEDS: Mapping[str, Column] = {
    "cpu": Column.CPU_SCORE,
    "disk": Column.DISK_SCORE,
    "gpu": Column.GPU_SCORE,
}
OF_NETWORK: Mapping[str, Column] = {
    "up_mbit_s": Column.UP_MBIT_S,
    "down_mbit_s": Column.DOWN_MBIT_S,
}


def compile_wishes(book: Book, order: Order, *, now_s: int) -> Wishes:
    """Make the tests that an offer has to pass.

    Args:
        book: with the offers, the delegation of the order and what auditors say.
        order: its texts are well-formed (``core.wording``).
        now_s: what auditors say may have expired.
    """
    offers = book.offers
    wishes = _of_place(offers, order) | _at_least(order, OF_NETWORK)
    if order.gpu_count:
        wishes |= _of_gpus(offers, order)
    if order.sandbox:
        wishes["sandbox"] = _any_of(
            offers.words.sandboxes, Column.SANDBOXES, [order.sandbox]
        )
    for feature in order.features:  # each of them, where the others take any
        wishes[feature] = _any_of(offers.words.features, Column.FEATURES, [feature])
    if order.disk_classes:
        wishes["disk_class"] = _any_of(
            offers.words.kinds, Column.DISK_CLASS, order.disk_classes
        )
    if order.work:
        wishes["speed"] = Wish(SPEEDS[order.work], 1)  # it was measured
    return wishes | _of_parties(book, order) | _of_attributes(book, order, now_s=now_s)


def models_of(order: Order) -> list[str]:
    """List the GPU models that the order takes; none for any."""
    return [kind.model for kind in _kinds_of(order)] if order.gpu_count else []


def _kinds_of(order: Order) -> list[GpuKind]:
    return [parse_kind(text, field="order.gpu_models") for text in order.gpu_models]


def _any_of(words: Vocabulary, column: Column, wanted: Iterable[str]) -> Wish:
    return Wish(column, table=words.table(wanted))


def _none_of(words: Vocabulary, column: Column, unwanted: Iterable[str]) -> Wish:
    return Wish(column, table=~words.table(unwanted))


def _at_least(order: Order, fields: Mapping[str, Column]) -> Wishes:
    return {
        field: Wish(column, wanted)
        for field, column in fields.items()
        if (wanted := getattr(order, field))
    }


def _of_gpus(offers: OfferTable, order: Order) -> Wishes:
    wishes = _at_least(order, OF_GPU)
    if kinds := _kinds_of(order):
        wishes["gpu_model"] = _is_any_kind(offers, kinds)
    for field, column in (
        ("gpu_vendor", Column.GPU_VENDOR),
        ("gpu_interface", Column.GPU_INTERFACE),
    ):
        if wanted := getattr(order, field):
            wishes[field] = _any_of(offers.words.kinds, column, [wanted])
    if order.gpu_sharing:  # who takes a part takes the whole
        wishes["gpu_sharing"] = _any_of(
            offers.words.kinds, Column.GPU_SHARING, ["", order.gpu_sharing]
        )
    return wishes


def _is_any_kind(offers: OfferTable, kinds: list[GpuKind]) -> IsMet:
    if not any(kind.memory_bytes or kind.interface for kind in kinds):
        models = [kind.model for kind in kinds]
        return _any_of(offers.words.gpu_models, Column.GPU_MODEL, models)
    tests = [_is_kind(offers, kind) for kind in kinds]
    return lambda cells: np.any([is_met(cells) for is_met in tests], axis=0)


def _is_kind(offers: OfferTable, kind: GpuKind) -> IsMet:
    is_model = _any_of(offers.words.gpu_models, Column.GPU_MODEL, [kind.model])
    has_memory = Wish(Column.GPU_MEMORY_BYTES, kind.memory_bytes)
    if not kind.interface:
        return lambda cells: is_model(cells) & has_memory(cells)
    is_built_so = _any_of(offers.words.kinds, Column.GPU_INTERFACE, [kind.interface])
    return lambda cells: is_model(cells) & has_memory(cells) & is_built_so(cells)


def _of_place(offers: OfferTable, order: Order) -> Wishes:
    wishes: Wishes = {}
    if order.regions:
        wishes["region"] = _any_of(offers.words.regions, Column.REGION, order.regions)
    if order.jurisdictions:
        wishes["jurisdiction"] = _any_of(
            offers.words.jurisdictions, Column.JURISDICTION, order.jurisdictions
        )
    for text in order.latencies:
        place, _, ms_max = text.partition("=")
        wishes[f"latency {place}"] = _any_of(
            offers.words.latencies,
            Column.LATENCIES,
            [f"{place}={ms}" for ms in range(int(ms_max) + 1)],
        )
    return wishes


def _of_parties(book: Book, order: Order) -> Wishes:
    wishes: Wishes = {}
    offers = book.offers
    scope = book.delegations.get(order.delegation)
    if scope is not None and scope.providers:
        wishes["delegation"] = _any_of(
            offers.words.providers, Column.PROVIDER, scope.providers
        )
    if order.avoid:
        wishes["avoided"] = _none_of(
            offers.words.providers, Column.PROVIDER, order.avoid
        )
    if offers.words.refused.has(order.tenant):
        wishes["refused"] = _none_of(
            offers.words.refused, Column.REFUSES, [order.tenant]
        )
    return wishes


def _of_attributes(book: Book, order: Order, *, now_s: int) -> Wishes:
    """Ask the owner's own word, or where auditors are named theirs alone."""
    offers = book.offers
    if not order.auditors_any and not order.auditors_all:
        return {
            attribute: _any_of(offers.words.attributes, Column.ATTRIBUTES, [attribute])
            for attribute in order.attributes
        }
    wishes: Wishes = {}
    for attribute in order.attributes or ("",):  # "": whatever they say of it
        any_of = [
            _find_signed(book, auditor, attribute, now_s=now_s)
            for auditor in order.auditors_any
        ]
        numbers = [
            _find_signed(book, auditor, attribute, now_s=now_s)
            for auditor in order.auditors_all
        ]
        if any_of:
            numbers.append(set().union(*any_of))
        wishes[f"audited {attribute}".rstrip()] = _is_one_of(set.intersection(*numbers))
    return wishes


def _is_one_of(numbers: set[int]) -> IsMet:
    wanted = np.array(sorted(numbers), dtype=np.int64)
    return lambda cells: np.isin(cells[Column.NUMBER], wanted)


def _find_signed(
    book: Book, auditor: Address, attribute: str, *, now_s: int
) -> set[int]:
    """Give the numbers of the offers of which the auditor says this."""
    numbers: set[int] = set()
    for record in book.attestations.get(auditor, {}).values():
        is_said = attribute in record.attributes or (
            not attribute and bool(record.attributes)
        )
        if is_said and record.expires_at_s > now_s:
            machines = book.offers.machines.get(record.provider, {})
            rows = [
                row
                for machine, row in machines.items()
                if record.machine in ("", machine)
            ]
            numbers.update(book.offers.column(Column.NUMBER)[rows].tolist())
    return numbers
