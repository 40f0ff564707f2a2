"""The average of a token's price over the last half hour, weighted by time.

A sample is what the price was found to be at one moment, 0 where there was none. It holds
until the next one, but never longer than ``HOLD_S_MAX``: what nobody looked at is not in
the average, and an average of less than half of its time is none.
"""

from collections.abc import Sequence

from msgspec import Struct

WINDOW_S = 1_800
HOLD_S_MAX = 300  # seconds that a sample speaks for, where no other comes
COVERED_S_MIN = WINDOW_S // 2


class Sample(Struct, frozen=True, array_like=True, gc=False):
    """A price at one moment."""

    at_s: int
    price_e8: int  # 0: there was none


def add_sample(samples: tuple[Sample, ...], sample: Sample) -> tuple[Sample, ...]:
    """Put a sample, later than all others, at the end; forget what no average needs."""
    oldest_s = sample.at_s - WINDOW_S - HOLD_S_MAX
    return (*(one for one in samples if one.at_s >= oldest_s), sample)


def compute_average(samples: Sequence[Sample], *, at_s: int) -> int:
    """Average the last half hour before ``at_s``, rounded down; 0 where it is unknown.

    >>> compute_average([Sample(0, 100), Sample(300, 200), Sample(600, 200)], at_s=900)
    166
    """
    covered_s = weighed = 0
    ends_s = [sample.at_s for sample in samples[1:]] + [at_s]
    for sample, next_s in zip(samples, ends_s, strict=True):
        end_s = min(next_s, sample.at_s + HOLD_S_MAX)
        span_s = end_s - max(sample.at_s, at_s - WINDOW_S)
        if span_s > 0 and sample.price_e8:
            covered_s += span_s
            weighed += span_s * sample.price_e8
    return weighed // covered_s if covered_s >= COVERED_S_MIN else 0
