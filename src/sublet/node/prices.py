"""What machines are offered for and were let for, for whoever asks."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from aiohttp import web
from msgspec.structs import asdict

from sublet.base.errors import Refused
from sublet.base.limits import PRICE_PAGE_MAX, TAPE_HOURS_MAX, TEXT_LENGTH_MAX
from sublet.core.book.prices import is_within, list_prices
from sublet.core.tape.tape import HOUR_S, Kind, list_hours
from sublet.node.answer import answer_json
from sublet.node.intake import read_count
from sublet.node.lookout import FRESH_MS
from sublet.node.state import Node
from sublet.wire.message import Message
from sublet.wire.prices import (
    DepthOf,
    DepthRow,
    HistoryOf,
    HourRow,
    PriceDepth,
    PriceHistory,
    PriceRow,
    Prices,
)

T = TypeVar("T")


async def get_prices(node: Node, request: web.Request) -> web.StreamResponse:
    """Tell what each kind of machine is offered for, and was let for lately."""
    seen = await node.lookout.survey()
    rows = list_prices(seen.depth, seen.series, now_s=seen.at_s)
    page, total = _cut(request, rows, lambda row: (row.model, row.region))
    return _answer(
        Prices(
            at_s=seen.at_s,
            size=seen.size,
            total=total,
            rows=tuple(PriceRow(**asdict(row)) for row in page),
        )
    )


async def get_depth(node: Node, request: web.Request) -> web.StreamResponse:
    """Tell how much is offered at which price."""
    levels_max = read_count(request, "levels", default=PRICE_PAGE_MAX)
    seen = await node.lookout.survey()
    page, total = _cut(request, seen.depth.items(), lambda item: item[0])
    return _answer(
        PriceDepth(
            at_s=seen.at_s,
            size=seen.size,
            total=total,
            kinds=tuple(
                DepthOf(
                    model=model,
                    region=region,
                    levels=len(asks),
                    rows=tuple(
                        DepthRow(**asdict(ask))
                        for ask in asks[: min(levels_max, PRICE_PAGE_MAX)]
                    ),
                )
                for (model, region), asks in page
            ),
        )
    )


async def get_history(node: Node, request: web.Request) -> web.StreamResponse:
    """Tell what was paid, hour by hour."""
    hours_max = read_count(request, "hours", default=TAPE_HOURS_MAX)
    book = node.market.book
    oldest = book.now_s // HOUR_S - hours_max
    page, total = _cut(request, sorted(book.tape.series.items()), lambda item: item[0])
    return _answer(
        PriceHistory(
            at_s=book.now_s,
            size=book.size,
            total=total,
            kinds=tuple(
                HistoryOf(
                    model=series.model,
                    region=series.region,
                    rows=tuple(
                        HourRow(
                            from_s=hour.hour * HOUR_S,
                            deals=hour.deals,
                            units_milli=hour.units_milli,
                            p10=hour.p10,
                            median=hour.median,
                            p90=hour.p90,
                            last=hour.last,
                        )
                        for hour in list_hours(series, now_s=book.now_s)
                        if hour.hour > oldest
                    ),
                )
                for _, series in page
            ),
        )
    )


def _cut(
    request: web.Request, items: Iterable[T], find_kind: Callable[[T], Kind]
) -> tuple[list[T], int]:
    """Give the page of those that were asked for, and how many there are in all."""
    model, region = _read_text(request, "model"), _read_text(request, "region")
    wanted = [item for item in items if _is_wanted(find_kind(item), model, region)]
    first = read_count(request, "first", default=0)
    limit = read_count(request, "limit", default=PRICE_PAGE_MAX)
    return wanted[first : first + min(limit, PRICE_PAGE_MAX)], len(wanted)


def _is_wanted(kind: Kind, model: str | None, region: str | None) -> bool:
    if model is not None and kind[0] != model:
        return False
    return region is None or is_within(kind[1], wanted=region)


def _read_text(request: web.Request, name: str) -> str | None:
    text = request.query.get(name)
    if text is not None and len(text) > TEXT_LENGTH_MAX:
        raise Refused(
            f"?{name}= has more than {TEXT_LENGTH_MAX} characters; no offer has that",
            code="bad_query",
            field=name,
        )
    return text


def _answer(value: Message) -> web.Response:
    response = answer_json(value)
    response.headers["Cache-Control"] = f"public, max-age={FRESH_MS // 1_000}"
    return response
