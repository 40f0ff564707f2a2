"""Where readings of token prices come from: the port, and one round of asking.

A feed may be down, busy or lying; one that is costs its own readings and nobody else's.
Not here: which readings are believed (``core.pricing.reading``).
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec

from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.core.pricing.reading import Fault, Reading, Round


class FeedDown(Unavailable):
    """A price feed does not answer; the other feeds go on without it."""

    code = "feed_down"


class FeedBusy(Unavailable):
    """A price feed wants to be asked less often."""

    code = "feed_busy"


class FeedRefused(Refused):
    """A price feed does not know this key; look at its key_file in the settings."""

    code = "feed_refused"


class BadAnswer(PeerFault):
    """A price feed answered what is no price; the other feeds go on without it."""

    code = "bad_price"


class PriceFeed(Protocol):
    """One source of prices in US dollars."""

    @property
    def source(self) -> str:
        """Its name; no two feeds of a watch share one."""

    @property
    def tokens(self) -> Sequence[str]:
        """What it knows the prices of."""

    async def read(self, tokens: Sequence[str], *, at_s: int) -> Sequence[Reading]:
        """Read the prices of these tokens as of now; what it does not know is left out.

        Raises:
            FeedDown: no answer, or one that is no answer of its kind.
            FeedBusy: asked too often.
            FeedRefused: it wants a key, or another one.
            BadAnswer: an answer, but no price.
        """


def make_reading(
    *,
    source: str,
    token: str,
    price_e8: int,
    confidence_e8: int = 0,
    published_at_s: int,
    fresh_s: int,
) -> Reading:
    """Make a reading of a stranger's numbers.

    Raises:
        BadAnswer: a price, width or time that none can be.
    """
    reading = Reading(
        source=source,
        token=token,
        price_e8=price_e8,
        confidence_e8=confidence_e8,
        published_at_s=published_at_s,
        fresh_s=fresh_s,
    )
    try:
        return msgspec.convert(msgspec.to_builtins(reading), Reading)
    except (msgspec.ValidationError, OverflowError) as error:
        raise BadAnswer(
            f"{source} names a price or a time for {token} that cannot be: {error}",
            detail={"source": source, "token": token},
        ) from error


async def take_round(
    feeds: Sequence[PriceFeed], tokens: Sequence[str], *, at_s: int
) -> Round:
    """Ask all feeds at once for the tokens that they know."""
    asked = [(feed, [one for one in tokens if one in feed.tokens]) for feed in feeds]
    found = await asyncio.gather(
        *(_ask(feed, wanted, at_s) for feed, wanted in asked if wanted)
    )
    return Round(
        at_s=at_s,
        readings=tuple(reading for readings, _ in found for reading in readings),
        faults=tuple(fault for _, faults in found for fault in faults),
    )


async def _ask(
    feed: PriceFeed, tokens: Sequence[str], at_s: int
) -> tuple[Sequence[Reading], Sequence[Fault]]:
    try:
        readings = await feed.read(tokens, at_s=at_s)
    except (Unavailable, PeerFault, Refused) as fault:
        return (), [
            Fault(source=feed.source, token=token, why=fault.code) for token in tokens
        ]
    known = {reading.token for reading in readings}
    return readings, [
        Fault(source=feed.source, token=token, why="unknown_token")
        for token in tokens
        if token not in known
    ]
