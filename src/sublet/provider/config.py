"""The provider's configuration: one commented file, read once, faults all at once.

``config.toml`` in the provider's home, written by ``sublet provider init`` and edited
by its owner. Not here: keys (``adapter.key_file``), how prices come about
(``core.pricing``), what is measured (``benchmark``).
"""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from sublet.adapter.chain_place import ChainPlace, find_ether_usd, make_policy
from sublet.base.errors import Faults, Refused, SubletError
from sublet.base.toml import BadToml, parse_toml
from sublet.base.units import (
    format_money,
    parse_duration,
    parse_money,
    parse_size,
    spell_size,
)
from sublet.core.document import Market, Offer
from sublet.core.egress import EgressRules
from sublet.core.gpu_part import name_parts
from sublet.core.image import ImageRules
from sublet.core.owner.rules import Rules
from sublet.provider.bids_file import BidRules, BidsFile, compose_bids, read_bids
from sublet.provider.declared import (
    Declared,
    DeclaredFile,
    compose_declared,
    describe,
    read_declared,
)
from sublet.provider.owner_file import (
    EgressFile,
    ImagesFile,
    RulesFile,
    compose_egress,
    compose_images,
    compose_rules,
    read_egress,
    read_images,
    read_rules,
)
from sublet.provider.record import write_atomic

CONFIG_FILE = "config.toml"
MARKET_FILE = "market.json"  # the market's own document, once it was seen

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\A[\w.-]+\Z")]
Region = Annotated[str, Meta(pattern=r"\A([A-Z]{2}(-[A-Z0-9]{1,3})?)?\Z")]
Endpoint = Annotated[str, Meta(pattern=r"\A(\S+:\d{1,5})?\Z", max_length=128)]


class _Price(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[price]``: USD an hour, as people write it."""

    cpu: str
    memory: str
    gpu: str


class _Sold(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[machine]``: what of it is offered."""

    cpus: Annotated[float, Meta(gt=0, le=1_024)]
    memory: str
    disk: str
    gpus: tuple[str, ...] = ()
    gpu_model: str = ""
    gpu_memory: str = "0B"


class _Measured(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[measured]``: what the benchmark found."""

    cpu_score: int = 0
    disk_score: int = 0
    gpu_score: int = 0


class _Habits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[habits]``: spans that the owner may change."""

    credit: str = "30s"
    notice: str = "30s"
    retention: str = "10m"
    voucher: str = "5s"


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``config.toml`` as people write it."""

    market: str
    name: Name
    region: Region = ""
    endpoint: Endpoint = ""
    price: _Price
    machine: _Sold
    declared: DeclaredFile = DeclaredFile()
    measured: _Measured = _Measured()
    habits: _Habits = _Habits()
    egress: EgressFile = EgressFile()
    images: ImagesFile = ImagesFile()
    rules: RulesFile = RulesFile()
    bids: BidsFile = BidsFile()
    chain: ChainPlace = ChainPlace()


class Config(Struct, frozen=True, kw_only=True):
    """Everything that a provider's agent is told. Sizes in bytes, spans in seconds."""

    market: str  # URL of the node
    name: str  # of the machine, in offers
    region: str
    endpoint: str  # host:port where tenants reach it directly, or ""
    cpu_price_hour: int  # micro-USD, of one CPU
    memory_price_hour: int  # of one GiB
    gpu_price_hour: int  # of one GPU
    cpus_milli: int
    memory_bytes: int
    disk_bytes: int
    gpu_uuids: tuple[str, ...]
    gpu_model: str
    gpu_memory_bytes: int
    cpu_score: int
    disk_score: int
    gpu_score: int
    declared: Declared = Declared()  # what else its offer says
    credit_s: int = 30  # a job runs on unpaid for so long
    notice_s: int = 30  # a tenant's notice when the machine is wanted back
    retention_s: int = 600  # outputs that nobody fetches are kept for so long
    voucher_s: int = 5  # between two vouchers
    egress: EgressRules = EgressRules()  # what jobs may reach
    images: ImageRules = ImageRules()  # what images jobs may run in
    rules: Rules = Rules()  # when it is on offer
    bids: BidRules = BidRules()  # for live orders
    chain: ChainPlace = ChainPlace()  # in a market on the escrow rail

    @property
    def gpu_parts(self) -> tuple[str, ...]:
        """What is sold: GPUs, or the parts of them, by their UUIDs."""
        return name_parts(
            self.gpu_uuids,
            sharing=self.declared.gpu_sharing,
            share_milli=self.declared.gpu_share_milli,
        )


def read_config(home: Path) -> Config:
    """Read ``config.toml`` in ``home``.

    Raises:
        Refused: there is none, or it is not TOML.
        Faults: keys or values are wrong; all of them are listed.
    """
    path = home / CONFIG_FILE
    try:
        table = parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused(
            f"there is no provider in {home}; make one with: sublet provider init",
            code="no_provider",
            field="--home",
        ) from None
    except (BadToml, UnicodeDecodeError) as exc:
        raise Refused(f"{path} is not TOML: {exc}", code="bad_config") from exc
    return parse_config(table)


def find_market(home: Path) -> Market | None:
    """Give the market's own document as this provider has seen it; None: not yet."""
    try:
        return msgspec.json.decode((home / MARKET_FILE).read_bytes(), type=Market)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def parse_config(table: dict[str, object]) -> Config:
    """Check a configuration and give it its final shape. Pure.

    Raises:
        Refused: a key is unknown or missing, or a value has the wrong type.
        Faults: values are wrong; all of them are listed.
    """
    try:
        file = msgspec.convert(table, _File)
    except msgspec.ValidationError as exc:
        raise Refused(
            f"config.toml: {exc}; correct it, or make a new one with: "
            "sublet provider init",
            code="bad_config",
        ) from exc
    reader = _Reader()
    config = Config(
        market=file.market,
        name=file.name,
        region=file.region,
        endpoint=file.endpoint,
        cpu_price_hour=reader.money("price.cpu", file.price.cpu),
        memory_price_hour=reader.money("price.memory", file.price.memory),
        gpu_price_hour=reader.money("price.gpu", file.price.gpu),
        cpus_milli=int(file.machine.cpus * 1_000),
        memory_bytes=reader.size("machine.memory", file.machine.memory),
        disk_bytes=reader.size("machine.disk", file.machine.disk),
        gpu_uuids=file.machine.gpus,
        gpu_model=file.machine.gpu_model,
        gpu_memory_bytes=reader.size("machine.gpu_memory", file.machine.gpu_memory),
        cpu_score=file.measured.cpu_score,
        disk_score=file.measured.disk_score,
        gpu_score=file.measured.gpu_score,
        declared=read_declared(
            file.declared, reader.faults, gpu_uuids=file.machine.gpus
        ),
        credit_s=reader.span("habits.credit", file.habits.credit),
        notice_s=reader.span("habits.notice", file.habits.notice),
        retention_s=reader.span("habits.retention", file.habits.retention),
        voucher_s=max(1, reader.span("habits.voucher", file.habits.voucher)),
        egress=read_egress(file.egress, reader.faults),
        images=read_images(file.images, reader.faults),
        rules=read_rules(file.rules, reader.faults),
        bids=read_bids(file.bids, reader.faults),
        chain=file.chain,
    )
    try:
        make_policy(config.chain)
        find_ether_usd(config.chain)
    except Refused as fault:
        reader.faults.append(fault)
    if config.rules.gpu_alone and config.declared.gpu_sharing:
        reader.faults.append(
            Refused(
                "rules.gpu_alone: nobody can tell whose programs are on a part of a GPU; "
                "set it to false, or sell whole GPUs",
                code="bad_parts",
                field="rules.gpu_alone",
            )
        )
    if reader.faults:
        raise Faults(reader.faults)
    return config


class _Reader:
    """Reads values with units, and collects what is wrong with them."""

    def __init__(self) -> None:
        self.faults: list[SubletError] = []

    def money(self, field: str, text: str) -> int:
        try:
            return parse_money(text, field=field)
        except Refused as fault:
            self.faults.append(fault)
            return 0

    def size(self, field: str, text: str) -> int:
        try:
            return parse_size(text, field=field)
        except Refused as fault:
            self.faults.append(fault)
            return 0

    def span(self, field: str, text: str) -> int:
        try:
            return parse_duration(text, field=field)
        except Refused as fault:
            self.faults.append(fault)
            return 0


def write_config(home: Path, config: Config, *, price_story: str) -> Path:
    """Write a commented ``config.toml``; an older one is replaced.

    Args:
        home: the provider's folder.
        config: what it is to say.
        price_story: one line that tells how the prices came about.

    Raises:
        Refused: it would not be read back; nothing was written.
        Faults: as ``parse_config``.
        Unavailable: the disk is full or did not answer.
    """
    path = home / CONFIG_FILE
    text = _compose(config, price_story=price_story)
    parse_config(parse_toml(text))
    write_atomic(path, text.encode())
    return path


def _compose(config: Config, *, price_story: str) -> str:
    quoted = ", ".join(_text(uuid) for uuid in config.gpu_uuids)
    return f"""\
# A Sublet provider. Change what you like; it counts from the next start on.
# {price_story}
market = {_text(config.market)}  # the node that it offers its machine to
name = {_text(config.name)}  # of this machine, in its offers
region = {_text(config.region)}  # ISO 3166, such as "DE" or "US-CA"; "" for undeclared
endpoint = {_text(config.endpoint)}  # host:port of start --listen as others reach it

[price]  # US dollars an hour: the least that you take
cpu = {_money(config.cpu_price_hour)}  # one CPU
memory = {_money(config.memory_price_hour)}  # one GiB of memory
gpu = {_money(config.gpu_price_hour)}  # one GPU

[machine]  # what of it is offered; the rest stays yours
cpus = {config.cpus_milli / 1_000}
memory = "{spell_size(config.memory_bytes)}"
disk = "{spell_size(config.disk_bytes)}"
gpus = [{quoted}]
gpu_model = {_text(config.gpu_model)}
gpu_memory = "{spell_size(config.gpu_memory_bytes)}"

{compose_declared(config.declared)}
[measured]  # by the benchmark of sublet provider init
cpu_score = {config.cpu_score}
disk_score = {config.disk_score}
gpu_score = {config.gpu_score}

[habits]
credit = "{config.credit_s}s"  # a job whose tenant stops paying runs on for so long
notice = "{config.notice_s}s"  # what a tenant gets when you want the machine back
retention = "{config.retention_s}s"  # results that nobody fetches are kept for so long
voucher = "{config.voucher_s}s"  # between two payments

{compose_egress(config.egress)}
{compose_images(config.images)}
{compose_rules(config.rules)}
{compose_bids(config.bids)}
{_compose_chain(config.chain)}"""


def _compose_chain(place: ChainPlace) -> str:
    rpc = ", ".join(_text(url) for url in place.rpc)
    return f"""\
[chain]  # only where the market's money lies on one
rpc = [{rpc}]  # best first, such as "https://mainnet.base.org"; several are safer
confirmations = {place.confirmations}  # blocks until a deposit counts
fee_max_gwei = {_text(place.fee_max_gwei)}  # a transaction pays no more for its gas
ether_usd = {_text(place.ether_usd)}  # claim at 100 times the gas; "": from one dollar on
stake = {_text(place.stake)}  # the contract of your stake; "": the one that the market names
"""


def make_offer(
    config: Config,
    *,
    ssh_host_key: str,
    seal_key: str,
    sandboxes: tuple[str, ...],
    features: tuple[str, ...],
    now_s: int,
    lasts_s: int,
    salt: int,
) -> Offer:
    """Write the offer that a configuration amounts to, for signing. Pure."""
    return Offer(
        machine=config.name,
        cpus_milli=config.cpus_milli,
        memory_bytes=config.memory_bytes,
        disk_bytes=config.disk_bytes,
        gpu_model=config.gpu_model if config.gpu_uuids else "",
        gpu_memory_bytes=config.gpu_memory_bytes if config.gpu_uuids else 0,
        gpu_uuids=config.gpu_parts,
        region=config.region,
        **describe(config.declared, has_gpus=bool(config.gpu_uuids)),
        sandboxes=sandboxes,
        features=features,
        cpu_price_hour=config.cpu_price_hour,
        memory_price_hour=config.memory_price_hour,
        gpu_price_hour=config.gpu_price_hour,
        cpu_score=config.cpu_score,
        disk_score=config.disk_score,
        gpu_score=config.gpu_score,
        ssh_host_key=ssh_host_key,
        seal_key=seal_key,
        endpoint=config.endpoint,
        leases_max=config.rules.leases_max,
        refuses=config.rules.refuses,
        expires_at_s=now_s + lasts_s,
        signed_at_s=now_s,
        salt=salt,
    )


def _text(value: str) -> str:
    # JSON strings are TOML basic strings, escapes included.
    return msgspec.json.encode(value).decode()


def _money(amount: int) -> str:
    return _text(format_money(amount).removeprefix("$"))
