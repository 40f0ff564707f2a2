"""Prices from Pyth, by the REST interface of Hermes.

``GET {url}/v2/updates/price/latest?ids[]=HEX&parsed=true``. Prices are decimal strings with
an exponent of each feed's own; a key is needed. The signed binary beside them is for
contracts, and is not asked for.
"""

import re
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec
from msgspec import Struct

from sublet.adapter.feed_http import FeedKey, fetch
from sublet.core.pricing.reading import Reading
from sublet.service.price_port import BadAnswer, make_reading

SOURCE = "pyth"
FRESH_S = 60
_DIGITS = re.compile(r"\A-?[0-9]{1,30}\Z", re.ASCII)
_E8_PLACES = 8
_EXPONENT_MIN, _EXPONENT_MAX = -18, 12


class _Price(Struct):
    price: str
    conf: str
    expo: int
    publish_time: int


class _Feed(Struct):
    id: str
    price: _Price


class _Answer(Struct):
    parsed: list[_Feed]


class PythFeed:
    """Hermes, asked for all tokens at once."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        url: str,
        ids: Mapping[str, str],
        key: FeedKey | None = None,
    ) -> None:
        """Take the address, and each token's feed: 64 hexadecimal digits without 0x."""
        self.source = SOURCE
        self.tokens = tuple(ids)
        self._http = http
        self._url = f"{url}/v2/updates/price/latest"
        self._ids = dict(ids)
        self._key = key

    async def read(self, tokens: Sequence[str], *, at_s: int) -> Sequence[Reading]:
        """See ``PriceFeed``."""
        wanted = {self._ids[token]: token for token in tokens if token in self._ids}
        if not wanted:
            return ()
        body = await fetch(
            self._http,
            self._url,
            source=SOURCE,
            params=(*(("ids[]", one) for one in wanted), ("parsed", "true")),
            headers={"Authorization": f"Bearer {self._key.reveal()}"}
            if self._key
            else {},
        )
        return parse_answer(body, wanted)


def parse_answer(body: bytes, wanted: Mapping[str, str]) -> list[Reading]:
    """Read the answer; ``wanted`` names the token of each feed's id. Pure.

    Raises:
        BadAnswer: not of this shape, no number, or of a feed that nobody asked for.
    """
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer("pyth answered what is no price update") from error
    if {feed.id for feed in answer.parsed} - set(wanted) or len(answer.parsed) > len(
        wanted
    ):
        raise BadAnswer("pyth answered for feeds that nobody asked for, or twice")
    return [
        make_reading(
            source=SOURCE,
            token=wanted[feed.id],
            price_e8=_scale(feed.price.price, feed.price.expo),
            # A width is rounded up: a source is never surer than it says.
            confidence_e8=-_scale(f"-{feed.price.conf}", feed.price.expo),
            published_at_s=feed.price.publish_time,
            fresh_s=FRESH_S,
        )
        for feed in answer.parsed
    ]


def _scale(digits: str, exponent: int) -> int:
    """Write ``digits`` times 10^exponent in units of 10^-8, rounded down.

    >>> _scale("183487211", -8), _scale("36712345", -5), _scale("-15", -9)
    (183487211, 36712345000, -2)
    """
    if not (_DIGITS.match(digits) and _EXPONENT_MIN <= exponent <= _EXPONENT_MAX):
        raise BadAnswer("pyth names a price that is no number of a likely size")
    shift = exponent + _E8_PLACES
    number = int(digits)
    return number * int(10**shift) if shift >= 0 else number // int(10**-shift)
