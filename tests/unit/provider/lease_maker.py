"""Leases and records for unit tests, with what a test does not care about filled in."""

from msgspec.structs import replace

from sublet.core.lease.phase import Lease, Phase
from sublet.provider.lease_state import Stage
from sublet.provider.record import LeaseRecord

TENANT = "0x" + "1" * 40
PROVIDER = "0x" + "2" * 40
OFFER_ID = "0x" + "3" * 64
HOST_KEY = "ssh-ed25519 AAAAhost"
GIB = 1 << 30


def make_lease(number: int = 1, **changes: object) -> Lease:
    lease = Lease(
        id=f"0x{number:064x}",
        order=f"0x{number:064x}",
        offer_id=OFFER_ID,
        tenant=TENANT,
        provider=PROVIDER,
        machine="box",
        phase=Phase.RUNNING,
        price_hour=3_600_000,  # one micro-dollar a millisecond
        duration_s=600,
        hold=600_000,
        cpus_milli=1_000,
        memory_bytes=GIB,
        disk_bytes=GIB,
        gpu_uuids=(),
        manifest="0x" + "4" * 64,
        sandbox="",
        features=(),
        ssh_key="ssh-ed25519 AAAAtenant",
        ssh_host_key=HOST_KEY,
        endpoint="",
        matched_at_s=1_000 + number,
        deadline_s=2_000,
    )
    return replace(lease, **changes)


def make_record(
    number: int = 1, stage: Stage = Stage.RUNNING, **changes: object
) -> LeaseRecord:
    own = {name: changes.pop(name) for name in _OWN if name in changes}
    record = LeaseRecord(
        lease=make_lease(number, **changes), stage=stage, uid=66_000 + number
    )
    return replace(record, **own)


_OWN = ("ran_ms", "owed", "unbilled_ms", "secured_ms", "sequence")
