"""What an order may expect: when a machine comes free, and when the work is done.

A look ahead, not a promise: it rests on the longest that open leases may run, on how
long those that are over ran of what they might have, and on how their provider's leases
ended. Each number says on what it rests. Whole numbers only.

Not here: what a machine costs now (``quote``).
"""

from itertools import islice

from msgspec import Struct

from sublet.base.ids import NO_ADDRESS, Digest
from sublet.core.book.book import Book
from sublet.core.book.prices import Survey
from sublet.core.book.quote import quote
from sublet.core.book.why_not import NoMatch
from sublet.core.document import Order
from sublet.core.lease.phase import Lease, Phase
from sublet.core.lease.table import holds_slice
from sublet.core.outlook import MILLION, Outlook, compute_finish
from sublet.core.reliability.chance import chance_ppm
from sublet.core.tape.quantile import find_percentiles

LEASES_MAX = 1_024  # of those that end first: more are not looked at
SAMPLES_MAX = 512  # newest leases that are over, and say how long things take

_NOT_STARTED = (Phase.MATCHED, Phase.ACCEPTED, Phase.PREPARING)


class _Habits(Struct, frozen=True):
    """How leases went that are over."""

    samples: int
    ran_ppm: int  # median share of the time that they might have run
    prepare_s: int  # median; -1 without samples


def look_ahead(book: Book, seen: Survey, *, order: Order, now_s: int) -> Outlook:
    """Say what this order may expect at ``now_s``.

    Where nothing fits, slices are released in the book and bound again, to see when
    something would: so it wants a copy of the book, which nobody else uses meanwhile.

    Raises:
        Refused: ``bad_order`` or ``total_too_small``, as ``quote``.
    """
    habits = _find_habits(book)
    provider, run_s = NO_ADDRESS, order.duration_s_max
    before, wait_s, wait_s_max = 0, 0, 0
    basis, speed_ppm = "free", 0
    try:
        match = quote(book, order, now_s=now_s)
    except NoMatch:
        before, wait_s, wait_s_max = _find_wait(book, order, habits, now_s=now_s)
        basis = "leases_end" if before else "nothing_fits"
    else:
        provider, run_s = match.provider, match.duration_s
        speed_ppm = _find_speed(book, seen, order, match.offer_id)
    if speed_ppm:
        run_s = max(1, min(run_s * MILLION // speed_ppm, run_s))
    record = book.find_provider(provider)
    # As the score weighs it, so that a quote says the same in both places.
    chance = chance_ppm(record.lasts_s, asked_s=max(1, order.duration_s_max))
    rules = book.rules
    prepare_s_max = rules.accept_s + rules.deliver_s + rules.prepare_s
    prepare_s = max(habits.prepare_s, 0)
    restart_s = rules.report_s + prepare_s
    finish = compute_finish(
        wait_s=wait_s,
        wait_s_max=wait_s_max,
        prepare_s=prepare_s,
        prepare_s_max=prepare_s_max,
        run_s=run_s,
        restart_s=restart_s,
        chance_ppm=chance,
    )
    return Outlook(
        provider=provider,
        wait_basis=basis,
        wait_s=wait_s,
        wait_s_max=wait_s_max,
        leases_before=before,
        prepare_s=habits.prepare_s,
        prepare_s_max=prepare_s_max,
        samples=habits.samples,
        run_s=run_s,
        speed_ppm=speed_ppm,
        chance_ppm=chance,
        leases_completed=record.leases_completed,
        leases_at_fault=record.leases_at_fault,
        restart_s=restart_s,
        finish_s_min=finish[0],
        finish_s=finish[1],
        finish_s_max=finish[2],
    )


def _find_wait(
    book: Book, order: Order, habits: _Habits, *, now_s: int
) -> tuple[int, int, int]:
    """Give how many leases have to end, when that is to be expected, and at the latest."""
    leases = [lease for lease in book.leases.values() if holds_slice(lease)]
    latest = {lease.id: _find_end(book, lease, now_s=now_s) for lease in leases}
    ends = sorted((latest[lease.id], lease.id, lease) for lease in leases)
    leases = [lease for *_, lease in ends[:LEASES_MAX]]
    count = _count_before(book, order, leases, now_s=now_s)
    if not count:
        return 0, -1, -1
    wait_s_max = latest[leases[count - 1].id] - now_s
    if not habits.samples:
        return count, wait_s_max, wait_s_max
    usual = sorted(
        (_find_usual_end(lease, latest[lease.id], habits, now_s=now_s), lease.id, lease)
        for lease in leases
    )
    sooner = _count_before(book, order, [lease for *_, lease in usual], now_s=now_s)
    return count, min(usual[sooner - 1][0] - now_s, wait_s_max), wait_s_max


def _count_before(twin: Book, order: Order, leases: list[Lease], *, now_s: int) -> int:
    """Count how many of these have to end, in this order, until the order fits.

    0 where it would not fit then, either. What comes free never makes an order fit
    less, so the place is found by halving. The twin's offers are as before afterwards.
    """
    free = 0

    def release(wanted: int) -> None:
        nonlocal free
        for lease in leases[free:wanted]:
            twin.offers.release(lease)
        for lease in leases[wanted:free]:
            twin.offers.bind(lease)
        free = wanted

    low, high = 0, len(leases)
    try:
        release(high)
        if not _fits(twin, order, now_s=now_s):
            return 0
        while high - low > 1:
            middle = (low + high) // 2
            release(middle)
            if _fits(twin, order, now_s=now_s):
                high = middle
            else:
                low = middle
    finally:
        release(0)
    return high


def _fits(book: Book, order: Order, *, now_s: int) -> bool:
    try:
        quote(book, order, now_s=now_s)
    except NoMatch:
        return False
    return True


def _find_end(book: Book, lease: Lease, *, now_s: int) -> int:
    """Give when the slice is free at the latest, if nobody asks for an erasure."""
    rules = book.rules
    if lease.phase in _NOT_STARTED:
        spans = (rules.deliver_s, rules.prepare_s, lease.duration_s, rules.close_s)
        return max(now_s, lease.deadline_s) + sum(spans)
    if lease.phase is Phase.RUNNING:
        return max(now_s, lease.ends_by_s) + rules.close_s
    return max(now_s, lease.deadline_s)


def _find_usual_end(lease: Lease, latest_s: int, habits: _Habits, *, now_s: int) -> int:
    """Give when it ends if it runs as long as others; the latest where it ran longer."""
    runs_s = lease.duration_s * habits.ran_ppm // MILLION
    begun_s = lease.started_at_s or now_s + max(0, habits.prepare_s)
    end_s = begun_s + runs_s
    return end_s if now_s < end_s < latest_s else latest_s


def _find_habits(book: Book) -> _Habits:
    over = [
        lease
        for lease in islice(reversed(book.settled.values()), SAMPLES_MAX)
        if lease.started_at_s
    ]
    (ran_ppm,) = find_percentiles(
        ((lease.ran_ms * 1_000 // lease.duration_s, 1) for lease in over),
        percents=[50],
    )
    (prepare_s,) = find_percentiles(
        ((lease.started_at_s - lease.matched_at_s, 1) for lease in over),
        percents=[50],
    )
    return _Habits(len(over), min(max(ran_ppm, 0), MILLION), prepare_s)


def _find_speed(book: Book, seen: Survey, order: Order, offer_id: Digest) -> int:
    """Compare the winner with the median of its kind, in millionths; 0: not measured."""
    column = "gpu_score" if order.gpu_count else "cpu_score"
    record = book.offers.find(offer_id)
    assert record is not None  # it matched just now
    median = seen.scores.get((record.offer.gpu_model, column), 0)
    score: int = getattr(record.offer, column)
    return score * MILLION // median if median > 0 else 0
