"""What earlier runs of a map have left: results, tasks still to be run, leases, costs."""

import contextlib
import secrets
from array import array

from msgspec import Struct

from sublet.base.errors import Refused, SubletError
from sublet.base.ids import Address
from sublet.core.document import Stop
from sublet.core.job.move import CANCELLED
from sublet.core.job.record import JobRecord
from sublet.core.job.state import JobPhase
from sublet.core.lease.phase import Lease, Phase
from sublet.core.task.state import add_names
from sublet.workload.map.book import TaskBook
from sublet.workload.map.store import VOID, Store
from sublet.workload.run.work import Tenant

SALT_BITS = 62
OPEN, DONE, FAILED = 0, 1, 2


class Special(Struct, frozen=True):
    """A task that is not like the others."""

    number: int
    avoid: tuple[Address, ...]  # providers that must not get it
    is_urgent: bool  # before all that wait


class Earlier(Struct, frozen=True):
    """What the folder holds of earlier runs."""

    pending: "array[int]"  # tasks without a result, for anybody, in order
    special: tuple[Special, ...]  # others without one
    lines: "array[int]"  # of each task: which line of the results counts; 0: none
    done: int
    failed: int


def read_earlier(store: Store, book: TaskBook, *, retry_failed: bool) -> Earlier:
    """Read what the folder holds.

    Raises:
        Refused: it is damaged.
    """
    ends, lines = bytearray(len(book)), array("Q", bytes(8 * len(book)))
    voided: dict[int, tuple[Address, ...]] = {}
    for line, result in enumerate(store.read(), 1):
        number = result.number
        if not 0 <= number < len(book):
            raise Refused(
                f"{store.folder}/results.jsonl names a task that there is not; name "
                "another folder with --results",
                code="results_damaged",
                field="--results",
            )
        if result.outcome == VOID:
            names = [result.provider] if result.provider else []
            voided[number] = add_names(voided.get(number, ()), names)
            ends[number], lines[number] = OPEN, 0
        elif ends[number] != DONE:
            ends[number], lines[number] = (DONE if result.is_done else FAILED), line
    if retry_failed:
        for number in range(len(ends)):
            if ends[number] == FAILED:
                ends[number], lines[number] = OPEN, 0
    special = _find_special(book, ends, voided)
    apart = {one.number for one in special}
    return Earlier(
        pending=array(
            "Q", (n for n, end in enumerate(ends) if end == OPEN and n not in apart)
        ),
        special=special,
        lines=lines,
        done=ends.count(DONE),
        failed=ends.count(FAILED),
    )


def _find_special(
    book: TaskBook, ends: bytearray, voided: dict[int, tuple[Address, ...]]
) -> tuple[Special, ...]:
    special = []
    for number in {*voided, *range(book.began_with, len(book))}:
        avoid, is_urgent = voided.get(number, ()), number in voided
        if number >= book.began_with:
            added = book.read_added(number)
            avoid = add_names(added.avoid, avoid)
            is_urgent = is_urgent or added.is_urgent
        if ends[number] == OPEN and (avoid or is_urgent):
            special.append(Special(number, avoid, is_urgent))
    return tuple(sorted(special, key=lambda one: one.number))


async def settle_earlier(store: Store, tenant: Tenant) -> int:
    """Stop what an interrupted run has left running; give what all runs have cost.

    Raises:
        Unavailable: the market did not answer.
    """
    wanted = set(store.read_jobs())
    records = [one for one in tenant.home.read_jobs() if one.id in wanted]
    if not records:
        return 0
    leases = {one.id: one for one in await tenant.connection.leases(is_all=True)}
    cost = 0
    for record in records:
        if record.job.phase is not JobPhase.FINISHED:
            await _stop(record, leases, tenant)
        for attempt in record.job.attempts:
            lease = leases.get(attempt.lease_id)
            signed = attempt.authorized if attempt.paid < 0 else attempt.paid
            if lease is None:
                cost += signed
            elif lease.phase is Phase.SETTLED:
                cost += lease.paid
            else:
                cost += max(signed, lease.paid)
    return cost


async def _stop(record: JobRecord, leases: dict[str, Lease], tenant: Tenant) -> None:
    for attempt in record.job.attempts:
        lease = leases.get(attempt.lease_id)
        if lease is None or lease.phase is Phase.SETTLED:
            continue
        document = Stop(
            lease_id=attempt.lease_id,
            reason=CANCELLED,
            signed_at_s=tenant.clock.now_s(),
            salt=secrets.randbits(SALT_BITS),
        )
        # One that has ended meanwhile needs no stopping.
        with contextlib.suppress(SubletError):
            await tenant.connection.submit(document)
