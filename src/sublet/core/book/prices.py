"""What machines are offered for now and were let for: a reader of the book.

All offers are looked at, and so in two steps: ``take_stock`` copies columns while the
book stands still, which is quick; ``survey`` counts in the copy, wherever and whenever.
Prices are micro-USD an hour; a **unit** is one GPU or, for the model "", one CPU.

Not here: how deals come onto the tape (``core.tape``), what an order gets (``quote``).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sublet.core.book.book import Book
from sublet.core.book.column import Column
from sublet.core.tape.quantile import find_percentiles
from sublet.core.tape.tape import ANYWHERE, Kind, Series

DAY_S = 86_400
SCORES = {"cpu_score": Column.CPU_SCORE, "gpu_score": Column.GPU_SCORE}

_READ = (
    *(Column.EXPIRES_AT_S, Column.IS_UP, Column.GPU_MODEL, Column.REGION),
    *(Column.CPUS_MILLI_FREE, Column.GPUS_FREE, Column.LEASES_FREE),
    *(Column.GPU_SHARE_MILLI, Column.CPU_SCORE, Column.GPU_SCORE),
    *(Column.ASK, Column.UNITS_MILLI),
)
Line = NDArray[np.int64]  # shape (n_offers,)


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


class Stock(NamedTuple):
    """What a survey reads of a book, as it was at one moment."""

    at_s: int
    size: int  # of the log
    columns: Mapping[Column, Line]  # of the offers that match if they fit
    models: tuple[str, ...]  # by their numbers in the columns
    regions: tuple[str, ...]
    series: Mapping[Kind, Series]


class Survey(Struct, frozen=True):
    """One look at all offers."""

    at_s: int
    size: int  # of the log
    depth: "Depth"
    scores: Mapping[tuple[str, str], int]  # median by (GPU model, name of the score)
    series: Mapping[Kind, Series]


Depth = Mapping[Kind, tuple[Ask, ...]]  # kinds with most first; rising prices


def is_within(region: str, *, wanted: str) -> bool:
    """Say whether a region is the wanted one or a part of it, as orders have it."""
    return region == wanted or region.partition("-")[0] == wanted


def take_stock(book: Book) -> Stock:
    """Copy what a survey reads, of the offers that match if they fit.

    Quick: a few columns. Afterwards the book may change.
    """
    offers = book.offers
    columns = {name: offers.column(name) for name in _READ}
    is_offered = (columns[Column.EXPIRES_AT_S] > book.now_s) & (
        columns[Column.IS_UP] > 0
    )
    return Stock(
        at_s=book.now_s,
        size=book.size,
        columns={name: column[is_offered] for name, column in columns.items()},
        models=tuple(map(str, offers.words.gpu_models.values())),
        regions=tuple(map(str, offers.words.regions.values())),
        series=book.tape.copy().series,
    )


def survey(stock: Stock) -> Survey:
    """Look at all offers once: how much at which price, and how fast. Pure."""
    return Survey(
        at_s=stock.at_s,
        size=stock.size,
        depth=sort_asks(stock),
        scores=_find_medians(stock),
        series=stock.series,
    )


def sort_asks(stock: Stock) -> Depth:
    """Say how much is offered at which price, per kind of machine. Pure.

    Each kind stands there twice: with its region, and with ANYWHERE.
    """
    columns, regions = stock.columns, (*stock.regions, ANYWHERE)
    anywhere = regions.index(ANYWHERE)
    named = np.flatnonzero(columns[Column.REGION] != anywhere)
    rows = np.concatenate([named, np.arange(columns[Column.REGION].size)])
    places = np.full(rows.size, anywhere, dtype=np.int64)
    places[: named.size] = columns[Column.REGION][named]
    keys = (columns[Column.GPU_MODEL][rows], places, columns[Column.ASK][rows])
    order = np.lexsort(keys[::-1])
    in_order = [key[order] for key in keys]
    firsts = _find_firsts(*in_order)
    counts = np.diff(firsts, append=rows.size)
    units = _sum_from(columns[Column.UNITS_MILLI][rows[order]], firsts)
    free = _sum_from(_find_free(stock)[rows[order]], firsts)
    lines = (part.tolist() for part in (*(key[firsts] for key in in_order), counts))
    levels: dict[Kind, list[Ask]] = {}
    for model, place, price, *sums in zip(
        *lines, units.tolist(), free.tolist(), strict=True
    ):
        kind = (stock.models[model], regions[place])
        levels.setdefault(kind, []).append(Ask(price, *sums))
    most_first = sorted(
        levels, key=lambda kind: (-sum(ask.units_milli for ask in levels[kind]), kind)
    )
    return {kind: tuple(levels[kind]) for kind in most_first}


def _find_free(stock: Stock) -> Line:
    """Give the units of each row that no lease uses, of machines that take one."""
    columns = stock.columns
    has_gpus = np.array([bool(model) for model in stock.models] or [False])
    free = np.where(
        has_gpus[columns[Column.GPU_MODEL]],
        columns[Column.GPUS_FREE] * columns[Column.GPU_SHARE_MILLI],
        np.maximum(columns[Column.CPUS_MILLI_FREE], 0),
    )
    free[columns[Column.LEASES_FREE] < 1] = 0
    return free


def _find_medians(stock: Stock) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for name, column in SCORES.items():
        is_measured = stock.columns[column] > 0
        scores = stock.columns[column][is_measured]
        models = stock.columns[Column.GPU_MODEL][is_measured]
        order = np.lexsort((scores, models))
        firsts = _find_firsts(models[order])
        middles = firsts + (np.diff(firsts, append=scores.size) + 1) // 2 - 1
        medians = zip(models[order][firsts], scores[order][middles], strict=True)
        found |= {(stock.models[model], name): int(score) for model, score in medians}
    return found


def _find_firsts(*keys: Line) -> NDArray[np.intp]:
    """Give where another key begins, of rows in the order of their keys."""
    is_first = np.ones(keys[0].size, dtype=np.bool_)
    is_first[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return np.flatnonzero(is_first)


def _sum_from(line: Line, firsts: NDArray[np.intp]) -> Line:
    # reduceat has no word for nothing.
    return np.add.reduceat(line, firsts) if firsts.size else line[:0]


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
