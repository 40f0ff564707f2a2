"""The moves of a gang's member that is begun again because of another member.

A gang is one attempt: where a machine of it is lost, all members leave theirs, and are
placed together once more, each with its own checkpoint.
"""

from msgspec import structs

from sublet.core.job import fact, order
from sublet.core.job.move import CANCELLED, Move, seek_again
from sublet.core.job.state import Job, JobPhase


def recall(job: Job, said: fact.Recalled) -> Move:
    """Close the lease as if it were stopped, and pay what ran; then begin again."""
    job = structs.replace(job, phase=JobPhase.STOPPING)
    return job, (
        order.WatchLease(lease_id=said.lease_id),
        order.StopLease(lease_id=said.lease_id, reason=CANCELLED),
    )


def stop(job: Job, said: fact.StopAsked) -> Move:
    """Its lease is being closed already; now it is not begun again."""
    return structs.replace(job, is_stopped=True), ()


def again(job: Job, *, at_ms: int) -> Move:
    """Begin again with a member that was done when another one failed."""
    return seek_again(structs.replace(job, exit_code=0, message=""), at_ms)
