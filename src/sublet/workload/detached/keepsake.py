"""What a tenant's home keeps of a job that a node looks after: above all its key.

Without this file nobody opens what the job left: not the node, which never had the
key, and not the tenant. The job still runs, ends and is paid; it can be stopped.
"""

import msgspec
from msgspec import Struct

from sublet.adapter.home_folder import Home
from sublet.adapter.seal import JobSeal
from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.core.job.record import JobRecord
from sublet.wire.message import Manifest
from sublet.workload.run.wish import Wanted

FILE = "detached.json"


class Keepsake(Struct, frozen=True):
    """Private: 0600 in the job's folder."""

    key: bytes  # of the job
    tenant: Address
    delegation: Digest
    manifest: Manifest  # sealed, as each attempt is handed over but for salt and resume
    outputs: tuple[Wanted, ...]
    offsets: dict[str, tuple[int, int]] = {}  # lease/stream: read of frames, of text

    def __repr__(self) -> str:
        return "Keepsake()"

    def seal(self, job_id: str) -> JobSeal:
        """Give what opens everything of the job."""
        return JobSeal(self.key, job=job_name(self.tenant, job_id))


def job_name(tenant: Address, job_id: str) -> str:
    """Name a job for its seals: no other tenant's job has that name."""
    return f"{tenant}|{job_id}"


def write_keepsake(home: Home, job_id: str, keepsake: Keepsake) -> None:
    """Keep it, for this user alone."""
    place = home.job_folder(job_id) / FILE
    home.write_private(place, msgspec.json.encode(keepsake))


def read_keepsake(home: Home, record: JobRecord) -> Keepsake:
    """Give what was kept when the job was handed over.

    Raises:
        Refused: there is none here; nothing of it is shown.
    """
    place = home.job_folder(record.id) / FILE
    try:
        return msgspec.json.decode(place.read_bytes(), type=Keepsake)
    except (OSError, msgspec.MsgspecError):
        raise Refused(
            f"{place} is missing or damaged, and it holds the job's key: what the job "
            "leaves cannot be opened. Restore it from a backup; the job can still be "
            f"stopped: sublet stop {record.id}",
            code="no_job_key",
        ) from None
