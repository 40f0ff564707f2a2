"""The node's configuration: one file, read once, every fault reported at once.

``config.toml`` in the node's home. The types of the fields carry their limits, so
that what is documented here is what is checked. The rules of the market are free
until the first start: then they stand, signed, in entry 0 of the log, for good.

Not here: keys (``adapter.key_file``), the Market document itself (``compose``).
"""

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from sublet.adapter.chain_place import DEVELOPMENT_CHAIN_ID, ChainPlace
from sublet.base.errors import Faults, Refused, SubletError
from sublet.base.ids import Address
from sublet.base.toml import BadToml, parse_toml
from sublet.base.units import MicroUsd, format_money, parse_money
from sublet.core.member import ChainId, Delay, Span, Text
from sublet.core.mirror import CREDITS, ESCROW
from sublet.core.pricing.exchange import MakerTerms
from sublet.wire.note import COSIGNATURE, BadNote, split_key

CONFIG_FILE = "config.toml"
X402_CONTRACT: Address = "0x4020074e9df2ce1dee5a9c1b5c3f541d02a10003"

WITHDRAW_DELAY_S_MIN = 900  # as x402's contract has it

Rail = Literal["credits", "escrow"]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Wait = Annotated[int, Meta(ge=1, le=3_600)]  # seconds
Listen = Annotated[str, Meta(pattern=r"\A(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}\Z")]


_NODE_URL = re.compile(r"\Ahttps?://[^\s/?#@]+\Z")


class MarketRules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[market]``: what entry 0 will say; fixed once the log exists."""

    name: Text = "local"
    chain_id: ChainId = DEVELOPMENT_CHAIN_ID
    contract: Address = X402_CONTRACT
    token: Address | None = None  # the operator's address where none is given
    rail: Rail = CREDITS
    accept_s: Span = 20
    deliver_s: Span = 60
    prepare_s: Span = 900
    report_s: Span = 45
    close_s: Span = 90
    settle_s: Span = 60
    withdraw_delay_s: Delay = 86_400


class NodeLimits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[limits]``: what one node bears; no part of the protocol."""

    requests_per_s: Count = 2_000  # of one IP address, on average
    requests_burst: Count = 8_000  # of one IP address, at once
    websockets_max: Count = 4_096
    relays_per_lease_max: Count = 16
    relay_idle_s: Wait = 90  # without one frame either way; SSH says one in 15
    relay_join_s: Wait = 10  # for the provider to dial back
    body_s: Wait = 30  # for a request's body to arrive
    keepalive_s: Wait = 30  # for the next request's head to arrive
    lost_after_s: Wait = 10  # silence after which a provider counts as lost
    gone_after_s: Wait = 6  # the same, where its connection was broken off
    ping_s: Wait = 3  # between two pings on a control link
    detached_gib_max: Count = 100  # of what detached jobs leave, all together


class LogPlace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[log]``: where the log is kept."""

    url: str = ""  # of a PostgreSQL database; "" for a file in the node's home


class ConvertPlace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[convert]``: by what the operator gives dollars for tokens, as it likes."""

    feeds: Annotated[str, Meta(min_length=1)]  # from the home: see prices.toml
    key_file: Annotated[str, Meta(min_length=1)]  # from the home: whose the dollars are
    spread_bps: Annotated[int, Meta(ge=0, le=2_000)] = 50
    most: str = "1000.00"  # US dollars of one quote


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``config.toml`` as people write it."""

    listen: Listen = "127.0.0.1:8470"
    tls_cert: str = ""  # PEM file; TLS is on when both are given
    tls_key: str = ""
    faucet: str = "0.00"  # US dollars of credit for each new tenant; 0.00: none
    witnesses: dict[str, str] = {}  # address of each, and its verifier key
    nodes: tuple[str, ...] = ()  # how clients reach the nodes of this market
    log: LogPlace = LogPlace()
    chain: ChainPlace = ChainPlace()
    convert: ConvertPlace | None = None
    market: MarketRules = MarketRules()
    limits: NodeLimits = NodeLimits()


class Making(Struct, frozen=True, kw_only=True):
    """``[convert]``, read."""

    feeds: str
    key_file: str
    terms: MakerTerms


class NodeConfig(Struct, frozen=True, kw_only=True):
    """Everything that a node is told; nothing below the face reads more."""

    home: Path
    host: str
    port: int  # 0: any free one
    tls_cert: Path | None
    tls_key: Path | None
    faucet: MicroUsd
    witnesses: tuple[tuple[str, str], ...]  # (address, verifier key)
    nodes: tuple[str, ...]  # addresses, announced to clients
    log_url: str  # of a PostgreSQL database, or ""
    chain: ChainPlace
    convert: Making | None  # None: the operator is no maker
    market: MarketRules
    market_given: frozenset[str]  # the rules that somebody wrote down
    limits: NodeLimits


def read_config(
    home: Path, *, overrides: Mapping[str, object] | None = None
) -> NodeConfig:
    """Read ``config.toml`` in ``home``; ``overrides`` (flags) win over the file.

    Raises:
        Refused: no such file, or it is not TOML.
        Faults: keys or values are wrong; all of them are listed.
    """
    path = home / CONFIG_FILE
    try:
        table = parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused(
            f"there is no node in {home}; make one with: sublet node init --home {home}",
            code="no_node",
            field="--home",
        ) from None
    except (BadToml, UnicodeDecodeError) as error:
        raise Refused(
            f"{path} is not TOML: {error}; correct it or move it away and run "
            "sublet node init again",
            code="bad_config",
            field=str(path),
        ) from None
    return parse_config({**table, **(overrides or {})}, home=home)


def parse_config(table: Mapping[str, object], *, home: Path) -> NodeConfig:
    """Check a whole configuration and give it its final shape. Pure.

    Raises:
        Faults: keys or values are wrong; all of them are listed.
    """
    faults: list[SubletError] = []
    faults += _find_faults(table, _File, prefix="")
    sections: tuple[tuple[str, type[Struct]], ...] = (
        ("log", LogPlace),
        ("chain", ChainPlace),
        ("market", MarketRules),
        ("limits", NodeLimits),
    )
    for name, section in sections:
        faults += _find_faults(_table_of(table, name), section, prefix=f"{name}.")
    if faults:
        raise Faults(faults)
    file = msgspec.convert(table, _File)
    host, port = _split_listen(file.listen, faults)
    faucet = _parse_faucet(file.faucet, faults)
    if bool(file.tls_cert) != bool(file.tls_key):
        faults.append(_fault("tls_cert", "TLS needs both tls_cert and tls_key"))
    for url, key in file.witnesses.items():
        try:
            split_key(key, algorithm=COSIGNATURE)
        except BadNote as error:
            faults.append(_fault(f"witnesses.{url}", error.message))
    faults += [
        _fault("nodes", f"{url[:200]!r} is not like https://market.example")
        for url in file.nodes
        if _NODE_URL.match(url) is None
    ]
    faults += _check_rail(file, faucet)
    convert = _parse_convert(file, faults)
    if file.limits.ping_s >= file.limits.lost_after_s:
        faults.append(_fault("limits.ping_s", "must be less than limits.lost_after_s"))
    elif file.limits.ping_s >= file.limits.gone_after_s:  # another node may hear it
        faults.append(_fault("limits.ping_s", "must be less than limits.gone_after_s"))
    if faults:
        raise Faults(faults)
    return NodeConfig(
        home=home,
        host=host,
        port=port,
        tls_cert=Path(file.tls_cert) if file.tls_cert else None,
        tls_key=Path(file.tls_key) if file.tls_key else None,
        faucet=faucet,
        witnesses=tuple(file.witnesses.items()),
        nodes=file.nodes,
        log_url=file.log.url,
        chain=file.chain,
        convert=convert,
        market=file.market,
        market_given=frozenset(_table_of(table, "market")),
        limits=file.limits,
    )


class EscrowChoice(Struct, frozen=True):
    """What a new market on the escrow rail has to know."""

    rpc: str
    chain_id: int
    contract: str
    token: str
    confirmations: int
    public_rpc: str = ""
    stake: str = ""


def compose_config(
    home: Path, *, name: str, faucet: MicroUsd, escrow: EscrowChoice | None = None
) -> str:
    """Write a first configuration with what people most often change.

    Raises:
        Faults: it would not be read back; all that is wrong is listed.
    """
    text = (
        "# A Sublet market node. All settings: docs/reference/settings.md\n"
        'listen = "127.0.0.1:8470"\n'
        f'faucet = "{format_money(faucet).lstrip("$")}"  # for each new tenant\n\n'
        "[market]  # fixed by the first start: entry 0 of the log\n"
        f"name = {_text(name)}\n"
    )
    if escrow is not None:
        text += (
            f'rail = "{ESCROW}"\n'
            f"chain_id = {escrow.chain_id}\n"
            f"contract = {_text(escrow.contract)}\n"
            f"token = {_text(escrow.token)}\n"
            f"\n[chain]\nrpc = [{_text(escrow.rpc)}]  # best first; several are safer\n"
            f"confirmations = {escrow.confirmations}  # until a deposit counts\n"
            f"public_rpc = {_text(escrow.public_rpc)}  # that tenants may use, too\n"
            f"stake = {_text(escrow.stake)}  # the contract of providers' stake\n"
        )
    parse_config(parse_toml(text), home=home)
    return text


def write_config(
    home: Path, *, name: str, faucet: MicroUsd, escrow: EscrowChoice | None = None
) -> None:
    """Write a first ``config.toml``, for its owner's eyes: RPCs have keys in addresses.

    Raises:
        Refused: there is one already; it is not touched.
        Faults: as ``compose_config`` says.
    """
    text = compose_config(home, name=name, faucet=faucet, escrow=escrow)
    try:
        fd = os.open(home / CONFIG_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Refused(
            f"{home / CONFIG_FILE} exists; a node is there already",
            code="node_exists",
            field="--home",
        ) from None


def _text(value: str) -> str:
    # JSON strings are TOML basic strings, escapes included.
    return msgspec.json.encode(value).decode()


def is_local(host: str) -> bool:
    """Say whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _find_faults(
    table: Mapping[str, object], section: type[Struct], *, prefix: str
) -> list[SubletError]:
    fields = {field.name: field for field in msgspec.structs.fields(section)}
    faults: list[SubletError] = []
    for key, value in table.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else ""
            faults.append(_fault(prefix + key, f"there is no such setting{hint}"))
        elif not _is_section(fields[key].type) or not isinstance(value, Mapping):
            try:
                msgspec.convert(value, fields[key].type)
            except msgspec.ValidationError as error:
                faults.append(_fault(prefix + key, str(error)))
    return faults


def _table_of(table: Mapping[str, object], name: str) -> Mapping[str, object]:
    inner = table.get(name)
    return inner if isinstance(inner, Mapping) else {}


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _split_listen(listen: str, faults: list[SubletError]) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if int(port) > 65_535:
        faults.append(_fault("listen", f"{port} is no port; use 0 to 65535"))
    return host.strip("[]"), int(port)


def _parse_faucet(text: str, faults: list[SubletError]) -> MicroUsd:
    try:
        return parse_money(text, field="faucet")
    except Refused as error:
        faults.append(error)
        return MicroUsd(0)


def _parse_convert(file: _File, faults: list[SubletError]) -> Making | None:
    if file.convert is None:
        return None
    if file.market.rail != ESCROW:
        faults.append(
            _fault("convert", "only the escrow rail has what to convert into")
        )
    try:
        most = parse_money(file.convert.most, field="convert.most")
    except Refused as error:
        faults.append(error)
        return None
    return Making(
        feeds=file.convert.feeds,
        key_file=file.convert.key_file,
        terms=MakerTerms(spread_bps=file.convert.spread_bps, most=most),
    )


def _check_rail(file: _File, faucet: MicroUsd) -> list[SubletError]:
    """Find what does not go together on the escrow rail."""
    if file.market.rail != ESCROW:
        return []
    faults: list[SubletError] = []
    if not file.chain.rpc:
        faults.append(_fault("chain.rpc", "the escrow rail needs an RPC of its chain"))
    if file.market.token is None:
        faults.append(_fault("market.token", "the escrow rail needs a token, as USDC"))
    if file.market.withdraw_delay_s < WITHDRAW_DELAY_S_MIN:
        least = f"the contract takes no less than {WITHDRAW_DELAY_S_MIN}"
        faults.append(_fault("market.withdraw_delay_s", least))
    if faucet:
        faults.append(_fault("faucet", "no node can give away what lies on a chain"))
    return faults


def _fault(key: str, text: str) -> Refused:
    return Refused(f"setting {key}: {text}", code="bad_setting", field=key)
