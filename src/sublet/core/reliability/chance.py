"""The predicted chance that a provider finishes a job of a length. Pure, integers only.

A provider's faults are taken to come as a Poisson process. What is known of their rate
is Gamma distributed: one fault in a day before anything is known, then one more for each
lease that it lost, and the hours that its leases ran (the conjugate prior; Gelman et al.,
*Bayesian Data Analysis*, section 2.6). With the mean of that rate, a job whose own
length is exponential with the asked mean ends before a fault with the chance

    lasts / (lasts + asked),   lasts = (1 day + ran) / (1 + faults)

So a new name is worth one day without faults, and no more than that can be won by
taking another name. Uptime without leases counts nothing: it costs nothing to claim.
"""

from typing import Any

PRIOR_S = 86_400  # one fault in so long, of somebody unknown
STEP_S = 3_600  # whole hours count, so that a rank does not move at every payment
LASTS_S_MAX = 1 << 40
CERTAIN = 1_000_000  # parts per million


def lasts_s(*, ran_s: int, faults: int) -> int:
    """Predict the seconds between two faults, in whole hours but for the unreliable.

    Args:
        ran_s: seconds that the provider's settled leases ran.
        faults: how many of its leases ended by its own fault.

    >>> lasts_s(ran_s=0, faults=0), lasts_s(ran_s=90_000, faults=1)
    (86400, 86400)
    """
    lasts = (PRIOR_S + ran_s) // (1 + faults)
    return min(max(1, lasts - lasts % STEP_S if lasts > STEP_S else lasts), LASTS_S_MAX)


def chance_ppm(lasts: Any, asked_s: int) -> Any:
    """Predict how likely each finishes, in parts per million, rounded down but never 0.

    Of a number, of an array, and compiled as it stands (``core.book.kernel``).

    Args:
        lasts: seconds between two faults, as ``lasts_s`` gives them.
        asked_s: the duration that is asked for.

    >>> chance_ppm(86_400, asked_s=86_400), chance_ppm(1, asked_s=1 << 30)
    (500000, 1)
    """
    return 1 + lasts * (CERTAIN - 1) // (lasts + asked_s)
