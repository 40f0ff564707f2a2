"""Readings: what a source says a token costs, and which of them are to be believed.

All prices are integers: US dollars times 10^8 for one whole token (``price_e8``). A round
of readings is sifted in two steps: each for itself (its age, how sure its source is), then
against the others (the median, and how far it lies off). One source is no price.

Not here: what follows from a price over time (``pricing.oracle``).
"""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from sublet.base.limits import CLOCK_SKEW_S_MAX, TEXT_LENGTH_MAX, TIME_S_MAX

E8 = 100_000_000  # of these are one US dollar
PRICE_E8_MAX = 10**9 * E8  # a billion dollars for one token
SOURCES_MIN = 2  # that have to agree before there is a price
OFF_BPS_MAX = 150  # hundredths of a percent: how unsure, or off the median
FRESH_S_MAX = 172_800  # the longest that any source lets a price stand: two days

STALE = "stale"
FUTURE = "future"
UNSURE = "unsure"
OFF_MEDIAN = "off_median"


Name = Annotated[str, Meta(min_length=1, max_length=TEXT_LENGTH_MAX)]
Seconds = Annotated[int, Meta(ge=0, le=TIME_S_MAX)]


class Reading(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one source said of one token. The limits hold where it is decoded."""

    source: Name
    token: Name
    price_e8: Annotated[int, Meta(ge=1, le=PRICE_E8_MAX)]
    # Half the width of its interval; 0 where it tells none.
    confidence_e8: Annotated[int, Meta(ge=0, le=PRICE_E8_MAX)] = 0
    published_at_s: Seconds  # by the source's clock
    fresh_s: Annotated[
        int, Meta(ge=0, le=FRESH_S_MAX)
    ]  # how old it may be and still count; each source has its own


class Fault(Struct, frozen=True, kw_only=True):
    """A source that gave no reading, or one that does not count, and why not."""

    source: Name
    token: Name
    why: Name  # one of the words above, or the code of the error that came instead


class Round(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all sources said when they were asked once."""

    at_s: Seconds
    readings: tuple[Reading, ...] = ()
    faults: tuple[Fault, ...] = ()


def sift(
    readings: Sequence[Reading], *, at_s: int
) -> tuple[tuple[Reading, ...], tuple[Fault, ...]]:
    """Part the readings of one token, one of each source, into believed and dropped.

    The median is taken of those that are fresh and sure; what lies more than
    ``OFF_BPS_MAX`` off it is dropped. Pure.
    """
    faults = [
        Fault(source=x.source, token=x.token, why=_judge(x, at_s)) for x in readings
    ]
    sound = [x for x, fault in zip(readings, faults, strict=True) if not fault.why]
    middle = find_median([x.price_e8 for x in sound])
    near = [not is_off(x.price_e8, middle, bps=OFF_BPS_MAX) for x in sound]
    faults = [fault for fault in faults if fault.why] + [
        Fault(source=x.source, token=x.token, why=OFF_MEDIAN)
        for x, is_near in zip(sound, near, strict=True)
        if not is_near
    ]
    kept = [x for x, is_near in zip(sound, near, strict=True) if is_near]
    return tuple(kept), tuple(sorted(faults, key=lambda fault: fault.source))


def _judge(reading: Reading, at_s: int) -> str:
    """Say what is wrong with a reading by itself; "" where nothing is."""
    if reading.published_at_s > at_s + CLOCK_SKEW_S_MAX:
        return FUTURE
    if at_s - reading.published_at_s > reading.fresh_s:
        return STALE
    if reading.confidence_e8 * 10_000 > OFF_BPS_MAX * reading.price_e8:
        return UNSURE
    return ""


def find_spot(kept: Sequence[Reading]) -> int:
    """Give the median of what is believed; 0 where that is too little for a price."""
    if len(kept) < SOURCES_MIN:
        return 0
    return find_median([reading.price_e8 for reading in kept])


def find_median(prices: Sequence[int]) -> int:
    """Give the middle one; of two in the middle their mean, rounded down; 0 of none.

    >>> find_median([5, 1, 2]), find_median([1, 2, 5, 5]), find_median([])
    (2, 3, 0)
    """
    ranked = sorted(prices)
    if not ranked:
        return 0
    half = len(ranked) // 2
    if len(ranked) % 2:
        return ranked[half]
    return (ranked[half - 1] + ranked[half]) // 2


def is_off(price_e8: int, middle_e8: int, *, bps: int) -> bool:
    """Say whether a price lies more than so many hundredths of a percent off another.

    >>> is_off(101_500, 100_000, bps=150), is_off(101_501, 100_000, bps=150)
    (False, True)
    """
    return abs(price_e8 - middle_e8) * 10_000 > bps * middle_e8
