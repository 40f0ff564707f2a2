"""How a provider is doing, as its owner asks: ``sublet provider status``."""

from pathlib import Path

from msgspec import Struct

from sublet.adapter.clock_system import SystemClock
from sublet.adapter.key_file import load_key
from sublet.base.ids import Address, Digest
from sublet.provider.agent import Agent
from sublet.provider.config import read_config
from sublet.provider.earnings import read_earnings
from sublet.provider.record import LeaseFolder, LeaseRecord
from sublet.provider.sandboxes import SandboxReport
from sublet.provider.surroundings import Surroundings


class LeaseStatus(Struct, frozen=True):
    """One lease on this machine. Amounts in micro-USD."""

    id: Digest
    tenant: Address
    stage: str
    ran_ms: int
    owed: int
    price_hour: int
    gpus: int
    gives_back_at_s: int


class Status(Struct, frozen=True):
    """The whole provider. Amounts in micro-USD."""

    provider: Address
    machine: str
    market: str
    is_running: bool
    is_linked: bool
    is_draining: bool
    clock_ahead_s: int
    sandboxes: tuple[SandboxReport, ...]  # empty while no agent runs
    offer_id: Digest | None
    cpu_price_hour: int
    memory_price_hour: int
    gpu_price_hour: int
    documents_waiting: int
    earned_today: int
    earned_total: int
    leases_settled: int
    leases: tuple[LeaseStatus, ...]
    images: SandboxReport | None = None  # None while no agent runs
    erasure: SandboxReport | None = None  # None while no agent runs
    held_back: tuple[str, ...] = ()  # why it is not offered


def read_status(agent: Agent) -> Status:
    """Say how a running agent is doing.

    Raises:
        Broken: the ledger of earnings is damaged.
    """
    around = agent.around
    config = around.config
    earnings = read_earnings(around.home / "earnings.json")
    standing = agent.offering.newest
    return Status(
        provider=around.address,
        machine=config.name,
        market=config.market,
        is_running=True,
        is_linked=agent.is_linked,
        is_draining=agent.is_draining,
        clock_ahead_s=agent.clock_ahead_s,
        sandboxes=around.sandboxes.reports,
        offer_id=standing[0] if standing else None,
        cpu_price_hour=config.cpu_price_hour,
        memory_price_hour=config.memory_price_hour,
        gpu_price_hour=config.gpu_price_hour,
        documents_waiting=around.outbox.size(),
        earned_today=earnings.of_day(around.clock.now_s()),
        earned_total=earnings.total,
        leases_settled=earnings.leases,
        leases=tuple(_describe(record) for record in agent.roster.records()),
        images=SandboxReport("images", around.images.is_ok, around.images.reason),
        erasure=_describe_erasure(around),
        held_back=tuple(filter(None, (agent.offering.barred,)))
        + agent.owner_watch.reasons(),
    )


def read_status_at_rest(home: Path) -> Status:
    """Say what the files of a provider tell while no agent runs.

    Raises:
        Refused: there is no provider in this home.
        Broken: a file is damaged.
    """
    config = read_config(home)
    earnings = read_earnings(home / "earnings.json")
    found = (LeaseFolder(path).find_record() for path in (home / "leases").glob("0x*"))
    records = [record for record in found if record is not None]
    return Status(
        provider=load_key(home / "key").address,
        machine=config.name,
        market=config.market,
        is_running=False,
        is_linked=False,
        is_draining=False,
        clock_ahead_s=0,
        sandboxes=(),
        offer_id=None,
        cpu_price_hour=config.cpu_price_hour,
        memory_price_hour=config.memory_price_hour,
        gpu_price_hour=config.gpu_price_hour,
        documents_waiting=len(list((home / "outbox").glob("[0-9]*.json"))),
        earned_today=earnings.of_day(SystemClock().now_s()),
        earned_total=earnings.total,
        leases_settled=earnings.leases,
        leases=tuple(_describe(record) for record in records),
    )


def _describe_erasure(around: Surroundings) -> SandboxReport:
    why = around.scratches.explain(has_gpus=bool(around.config.gpu_uuids))
    if around.config.declared.gpu_sharing:
        why = "GPUs are sold in parts, and nobody can scrub a part alone"
    works = "data lies encrypted for jobs that ask for it, and its end is signed"
    return SandboxReport("erasure", not why, why or works)


def _describe(record: LeaseRecord) -> LeaseStatus:
    return LeaseStatus(
        id=record.lease.id,
        tenant=record.lease.tenant,
        stage=record.stage.value,
        ran_ms=record.ran_ms,
        owed=record.owed,
        price_hour=record.lease.price_hour,
        gpus=len(record.lease.gpu_uuids),
        gives_back_at_s=record.gives_back_at_s,
    )
