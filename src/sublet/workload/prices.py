"""A market's prices as a tenant or an owner asks for them: all pages, one answer."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from sublet.core.gpu_model import NO_GPU, normalize_model
from sublet.sdk.exchange import ask_prices
from sublet.wire.prices import PriceDepth, PriceHistory, Prices
from sublet.workload.client import AsyncClient

PAGES_MAX = 10  # that are fetched: a market may name more kinds than anyone reads

VIEWS: Mapping[str, Any] = {
    "prices": Prices,
    "depth": PriceDepth,
    "history": PriceHistory,
}


async def fetch_prices(
    client: AsyncClient,
    view: str = "prices",
    *,
    model: str | None = None,
    region: str | None = None,
) -> Any:
    """Ask what machines are offered for and were let for.

    Args:
        client: entered.
        view: "prices", "depth" or "history".
        model: a GPU as people write it, "cpu" for machines without; None for all.
        region: "US" takes "US-CA" along; "*" for all together; None for each.

    Returns:
        ``Prices``, ``PriceDepth`` or ``PriceHistory``, the pages put together.

    Raises:
        Unavailable: the market does not answer.
    """
    wanted = None if model is None else normalize_model(model)
    if model == NO_GPU:
        wanted = ""
    await client.pin()
    listed = "rows" if view == "prices" else "kinds"
    found: Any = None
    for _ in range(PAGES_MAX):
        got = 0 if found is None else len(getattr(found, listed))
        call = ask_prices(VIEWS[view], model=wanted, region=region, first=got)
        page = await client.connection.ask(call)
        rows = getattr(page, listed)
        if found is not None:
            page = replace(page, **{listed: (*getattr(found, listed), *rows)})
        found = page
        if not rows or len(getattr(found, listed)) >= found.total:
            break
    return found
