"""For which contradictions the stake contract takes a stake, by its own conditions.

They are narrower than ``core.lease.contradiction``: what is no more than a slip, or may
be a forgotten lease that a lying market sold again, costs nothing here.
"""

from sublet.base.errors import Refused
from sublet.core.document import LeaseTerms, UsageRecord

TERMS_WINDOW_S = 300  # in which an honest provider remembers what it signed


class StakeRefused(Refused):
    """The stake contract does not do that; the code says which rule it broke."""

    code = "stake_refused"


def check_terms(first: LeaseTerms, second: LeaseTerms) -> None:
    """See whether two terms cost the stake of whoever signed both.

    Raises:
        StakeRefused: ``no_contradiction`` or ``too_far_apart``.
    """
    if first.lease_id != second.lease_id or _terms(first) == _terms(second):
        raise _no_contradiction()
    if abs(first.signed_at_s - second.signed_at_s) > TERMS_WINDOW_S:
        raise StakeRefused(
            f"the two terms were dated more than {TERMS_WINDOW_S} s apart: it may be a "
            "lease that was forgotten and sold again; show the file to an arbiter",
            code="too_far_apart",
        )


def check_usage(first: UsageRecord, second: UsageRecord) -> None:
    """See whether two readings cost the stake of whoever signed both.

    Raises:
        StakeRefused: ``no_contradiction``.
    """
    about = (first.lease_id, first.sequence)
    if about != (second.lease_id, second.sequence) or _usage(first) == _usage(second):
        raise _no_contradiction()


def _no_contradiction() -> StakeRefused:
    return StakeRefused(
        "the two documents do not contradict each other: they are about different "
        "things, or differ in time and salt alone",
        code="no_contradiction",
    )


def _terms(of: LeaseTerms) -> tuple[object, ...]:
    return (of.offer_id, of.tenant, of.price_hour, of.duration_s)


def _usage(of: UsageRecord) -> tuple[object, ...]:
    return (of.ran_ms, of.cpu_ms, of.memory_bytes_max)
