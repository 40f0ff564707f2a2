"""What a tenant may expect of an order: when it begins, and when the work is done.

A look ahead, not a promise; each number says on what it rests. Whole numbers only. Not
here: what the book knows (``book.look_ahead``).
"""

from msgspec import Struct

from sublet.base.ids import Address

MILLION = 1_000_000
SURE_PPM = 900_000  # the late end of the range holds nine times of ten
RESTARTS_MAX = 20


class Outlook(Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/outlook. All spans in seconds from now on; -1 where nobody can tell."""

    provider: Address  # that would win now; NO_ADDRESS where none fits
    wait_basis: str  # "free", "leases_end", "nothing_fits"
    wait_s: int
    wait_s_max: int
    leases_before: int  # open leases that have to end first, by their longest
    prepare_s: int  # from the match to the start of the job
    prepare_s_max: int  # the market's deadlines allow no more
    samples: int  # leases that are over, on which wait_s and prepare_s rest
    run_s: int  # asked, at the measured speed
    speed_ppm: int  # of the winner, to the median of its kind; 0: not measured
    chance_ppm: int  # that the provider lasts the run
    leases_completed: int  # of that provider
    leases_at_fault: int  # and what they ran: on that chance_ppm rests
    restart_s: int  # what a loss costs besides the work that is lost
    finish_s_min: int  # a machine at once, and it lasts
    finish_s: int  # to be expected, losses included
    finish_s_max: int  # nine of ten are done by then


def compute_finish(
    *,
    wait_s: int,
    wait_s_max: int,
    prepare_s: int,
    prepare_s_max: int,
    run_s: int,
    restart_s: int,
    chance_ppm: int,
) -> tuple[int, int, int]:
    """Say when work is done: at best, to be expected, and nine times of ten by then.

    Without checkpoints: a loss costs half the run on average and the whole at worst. Where
    the wait is not known (-1), the end is not, either.

    >>> compute_finish(wait_s=0, wait_s_max=0, prepare_s=10, prepare_s_max=60,
    ...     run_s=3_600, restart_s=40, chance_ppm=900_000)
    (3610, 3814, 3814)
    """
    if wait_s < 0:
        return -1, -1, -1
    lost_s = (run_s // 2 + restart_s) * (MILLION - chance_ppm) // chance_ppm
    expected_s = wait_s + prepare_s + run_s + lost_s
    late_s = count_restarts(chance_ppm) * (run_s + restart_s)
    late_s += wait_s_max + prepare_s_max + run_s
    return prepare_s + run_s, expected_s, max(expected_s, late_s)


def count_restarts(chance_ppm: int) -> int:
    """Count the losses that nine runs of ten stay at or below.

    >>> [count_restarts(chance) for chance in (1_000_000, 900_000, 500_000)]
    [0, 0, 3]
    """
    lost_ppm, count = MILLION - chance_ppm, 0
    while lost_ppm > MILLION - SURE_PPM and count < RESTARTS_MAX:
        lost_ppm = lost_ppm * (MILLION - chance_ppm) // MILLION
        count += 1
    return count
