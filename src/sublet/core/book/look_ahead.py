"""What an order may expect: when a machine comes free, and when the work is done.

A look ahead, not a promise: it rests on the longest that open leases may run, on how
long those that are over ran of what they might have, and on how their provider's leases
ended. Each number says on what it rests. Whole numbers only.

Where something fits, the book itself answers. Where nothing does, it takes its time, and
so in steps: the book is looked at in the first (``look_now``) and the third
(``excerpt.pick``), while it stands still; ``choose_leases`` between and ``look_later`` at the
end are for another thread.

Not here: what a machine costs now (``quote``).
"""

from functools import partial
from heapq import nsmallest
from itertools import islice

from msgspec import Struct

from sublet.base.ids import NO_ADDRESS, Digest
from sublet.core.book.book import Book
from sublet.core.book.excerpt import Excerpt
from sublet.core.book.prices import Survey
from sublet.core.book.quote import Match, find_match
from sublet.core.book.record import ProviderRecord
from sublet.core.book.why_not import NoMatch
from sublet.core.document import Market, Order
from sublet.core.lease.phase import Lease, Phase
from sublet.core.lease.table import holds_slice
from sublet.core.outlook import MILLION, Outlook, compute_finish
from sublet.core.reliability.chance import chance_ppm
from sublet.core.tape.quantile import find_percentiles

LEASES_MAX = 1_024  # of those that end first: more are not looked at
SAMPLES_MAX = 512  # newest leases that are over, and say how long things take

_NOT_STARTED = (Phase.MATCHED, Phase.ACCEPTED, Phase.PREPARING)


class _Wait(Struct, frozen=True):
    """How long it takes until something fits; fields as in ``Outlook``."""

    basis: str
    leases_before: int
    wait_s: int
    wait_s_max: int


class _Habits(Struct, frozen=True):
    """How leases went that are over."""

    samples: int
    ran_ppm: int  # median share of the time that they might have run
    prepare_s: int  # median; -1 without samples


class Unmet(Struct, frozen=True):
    """An order that nothing fits now, and what its wait is found from."""

    order: Order
    now_s: int
    rules: Market
    habits: _Habits
    leases: tuple[Lease, ...]  # all that were open then


def look_now(book: Book, seen: Survey, *, order: Order, now_s: int) -> Outlook | Unmet:
    """Say what this order may expect at ``now_s``, while something fits. Quick.

    Raises:
        Refused: ``bad_order`` or ``total_too_small``, as ``quote``.
    """
    habits = _find_habits(book)
    match = _match(book, order, now_s=now_s)
    if match is None:
        leases = tuple(book.leases.values())
        return Unmet(order, now_s, book.rules, habits, leases)
    speed_ppm = _find_speed(book, seen, order, match.offer_id)
    run_s = match.duration_s
    if speed_ppm:
        run_s = max(1, min(run_s * MILLION // speed_ppm, run_s))
    record = book.find_provider(match.provider)
    wait = _Wait("free", 0, 0, 0)
    return _tell(order, book.rules, habits, wait, record, run_s, speed_ppm)


def choose_leases(unmet: Unmet) -> tuple[Lease, ...]:
    """Choose of the leases those that end first; looks at each of them."""
    leases = (lease for lease in unmet.leases if holds_slice(lease))
    return tuple(nsmallest(LEASES_MAX, leases, key=partial(_find_place, unmet)))


def look_later(unmet: Unmet, excerpt: Excerpt) -> Outlook:
    """Say what the order may expect once leases have ended.

    In the excerpt slices are released, to see when something would fit.

    Raises:
        Refused: ``total_too_small``, as ``quote``.
    """
    wait = _find_wait(unmet, excerpt)
    nobody = ProviderRecord(NO_ADDRESS)
    run_s = unmet.order.duration_s_max
    return _tell(unmet.order, unmet.rules, unmet.habits, wait, nobody, run_s, 0)


def _tell(
    order: Order,
    rules: Market,
    habits: _Habits,
    wait: _Wait,
    record: ProviderRecord,
    run_s: int,
    speed_ppm: int,
) -> Outlook:
    # As the score weighs it, so that a quote says the same in both places.
    chance = chance_ppm(record.lasts_s, asked_s=max(1, order.duration_s_max))
    prepare_s_max = rules.accept_s + rules.deliver_s + rules.prepare_s
    prepare_s = max(habits.prepare_s, 0)
    restart_s = rules.report_s + prepare_s
    finish = compute_finish(
        wait_s=wait.wait_s,
        wait_s_max=wait.wait_s_max,
        prepare_s=prepare_s,
        prepare_s_max=prepare_s_max,
        run_s=run_s,
        restart_s=restart_s,
        chance_ppm=chance,
    )
    return Outlook(
        provider=record.provider,
        wait_basis=wait.basis,
        wait_s=wait.wait_s,
        wait_s_max=wait.wait_s_max,
        leases_before=wait.leases_before,
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


def _find_wait(unmet: Unmet, excerpt: Excerpt) -> _Wait:
    """Find how many leases have to end, when that is to be expected, and at the latest."""
    now_s, order, habits = unmet.now_s, unmet.order, unmet.habits
    small = excerpt.make(now_s=now_s)
    place = partial(_find_place, unmet)
    leases = sorted(excerpt.leases, key=place)
    count = _count_before(small, order, leases, now_s=now_s)
    if not count:
        return _Wait("nothing_fits", 0, -1, -1)
    wait_s_max = place(leases[count - 1])[0] - now_s
    if not habits.samples:
        return _Wait("leases_end", count, wait_s_max, wait_s_max)
    usual = sorted(
        (_find_usual_end(lease, place(lease)[0], habits, now_s=now_s), lease.id, lease)
        for lease in leases
    )
    sooner = _count_before(small, order, [lease for *_, lease in usual], now_s=now_s)
    wait_s = min(usual[sooner - 1][0] - now_s, wait_s_max)
    return _Wait("leases_end", count, wait_s, wait_s_max)


def _find_place(unmet: Unmet, lease: Lease) -> tuple[int, Digest]:
    return _find_end(unmet.rules, lease, now_s=unmet.now_s), lease.id


def _count_before(small: Book, order: Order, leases: list[Lease], *, now_s: int) -> int:
    """Count how many of these have to end, in this order, until the order fits.

    0 where it would not fit then, either. What comes free never makes an order fit
    less, so the place is found by halving. The small's offers are as before afterwards.
    """
    free = 0

    def release(wanted: int) -> None:
        nonlocal free
        for lease in leases[free:wanted]:
            small.offers.release(lease)
        for lease in leases[wanted:free]:
            small.offers.bind(lease)
        free = wanted

    low, high = 0, len(leases)
    try:
        release(high)
        if _match(small, order, now_s=now_s) is None:
            return 0
        while high - low > 1:
            middle = (low + high) // 2
            release(middle)
            if _match(small, order, now_s=now_s) is not None:
                high = middle
            else:
                low = middle
    finally:
        release(0)
    return high


def _match(book: Book, order: Order, *, now_s: int) -> Match | None:
    try:
        return find_match(book, order, now_s=now_s)
    except NoMatch:  # of a gang
        return None


def _find_end(rules: Market, lease: Lease, *, now_s: int) -> int:
    """Give when the slice is free at the latest, if nobody asks for an erasure."""
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
