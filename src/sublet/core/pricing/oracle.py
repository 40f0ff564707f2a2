"""The guards around a token's price: when it may be used, and when nothing may.

A ``Watch`` is what is known of one token. It is the fold of readings and ticks: a reading
takes the place of that source's last one, a tick sifts them all and judges. The guard is

- ``ok``: deposits are converted at the spot price.
- ``warn``: nothing new is converted. Fewer than two sources, or no average yet, or the spot
  price is more than 5 % off the average of half an hour; for a token that stands for a
  dollar also ten minutes below $0.995.
- ``halt``: nothing new is converted, and no channel is opened. More than 15 % off the
  average, or no source at all for ten minutes; for a token that stands for a dollar below
  $0.97 instead of silence, since nothing is converted at its price. A halt ends when the
  price was within 2 % of its average for half an hour on end.

Claims, refunds and withdrawals are of amounts that are fixed already; nothing that moves
money out of a channel knows this module (held by an import contract).
"""

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from sublet.core.pricing.average import (
    HOLD_S_MAX,
    Sample,
    add_sample,
    compute_average,
)
from sublet.core.pricing.reading import (
    E8,
    SOURCES_MIN,
    Fault,
    Reading,
    Round,
    find_spot,
    is_off,
    sift,
)

WARN_BPS = 500  # spot off its average, in hundredths of a percent
HALT_BPS = 1_500
CALM_BPS = 200
CALM_S = 1_800  # on end, before a halt is over
SILENCE_S = 600
PEG_WARN_E8 = 995 * E8 // 1_000
PEG_WARN_S = 600
PEG_HALT_E8 = 97 * E8 // 100
SOURCES_MAX = 16  # of one token
NEVER = -1


class Guard(StrEnum):
    """What may be done at this price."""

    OK = "ok"
    WARN = "warn"
    HALT = "halt"


class Reason(StrEnum):
    """Why a guard is up."""

    FEW_SOURCES = "few_sources"  # fewer than two are believed
    NO_AVERAGE = "no_average"  # watched for too short a time
    MOVING = "moving"  # more than 5 % off the average
    JUMPED = "jumped"  # more than 15 % off the average
    SILENT = "silent"  # no source for ten minutes
    BELOW_PEG = "below_peg"  # a dollar's token below $0.995 for ten minutes
    OFF_PEG = "off_peg"  # a dollar's token below $0.97
    SETTLING = "settling"  # a halt whose cause is gone, but not for long enough


class Watch(Struct, frozen=True, kw_only=True):
    """What is known of one token's price; times in seconds, ``NEVER`` for none."""

    token: str
    is_dollar: bool = False  # stands for one US dollar, and is not converted at a price
    latest: tuple[Reading, ...] = ()  # one of each source
    samples: tuple[Sample, ...] = ()
    kept: tuple[Reading, ...] = ()  # of the last tick
    faults: tuple[Fault, ...] = ()  # of the last tick
    spot_e8: int = 0  # 0: there is none
    average_e8: int = 0
    guard: Guard = Guard.WARN
    reasons: tuple[Reason, ...] = (Reason.FEW_SOURCES, Reason.NO_AVERAGE)
    since_s: int = NEVER  # of the guard
    judged_at_s: int = NEVER
    heard_at_s: int = NEVER  # when a source was last believed
    calm_since_s: int = NEVER
    below_since_s: int = NEVER


class Tick(Struct, frozen=True):
    """Time has come to judge what has been read."""

    at_s: int


def step(watch: Watch, fact: Reading | Tick) -> Watch:
    """Take in what a source said, or judge. Pure.

    A reading of another token, and a tick that is not later than the last, change
    nothing; nor does a new source where there are ``SOURCES_MAX``.
    """
    if isinstance(fact, Tick):
        return _judge(watch, fact.at_s) if fact.at_s > watch.judged_at_s else watch
    others = tuple(x for x in watch.latest if x.source != fact.source)
    if fact.token != watch.token or len(others) >= SOURCES_MAX:
        return watch
    return replace(watch, latest=(*others, fact))


def take_round(watch: Watch, taken: Round) -> Watch:
    """Take in all that was said in one round, and judge; others' tokens are left out."""
    for reading in taken.readings:
        watch = step(watch, reading)
    return step(watch, Tick(taken.at_s))


def _judge(watch: Watch, at_s: int) -> Watch:
    kept, faults = sift(watch.latest, at_s=at_s)
    spot_e8 = find_spot(kept)
    samples = add_sample(watch.samples, Sample(at_s, spot_e8))
    is_first = watch.judged_at_s == NEVER
    seen = replace(
        watch,
        kept=kept,
        faults=faults,
        spot_e8=spot_e8,
        samples=samples,
        average_e8=compute_average(samples, at_s=at_s),
        heard_at_s=at_s if kept or is_first else watch.heard_at_s,
        below_since_s=_find_below_since(watch, spot_e8, at_s),
        judged_at_s=at_s,
    )
    halting = _find_halting(seen)
    is_seamless = not is_first and at_s - watch.judged_at_s <= HOLD_S_MAX
    calm_since_s = NEVER
    if not halting and _is_within(seen, CALM_BPS):
        is_going_on = watch.calm_since_s != NEVER and is_seamless
        calm_since_s = watch.calm_since_s if is_going_on else at_s
    guard, reasons = _decide(
        watch.guard, halting, _find_warning(seen), calm_since_s, at_s
    )
    is_same = guard is watch.guard and not is_first
    return replace(
        seen,
        calm_since_s=calm_since_s,
        guard=guard,
        reasons=reasons,
        since_s=watch.since_s if is_same else at_s,
    )


def _decide(
    before: Guard,
    halting: tuple[Reason, ...],
    warning: tuple[Reason, ...],
    calm_since_s: int,
    at_s: int,
) -> tuple[Guard, tuple[Reason, ...]]:
    if halting:
        return Guard.HALT, halting
    is_calm = calm_since_s != NEVER and at_s - calm_since_s >= CALM_S
    if before is Guard.HALT and not is_calm:
        return Guard.HALT, (Reason.SETTLING, *warning)
    return (Guard.WARN if warning else Guard.OK), warning


def _find_halting(seen: Watch) -> tuple[Reason, ...]:
    found = {
        Reason.JUMPED: bool(seen.spot_e8) and _is_beyond(seen, HALT_BPS),
        Reason.SILENT: not seen.is_dollar
        and seen.judged_at_s - seen.heard_at_s >= SILENCE_S,
        Reason.OFF_PEG: seen.is_dollar and 0 < seen.spot_e8 < PEG_HALT_E8,
    }
    return tuple(reason for reason, is_so in found.items() if is_so)


def _find_warning(seen: Watch) -> tuple[Reason, ...]:
    below_s = seen.judged_at_s - seen.below_since_s
    found = {
        Reason.FEW_SOURCES: len(seen.kept) < SOURCES_MIN,
        Reason.NO_AVERAGE: not seen.average_e8,
        Reason.MOVING: bool(seen.spot_e8) and _is_beyond(seen, WARN_BPS),
        Reason.BELOW_PEG: seen.below_since_s != NEVER and below_s >= PEG_WARN_S,
    }
    return tuple(reason for reason, is_so in found.items() if is_so)


def _find_below_since(watch: Watch, spot_e8: int, at_s: int) -> int:
    """Say since when a dollar's token is below its peg; silence ends nothing."""
    if not watch.is_dollar or spot_e8 >= PEG_WARN_E8:
        return NEVER
    if spot_e8 and watch.below_since_s == NEVER:
        return at_s
    return watch.below_since_s


def _is_beyond(seen: Watch, bps: int) -> bool:
    has_average = seen.average_e8 > 0
    return has_average and is_off(seen.spot_e8, seen.average_e8, bps=bps)


def _is_within(seen: Watch, bps: int) -> bool:
    has_both = seen.spot_e8 > 0 and seen.average_e8 > 0
    return has_both and not is_off(seen.spot_e8, seen.average_e8, bps=bps)
