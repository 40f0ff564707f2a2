"""Prices from CoinGecko's ``simple/price``.

Prices are JSON numbers with a point; they are read as decimals, digit by digit, and never
become floats. Errors come in three shapes, sometimes with status 200.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import aiohttp
import msgspec

from sublet.adapter.feed_http import FeedKey, fetch
from sublet.core.pricing.reading import E8, Reading
from sublet.service.price_port import BadAnswer, FeedBusy, FeedDown, make_reading

SOURCE = "coingecko"
FRESH_S = 300
_BUSY = 429  # comes as an error_code within an answer, too
# Beyond these a Decimal is no price, and as an integer it would fill the memory.
_DIGITS_MAX, _EXPONENT_MIN, _EXPONENT_MAX = 60, -60, 12
_ANSWER = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


class CoinGeckoFeed:
    """CoinGecko, asked for all tokens at once."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        url: str,
        ids: Mapping[str, str],
        key: FeedKey | None = None,
    ) -> None:
        """Take the address, and each token's id there, such as ``render-token``."""
        self.source = SOURCE
        self.tokens = tuple(ids)
        self._http = http
        self._url = f"{url}/simple/price"
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
            params=(
                ("ids", ",".join(wanted)),
                ("vs_currencies", "usd"),
                ("include_last_updated_at", "true"),
            ),
            headers={"x-cg-demo-api-key": self._key.reveal()} if self._key else {},
        )
        return parse_answer(body, wanted)


def parse_answer(body: bytes, wanted: Mapping[str, str]) -> list[Reading]:
    """Read the answer; ``wanted`` names the token of each id. Pure.

    Raises:
        BadAnswer: not of this shape, no number, or of an id that nobody asked for.
        FeedBusy, FeedDown: it is an error, in any of its three shapes.
    """
    try:
        answer = _ANSWER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer("coingecko answered what is no list of prices") from error
    _check_is_no_error(answer)
    if set(answer) - set(wanted):
        raise BadAnswer("coingecko answered for ids that nobody asked for")
    return [_read_one(wanted[id_], row) for id_, row in answer.items()]


def _check_is_no_error(answer: Mapping[str, Any]) -> None:
    """Tell ``{"error": TEXT}``, ``{"error": {"status": …}}`` and ``{"status": …}``."""
    told = answer.get("error", answer)
    status = told.get("status") if isinstance(told, dict) else None
    if told is answer and status is None:
        return
    code = status.get("error_code") if isinstance(status, dict) else None
    if code == _BUSY:
        raise FeedBusy("coingecko is asked too often")
    known = f" {code}" if type(code) is int else ""
    raise FeedDown(f"coingecko answered with an error{known} instead of prices")


def _read_one(token: str, row: object) -> Reading:
    """Read ``{"usd": NUMBER, "last_updated_at": SECONDS}``."""
    price = row.get("usd") if isinstance(row, dict) else None
    at_s = row.get("last_updated_at") if isinstance(row, dict) else None
    is_number = isinstance(price, int | Decimal) and not isinstance(price, bool)
    if not is_number or type(at_s) is not int:
        raise BadAnswer(f"coingecko names no price of {token}, or not when it was one")
    return make_reading(
        source=SOURCE,
        token=token,
        price_e8=_scale(Decimal(price or 0)),
        published_at_s=at_s,
        fresh_s=FRESH_S,
    )


def _scale(price: Decimal) -> int:
    """Write a price in units of 10^-8, rounded down.

    >>> _scale(Decimal("2672.57")), _scale(Decimal("1.5E-7")), _scale(Decimal("-1"))
    (267257000000, 15, -100000000)
    """
    sign, digits, exponent = price.as_tuple()
    if (
        not isinstance(exponent, int)
        or len(digits) > _DIGITS_MAX
        or not _EXPONENT_MIN <= exponent <= _EXPONENT_MAX
    ):
        raise BadAnswer("coingecko names a price that is no number of a likely size")
    number = int("".join(map(str, digits))) * (-1 if sign else 1)
    if exponent >= 0:
        return number * E8 * int(10**exponent)
    return number * E8 // int(10**-exponent)
