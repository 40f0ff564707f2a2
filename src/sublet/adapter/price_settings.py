"""What ``prices.toml`` says: which tokens, at which sources, and the feeds that come of it.

Not here: when a price may be used (``core.pricing.oracle``).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import aiohttp
import msgspec
from msgspec import Meta, Struct

from sublet.adapter.feed_chainlink import Aggregator, Call, ChainlinkFeed
from sublet.adapter.feed_coingecko import CoinGeckoFeed
from sublet.adapter.feed_http import FeedKey, check_url, read_key
from sublet.adapter.feed_pyth import PythFeed
from sublet.adapter.feed_recorded import RecordedFeed
from sublet.adapter.price_history import read_rounds
from sublet.base.errors import Faults, Refused, SubletError
from sublet.base.toml import BadToml, parse_toml
from sublet.base.units import parse_duration
from sublet.core.pricing.conversion import DECIMALS_MAX
from sublet.core.pricing.reading import FRESH_S_MAX
from sublet.service.price_port import PriceFeed

FILE_BYTES_MAX = 262_144
EVERY_S_MIN, EVERY_S_MAX = 5, 300  # a longer silence would be a gap in the average
_ADDRESS = Meta(pattern=r"\A0x[0-9a-fA-F]{40}\Z")
_Text = Annotated[str, Meta(max_length=1_024)]
_Symbol = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9.]{1,16}\Z")]


class AggregatorFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[tokens.NAME.chainlink]``: the contract with a token's price."""

    address: Annotated[str, _ADDRESS]
    pair: Annotated[str, Meta(min_length=1, max_length=64)]
    heartbeat: str


class TokenFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[tokens.NAME]``: one token."""

    decimals: Annotated[int, Meta(ge=0, le=DECIMALS_MAX)]
    dollar: bool = False
    address: Annotated[str, Meta(pattern=r"\A(0x[0-9a-fA-F]{40})?\Z")] = ""  # of it
    pyth: Annotated[str, Meta(pattern=r"\A([0-9a-f]{64})?\Z")] = ""
    coingecko: Annotated[str, Meta(pattern=r"\A[a-z0-9_-]{0,64}\Z")] = ""
    chainlink: AggregatorFile | None = None


class RestFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[pyth]`` and ``[coingecko]``: an interface over HTTP."""

    url: _Text
    key_file: _Text = ""


class ChainlinkFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[chainlink]``: the chain that the contracts are on."""

    rpc: _Text
    chain_id: Annotated[int, Meta(ge=1)]
    sequencer: Annotated[str, Meta(pattern=r"\A(0x[0-9a-fA-F]{40})?\Z")] = ""


class PricesFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    every: str = "1m"
    recorded: _Text = ""
    tokens: Annotated[dict[_Symbol, TokenFile], Meta(min_length=1, max_length=32)]
    pyth: RestFile | None = None
    coingecko: RestFile | None = None
    chainlink: ChainlinkFile | None = None


class PriceSettings(Struct, frozen=True, kw_only=True):
    """What the file says, checked; keys are read, and shown to nobody."""

    file: PricesFile
    every_s: int
    recorded: Path | None
    heartbeats_s: dict[str, int]
    keys: dict[str, FeedKey]


def read_price_settings(path: Path) -> PriceSettings:
    """Read the file, and the keys that it names. All faults come together.

    Raises:
        Refused: ``bad_price_settings``: no such file, or not of this shape.
        Faults: several things are wrong with it.
    """
    try:
        with path.expanduser().open("rb") as stream:
            text = stream.read(FILE_BYTES_MAX + 1).decode()
        file = msgspec.convert(parse_toml(text), PricesFile)
    except (OSError, UnicodeDecodeError, BadToml, msgspec.ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Refused(
            f"{path}: {why}; examples/prices/feeds.toml shows how it is written",
            code="bad_price_settings",
        ) from error
    faults: list[SubletError] = []
    keys: dict[str, FeedKey] = {}
    for name, rest in (("pyth", file.pyth), ("coingecko", file.coingecko)):
        try:
            if rest:
                check_url(rest.url, field=f"{name}.url")
            if rest and rest.key_file:
                keys[name] = read_key(path.parent / Path(rest.key_file).expanduser())
        except Refused as fault:
            faults.append(fault)
    heartbeats_s = {}
    for name, token in file.tokens.items():
        faults += _check_token(name, token, file)
        if token.chainlink:
            heartbeats_s[name] = _read_span(
                token.chainlink.heartbeat,
                f"tokens.{name}.chainlink.heartbeat",
                (1, FRESH_S_MAX),
                faults,
            )
    settings = PriceSettings(
        file=file,
        every_s=_read_span(file.every, "every", (EVERY_S_MIN, EVERY_S_MAX), faults),
        recorded=path.parent / file.recorded if file.recorded else None,
        heartbeats_s=heartbeats_s,
        keys=keys,
    )
    if faults:
        raise Faults(faults)
    return settings


def _check_token(name: str, token: TokenFile, file: PricesFile) -> list[SubletError]:
    """Find sources that a token names and the file does not set up."""
    return [
        Refused(
            f"tokens.{name} names a price of {source}, and there is no table [{source}]; "
            "add one that says where it answers",
            code="bad_price_settings",
            field=source,
        )
        for source in ("pyth", "coingecko", "chainlink")
        if getattr(token, source) and getattr(file, source) is None
    ]


def _read_span(
    text: str, field: str, bounds: tuple[int, int], faults: list[SubletError]
) -> int:
    least, most = bounds
    try:
        span_s = parse_duration(text, field=field)
    except Refused as fault:
        faults.append(fault)
        return least
    if not least <= span_s <= most:
        faults.append(
            Refused(
                f"{field}: {text} is not between {least} and {most} seconds",
                code="bad_price_settings",
                field=field,
            )
        )
    return span_s


def compose_feeds(
    settings: PriceSettings, http: aiohttp.ClientSession, *, call: Call | None
) -> Sequence[PriceFeed]:
    """Make the feeds that the file speaks of; the recording alone where it names one.

    Args:
        settings: as read.
        http: for the feeds with a REST interface.
        call: the way to the chain; None where the file names no contracts.

    Raises:
        Refused: ``bad_price_history``: the recording cannot be read.
    """
    file = settings.file
    if settings.recorded:
        return (RecordedFeed(read_rounds(settings.recorded)),)
    feeds: list[PriceFeed] = []
    if call and file.chainlink:
        aggregators = {
            name: Aggregator(
                address=token.chainlink.address,
                heartbeat_s=settings.heartbeats_s[name],
                pair=token.chainlink.pair,
            )
            for name, token in file.tokens.items()
            if token.chainlink
        }
        sequencer = file.chainlink.sequencer
        feeds.append(ChainlinkFeed(call, aggregators=aggregators, sequencer=sequencer))
    if file.coingecko:
        ids = {name: x.coingecko for name, x in file.tokens.items() if x.coingecko}
        url, key = file.coingecko.url.rstrip("/"), settings.keys.get("coingecko")
        feeds.append(CoinGeckoFeed(http, url=url, ids=ids, key=key))
    if file.pyth:
        ids = {name: x.pyth for name, x in file.tokens.items() if x.pyth}
        url, key = file.pyth.url.rstrip("/"), settings.keys.get("pyth")
        feeds.append(PythFeed(http, url=url, ids=ids, key=key))
    return feeds
