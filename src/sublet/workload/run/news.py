"""What a step of the job is worth telling its owner. Pure."""

from sublet.core.job.state import Job, JobPhase
from sublet.workload.run import event


def find_news(before: Job, after: Job, *, at_ms: int) -> event.AnyEvent | None:
    """Name what changed in the eyes of people: a machine, the loss of one, a wait.

    Args:
        before: the job as it was.
        after: the job after one step.
        at_ms: milliseconds since the epoch.
    """
    if len(after.attempts) > len(before.attempts):
        one = after.attempt
        return event.Matched(
            at_ms=at_ms,
            lease_id=one.lease_id,
            provider=one.provider,
            machine=one.machine,
            price_hour=one.price_hour,
            attempt=len(after.attempts),
        )
    if before.attempts and before.phase is not after.phase is JobPhase.SEEKING:
        one = after.attempt
        return event.Left(
            at_ms=at_ms, provider=one.provider, outcome=one.outcome, note=one.note
        )
    if after.is_waiting and after.message != before.message:  # said once
        return event.Waiting(at_ms=at_ms, message=after.message)
    return None
