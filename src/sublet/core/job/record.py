"""A job as its tenant remembers it between commands: plain values."""

from typing import Annotated

from msgspec import Meta, Struct

from sublet.base.ids import Address
from sublet.core.job.state import Job

JobId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{12}\Z")]
JobName = Annotated[str, Meta(pattern=r"\A([A-Za-z0-9][A-Za-z0-9._-]{0,63})?\Z")]


class JobRecord(Struct, frozen=True):
    """What ``ps``, ``logs``, ``cost`` and the like know about a job."""

    id: JobId
    name: JobName  # the owner's own, or ""
    command: str  # what runs, for people
    market: str  # address of the market
    tenant: Address
    created_at_ms: int
    pid: int  # of the process that looks after it
    job: Job
    disk_bytes: int = 0  # what was rented; more is not fetched
    is_detached: bool = False  # a node looks after it, and this is what it last said
