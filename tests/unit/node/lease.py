"""A lease for tests that only pass it around."""

from sublet.base.ids import NO_DIGEST
from sublet.core.lease.phase import Lease, Phase


def make_lease() -> Lease:
    """Give a lease that was just matched."""
    return Lease(
        id="0x" + "01" * 32,
        offer_id="0x" + "02" * 32,
        tenant="0x" + "03" * 20,
        provider="0x" + "04" * 20,
        machine="box",
        phase=Phase.MATCHED,
        price_hour=100,
        duration_s=60,
        hold=100,
        cpus_milli=1_000,
        memory_bytes=1,
        disk_bytes=1,
        gpu_uuids=(),
        manifest=NO_DIGEST,
        sandbox="",
        features=(),
        ssh_key="",
        ssh_host_key="",
        endpoint="",
        matched_at_s=1,
        deadline_s=2,
    )
