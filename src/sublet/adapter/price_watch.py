"""From a file of settings to what is known of the tokens' prices now.

Not here: what the file says (``price_settings``), when a price may be used
(``core.pricing.oracle``).
"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.price_history import PriceHistory, read_rounds
from sublet.adapter.price_settings import (
    PriceSettings,
    compose_feeds,
    read_price_settings,
)
from sublet.base.errors import Refused
from sublet.base.ids import Address
from sublet.core.pricing import oracle
from sublet.core.pricing.exchange import check_peg
from sublet.core.pricing.oracle import Watch
from sublet.core.pricing.reading import Round
from sublet.core.rail.transaction import Call
from sublet.service.price_port import PriceFeed, take_round

SETTINGS_FILE = "prices.toml"  # of a home
HISTORY_FILE = "prices.jsonl"


@asynccontextmanager
async def open_feeds(settings: PriceSettings) -> AsyncIterator[Sequence[PriceFeed]]:
    """Open the feeds that the settings speak of, and close their connections."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        call = None
        chainlink = settings.file.chainlink
        if chainlink and not settings.recorded:
            chain = RpcChain([chainlink.rpc], chain_id=chainlink.chain_id)
            await stack.enter_async_context(chain)

            async def call(to: str, data: bytes) -> bytes:
                return await chain.call(Call(to=Address(to), data=data))

        yield compose_feeds(settings, http, call=call)


async def gather_rounds(
    settings: PriceSettings,
    history: PriceHistory,
    feeds: Sequence[PriceFeed],
    *,
    until_s: int | None = None,
) -> tuple[Round, ...]:
    """Ask once, keep it, and give all that is known; of a recording, all of it.

    Args:
        settings: what is asked for.
        history: where what is said is kept.
        feeds: as ``open_feeds`` gives them.
        until_s: of a recording nothing that was said later.

    Raises:
        Refused: ``bad_price_history``: there is none, or it cannot be read.
    """
    tokens = list(settings.file.tokens)
    if settings.recorded is None:
        history.append(await take_round(feeds, tokens, at_s=int(time.time())))
        return history.read()
    times_s = [
        taken.at_s
        for taken in read_rounds(settings.recorded)
        if until_s is None or taken.at_s <= until_s
    ]
    if not times_s:
        raise Refused(
            f"{settings.recorded} holds no round of any use here; record one",
            code="bad_price_history",
        )
    return tuple([await take_round(feeds, tokens, at_s=x) for x in times_s])


def fold_rounds(settings: PriceSettings, rounds: Sequence[Round]) -> dict[str, Watch]:
    """Judge each token by all that its sources said."""
    watches = {}
    for name, token in settings.file.tokens.items():
        watch = Watch(token=name, is_dollar=token.dollar)
        for taken in rounds:
            watch = oracle.take_round(watch, taken)
        watches[name] = watch
    return watches


def find_dollar(
    settings: PriceSettings, watches: Mapping[str, Watch], token: Address
) -> Watch | None:
    """Give the watch of a market's dollar token; None where nobody watches it.

    It is the one whose ``address`` is the market's, or else the only dollar without one.
    """
    dollars = {name: one for name, one in settings.file.tokens.items() if one.dollar}
    for name, one in dollars.items():
        if one.address.lower() == token:
            return watches[name]
    unnamed = [name for name, one in dollars.items() if not one.address]
    return watches[unnamed[0]] if len(unnamed) == 1 else None


class Watched:
    """What is known of a file's tokens at one moment."""

    def __init__(
        self, settings: PriceSettings, watches: Mapping[str, Watch], at_s: int
    ) -> None:
        """Take what was seen."""
        self.settings = settings
        self.watches = watches
        self.at_s = at_s

    def find_dollar(self, token: Address) -> Watch | None:
        """As the function says."""
        return find_dollar(self.settings, self.watches, token)


async def watch_now(home: Path, file: Path | None = None) -> Watched | None:
    """Ask the sources of a home once; None where it names none.

    Args:
        home: whose ``prices.toml`` counts, and where the history is kept.
        file: another file instead; then it has to be there.

    Raises:
        Refused: ``bad_price_settings`` or ``bad_price_history``.
    """
    place = file or home / SETTINGS_FILE
    if file is None and not place.exists():
        return None
    settings = read_price_settings(place)
    history = PriceHistory(home / HISTORY_FILE)
    now_s = int(time.time())
    async with open_feeds(settings) as feeds:
        rounds = await gather_rounds(settings, history, feeds, until_s=now_s)
    return Watched(settings, fold_rounds(settings, rounds), now_s)


async def check_dollar(home: Path, token: Address) -> None:
    """Where a home has sources of prices, check that a market's token is a dollar.

    Raises:
        Unavailable: ``off_peg``: its guard says halt.
        Refused: the settings cannot be read.
    """
    seen = await watch_now(home)
    dollar = seen and seen.find_dollar(token)
    if dollar:
        check_peg(dollar)
