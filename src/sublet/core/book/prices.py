"""What machines are offered for now and were let for: a reader of the book.

Asked is the price of a whole machine, divided by its GPUs (by its CPUs where it has
none), rounded up: what one of them costs with its share of the machine. Prices are
micro-USD an hour; a **unit** is one GPU or, for the model "", one CPU.

Not here: how deals come onto the tape (``core.tape``), what an order gets (``quote``).
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from sublet.base.ids import Address
from sublet.core.book.book import Book
from sublet.core.book.record import OfferRecord
from sublet.core.document import Offer
from sublet.core.tape.quantile import find_percentiles
from sublet.core.tape.tape import ANYWHERE, Kind, Series

DAY_S = 86_400
SCORES = ("cpu_score", "gpu_score")
_GIB_BITS = 30


class Ask(Struct, frozen=True):
    """All machines of one kind that are asked the same for."""

    price: int
    machines: int
    units_milli: int  # thousandths of a GPU or CPU
    units_milli_free: int  # that no lease uses, of machines that take one


class KindPrices(Struct, frozen=True):
    """One kind of machine: what is asked now, what was paid in the last 24 hours.

    A price that nobody asked or paid is -1. The percentiles count each machine, and
    each deal, by its units.
    """

    model: str
    region: str  # ANYWHERE: of all regions
    machines: int
    units_milli: int
    units_milli_free: int
    ask: int  # the lowest of what is free
    ask_p10: int
    ask_median: int
    ask_p90: int
    last: int
    last_at_s: int  # 0: never, as far as the tape remembers
    deals: int  # of the 24 hours, as far as the tape keeps them one by one
    p10: int
    median: int
    p90: int


class Survey(Struct, frozen=True):
    """One look at all offers."""

    depth: "Depth"
    scores: Mapping[tuple[str, str], int]  # median by (GPU model, name of the score)


Depth = Mapping[Kind, tuple[Ask, ...]]  # kinds with most first; rising prices


def is_within(region: str, *, wanted: str) -> bool:
    """Say whether a region is the wanted one or a part of it, as orders have it."""
    return region == wanted or region.partition("-")[0] == wanted


def find_ask(offer: Offer) -> tuple[int, int]:
    """Give what one unit of the machine is asked for, and its units in thousandths."""
    units_milli = len(offer.gpu_uuids) * offer.gpu_share_milli or offer.cpus_milli
    whole = -(-offer.cpus_milli * offer.cpu_price_hour // 1_000)
    whole += -(-offer.memory_bytes * offer.memory_price_hour >> _GIB_BITS)
    whole += len(offer.gpu_uuids) * offer.gpu_price_hour
    return -(-whole * 1_000 // units_milli), units_milli


def list_offered(book: Book) -> tuple[OfferRecord, ...]:
    """List the offers that match if they fit: they stand, and their provider is up."""
    is_up: dict[Address, bool] = {}
    offered = []
    for record in book.offers.standing(book.now_s):
        if record.provider not in is_up:
            is_up[record.provider] = book.may_match(record.provider)
        if is_up[record.provider] and record.is_live(book.now_s):
            offered.append(record)
    return tuple(offered)


def survey(book: Book) -> Survey:
    """Look at all offers once: how much at which price, and how fast."""
    offered = list_offered(book)
    scores: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for record in offered:
        for name in SCORES:
            score = getattr(record.offer, name)
            if score:  # measured
                key = (record.offer.gpu_model, name)
                scores.setdefault(key, []).append((score, 1))
    medians = {
        key: find_percentiles(those, percents=[50])[0] for key, those in scores.items()
    }
    return Survey(sort_asks(offered), medians)


def sort_asks(offered: Iterable[OfferRecord]) -> Depth:
    """Say how much is offered at which price, per kind of machine. Pure.

    Each kind stands there twice: with its region, and with ANYWHERE.
    """
    levels: dict[Kind, dict[int, list[int]]] = {}
    for record in offered:
        offer = record.offer
        price, units_milli = find_ask(offer)
        free_milli = max(0, offer.cpus_milli - record.cpus_milli_used)
        if offer.gpu_uuids:
            free_milli = len(record.gpus_free()) * offer.gpu_share_milli
        if record.leases_free() < 1:
            free_milli = 0
        for region in dict.fromkeys((offer.region, ANYWHERE)):
            level = levels.setdefault((offer.gpu_model, region), {})
            counts = level.setdefault(price, [0, 0, 0])
            counts[0] += 1
            counts[1] += units_milli
            counts[2] += free_milli
    most_first = sorted(
        levels,
        key=lambda kind: (-sum(counts[1] for counts in levels[kind].values()), kind),
    )
    return {
        kind: tuple(Ask(price, *levels[kind][price]) for price in sorted(levels[kind]))
        for kind in most_first
    }


def list_prices(
    depth: Depth, series: Mapping[Kind, Series], *, now_s: int
) -> tuple[KindPrices, ...]:
    """Sum up each kind of machine that is offered or on the tape.

    Those with the most deals come first, then those of which most is offered, so that
    made-up kinds do not bury the others.
    """
    rows = (
        _sum_up(kind, depth.get(kind, ()), series.get(kind), now_s=now_s)
        for kind in sorted({*depth, *series})
    )
    return tuple(sorted(rows, key=lambda row: (-row.deals, -row.units_milli)))


def _sum_up(
    kind: Kind, asks: tuple[Ask, ...], series: Series | None, *, now_s: int
) -> KindPrices:
    recent = () if series is None else series.recent
    day = [deal for deal in recent if deal.at_s > now_s - DAY_S]
    p10, median, p90 = find_percentiles((deal.price, deal.units_milli) for deal in day)
    ask_p10, ask_median, ask_p90 = find_percentiles(
        (ask.price, ask.units_milli) for ask in asks
    )
    return KindPrices(
        model=kind[0],
        region=kind[1],
        machines=sum(ask.machines for ask in asks),
        units_milli=sum(ask.units_milli for ask in asks),
        units_milli_free=sum(ask.units_milli_free for ask in asks),
        ask=next((ask.price for ask in asks if ask.units_milli_free), -1),
        ask_p10=ask_p10,
        ask_median=ask_median,
        ask_p90=ask_p90,
        last=-1 if series is None else series.last.price,
        last_at_s=0 if series is None else series.last.at_s,
        deals=len(day),
        p10=p10,
        median=median,
        p90=p90,
    )
