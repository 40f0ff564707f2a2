"""A detached job as tenant and node speak of it: the plan, and how it stands.

Of what the job is there is nothing here but ciphertext and sizes.
"""

from typing import Annotated

from msgspec import Meta

from sublet.base import limits
from sublet.base.ids import Address, Digest
from sublet.core.document import Order
from sublet.core.job.record import JobId
from sublet.core.job.state import Job
from sublet.wire.message import Manifest, Message, Signed, Tree


class DetachedPlan(Message, frozen=True):
    """PUT /v1/jobs/{id} (signed): what a node is to look after."""

    v: int
    id: JobId
    order: Order  # of each attempt, but for manifest, key, avoided providers and times
    manifest: Manifest  # of each attempt, sealed; but for salt and checkpoint
    channels: Annotated[tuple[Signed, ...], Meta(max_length=limits.LIST_LENGTH_MAX)]
    retries: Annotated[int, Meta(ge=0, le=limits.RETRIES_MAX)]
    retries_own: bool  # also when the program itself failed
    wait_ms: Annotated[int, Meta(ge=0, le=86_400_000)]  # for supply, each time
    expires_at_s: int  # of the delegation


class Delegate(Message, frozen=True):
    """GET /v1/jobs/{id}/delegate (signed): who would order for this job."""

    address: Address


class Contract(Message, frozen=True):
    """What one attempt was handed over with; with the plan it gives the manifest."""

    salt: str
    resume: Tree


class JobView(Message, frozen=True):
    """GET /v1/jobs/{id} (signed): how a detached job stands."""

    id: JobId
    is_started: bool
    job: Job
    contracts: dict[Digest, Contract]  # by lease
    checkpoint: Tree  # the last one that is kept, sealed
    outputs: Tree  # sealed; of the last attempt
    statements: dict[Digest, str]  # of erasure, by lease; once the job is over
    missing: tuple[Digest, ...]  # chunks that are still to be brought
