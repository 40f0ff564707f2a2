"""Prices from Chainlink's contracts, by three view calls of an Ethereum node.

The first time, the contract is asked what it is: its decimals and its description, which
has to be the pair in the settings, so that a wrong address is told at once. On a rollup the
sequencer's uptime feed comes first: while it is down, and an hour after, prices are old.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import Struct

from sublet.core.pricing.reading import FRESH_S_MAX, Reading
from sublet.service.price_port import BadAnswer, FeedDown, make_reading

SOURCE = "chainlink"
LATEST_ROUND_DATA = bytes.fromhex("feaf968c")
DECIMALS = bytes.fromhex("313ce567")
DESCRIPTION = bytes.fromhex("7284e416")
LATE_S = 60  # that a feed may be later than its heartbeat
GRACE_S = 3_600  # after the sequencer is up again
_WORD = 32
_E8_PLACES = 8
_DECIMALS_MAX = 36
_DESCRIPTION_MAX = 64

# Calls a contract's view function: address and call data to what it returns. Raises
# Unavailable or PeerFault.
Call = Callable[[str, bytes], Awaitable[bytes]]


class Aggregator(Struct, frozen=True, kw_only=True):
    """Where a token's price is, and how often at least it is renewed."""

    address: str
    heartbeat_s: int
    pair: str  # as the contract describes itself, such as "RENDER / USD"


class RoundData(Struct, frozen=True, kw_only=True):
    """What ``latestRoundData`` returns."""

    round_id: int
    answer: int
    started_at_s: int
    updated_at_s: int
    answered_in_round: int


class ChainlinkFeed:
    """Aggregators on one chain, asked one by one."""

    def __init__(
        self,
        call: Call,
        *,
        aggregators: Mapping[str, Aggregator],
        sequencer: str = "",
    ) -> None:
        """Take the way to the chain, and each token's contract there.

        Args:
            call: an ``eth_call`` at the newest block.
            aggregators: by token.
            sequencer: the uptime feed of a rollup; "" for a chain without one.
        """
        self.source = SOURCE
        self.tokens = tuple(aggregators)
        self._call = call
        self._aggregators = dict(aggregators)
        self._sequencer = sequencer
        self._decimals: dict[str, int] = {}

    async def read(self, tokens: Sequence[str], *, at_s: int) -> Sequence[Reading]:
        """See ``PriceFeed``."""
        wanted = [token for token in tokens if token in self._aggregators]
        if wanted and self._sequencer:
            await self._check_sequencer(at_s)
        return [await self._read_one(token) for token in wanted]

    async def _check_sequencer(self, at_s: int) -> None:
        data = parse_round(await self._call(self._sequencer, LATEST_ROUND_DATA))
        # 0 says up, 1 says down; a round that never began says nothing.
        if data.answer != 0 or data.started_at_s == 0:
            raise FeedDown("chainlink: the rollup's sequencer is down")
        if at_s - data.started_at_s <= GRACE_S:
            raise FeedDown("chainlink: the rollup's sequencer has only just come back")

    async def _read_one(self, token: str) -> Reading:
        aggregator = self._aggregators[token]
        if token not in self._decimals:
            self._decimals[token] = await self._identify(aggregator)
        data = parse_round(await self._call(aggregator.address, LATEST_ROUND_DATA))
        if data.updated_at_s == 0 or data.answered_in_round < data.round_id:
            raise BadAnswer(f"chainlink has not finished its round for {token}")
        shift = _E8_PLACES - self._decimals[token]
        return make_reading(
            source=SOURCE,
            token=token,
            price_e8=data.answer * int(10**shift)
            if shift >= 0
            else data.answer // int(10**-shift),
            published_at_s=data.updated_at_s,
            fresh_s=min(aggregator.heartbeat_s + LATE_S, FRESH_S_MAX),
        )

    async def _identify(self, aggregator: Aggregator) -> int:
        """Give the decimals of a contract that is what the settings say."""
        said = parse_text(await self._call(aggregator.address, DESCRIPTION))
        if said.split() != aggregator.pair.split():
            raise BadAnswer(
                f"chainlink: {aggregator.address} is not {aggregator.pair}; look at the "
                "address in the settings"
            )
        decimals = parse_word(await self._call(aggregator.address, DECIMALS))
        if decimals > _DECIMALS_MAX:
            raise BadAnswer(f"chainlink: {aggregator.address} has too many decimals")
        return decimals


def parse_round(raw: bytes) -> RoundData:
    """Read the five words of ``latestRoundData``. Pure.

    Raises:
        BadAnswer: they are not five; an address without a contract returns none.
    """
    if len(raw) != 5 * _WORD:
        raise BadAnswer("chainlink: there is no price feed at an address")
    words = [raw[start : start + _WORD] for start in range(0, len(raw), _WORD)]
    return RoundData(
        round_id=int.from_bytes(words[0]),
        answer=int.from_bytes(words[1], signed=True),
        started_at_s=int.from_bytes(words[2]),
        updated_at_s=int.from_bytes(words[3]),
        answered_in_round=int.from_bytes(words[4]),
    )


def parse_word(raw: bytes) -> int:
    """Read one word as a number without a sign. Pure.

    Raises:
        BadAnswer: it is not one word.
    """
    if len(raw) != _WORD:
        raise BadAnswer("chainlink: there is no price feed at an address")
    return int.from_bytes(raw)


def parse_text(raw: bytes) -> str:
    """Read a string as a contract returns one: offset, length, bytes. Pure.

    Raises:
        BadAnswer: it is none, or longer than a description.
    """
    size = int.from_bytes(raw[_WORD : 2 * _WORD])
    text = raw[2 * _WORD : 2 * _WORD + min(size, _DESCRIPTION_MAX)]
    if int.from_bytes(raw[:_WORD]) != _WORD or not 0 < size == len(text):
        raise BadAnswer("chainlink: a contract does not say what it is")
    return text.decode("ascii", "replace")
