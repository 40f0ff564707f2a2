"""What a render costs, in minutes of a reference machine. Pure.

SheepIt's rule: work is counted in the minutes that a reference machine would take, so
that a slow machine cannot bill more for the same picture. A machine's speed is measured
by a fixed scene, the best of several tries: a busy moment makes nobody slower for long.

Not here: what an hour of a machine costs (the market says that).
"""

from collections.abc import Sequence

from msgspec import Struct

REFERENCE_MS = 10_000  # that the reference scene takes on the reference machine
MILLI = 1_000
HOUR_MS = 3_600_000
SPREAD_LOW_MILLI = 700  # of an estimate: as little, and as much, in nine of ten jobs;
SPREAD_HIGH_MILLI = 1_800  # guessed, as long as nobody has measured it over many


class Work(Struct, frozen=True):
    """How long the units of a job take on the reference machine, milliseconds."""

    low_ms: int
    likely_ms: int
    high_ms: int


class RenderQuote(Struct, frozen=True):
    """What a job will cost, before anything is rented. Money in micro-USD."""

    units: int
    work: Work  # of all units, on the reference machine
    price_hour: int  # of the reference machine; of the one that the market would give
    low: int
    likely: int
    high: int
    cap: int  # --max-total: never more than this
    check_milli: int  # of the cost, that goes into checking others' pictures
    finish_ms: int  # with so many machines as were asked for


def find_speed(measured_ms: Sequence[int]) -> int:
    """Give a machine's speed in thousandths of the reference machine's.

    Args:
        measured_ms: how long the reference scene took, each time; the best one counts.

    >>> find_speed([7_000, 5_000, 9_000])
    2000
    """
    return REFERENCE_MS * MILLI // max(1, min(measured_ms))


def count_reference_ms(ran_ms: int, *, speed_milli: int) -> int:
    """Give the reference machine's milliseconds for work that took so many here.

    >>> count_reference_ms(3_000, speed_milli=2_000)
    6000
    """
    return ran_ms * speed_milli // MILLI


def spread(likely_ms: int) -> Work:
    """Give an estimate with its range."""
    return Work(
        low_ms=likely_ms * SPREAD_LOW_MILLI // MILLI,
        likely_ms=likely_ms,
        high_ms=likely_ms * SPREAD_HIGH_MILLI // MILLI,
    )


def make_quote(
    work: Work,
    *,
    units: int,
    price_hour: int,
    speed_milli: int,
    cap: int,
    check_milli: int,
    machines: int,
    start_ms: int,
) -> RenderQuote:
    """Say what a job costs on machines of one price and speed.

    Args:
        work: on the reference machine.
        units: how many.
        price_hour: of one machine.
        speed_milli: of one machine, in thousandths of the reference machine's.
        cap: that the tenant pays at most.
        check_milli: what checking costs, in thousandths of the rendering.
        machines: at one time.
        start_ms: until a machine is ready, paid for by nobody.
    """
    price_reference = price_hour * MILLI // max(1, speed_milli)

    def price(ms: int) -> int:
        checked_ms = ms + ms * check_milli // MILLI
        return min(cap, -(-checked_ms * price_reference // HOUR_MS))

    wide = max(1, min(machines, units))
    likely_ms = work.likely_ms + work.likely_ms * check_milli // MILLI
    return RenderQuote(
        units=units,
        work=work,
        price_hour=price_reference,
        low=price(work.low_ms),
        likely=price(work.likely_ms),
        high=price(work.high_ms),
        cap=cap,
        check_milli=check_milli,
        finish_ms=start_ms + likely_ms * MILLI // max(1, speed_milli) // wide,
    )


class Tier(Struct, frozen=True):
    """A price of Render Network as it was published."""

    name: str
    octane_hours: int  # OctaneBench hours that one credit buys


class OctaneScore(Struct, frozen=True):
    """What a GPU makes in OctaneBench: so many OctaneBench hours an hour."""

    model: str
    score_milli: int
    source: str


TIERS = (Tier("priority (tier 2)", 100), Tier("economy (tier 3)", 200))
TIERS_SOURCE = "know.rendernetwork.com, How much does RNDR cost; read 2025"
OCTANE_SCORES = (
    OctaneScore("rtx4090 laptop", 776_910, "render.otoy.com/octanebench, median of 63"),
    OctaneScore("a100", 446_000, "render.otoy.com/octanebench, OB4, RTX off"),
    OctaneScore("rtx2080ti", 302_000, "render.otoy.com/octanebench, OB4"),
    OctaneScore("rtx8000", 328_000, "render.otoy.com/octanebench, OB4"),
    OctaneScore("gtx980", 100_000, "render.otoy.com/octanebench, OB4"),
)


class TierPrice(Struct, frozen=True):
    """What Render Network would take for the same hours of the same GPU."""

    tier: str
    gpu: str
    credits_milli: int
    source: str


def compare_tiers(gpu_model: str, *, gpu_ms: int) -> tuple[TierPrice, ...]:
    """Price GPU time in Render Network's credits, where a score was published.

    Nothing for a GPU without one, and for work on processors: it sells none.
    """
    scores = [one for one in OCTANE_SCORES if one.model == gpu_model]
    return tuple(
        TierPrice(
            tier=tier.name,
            gpu=score.model,
            credits_milli=score.score_milli * gpu_ms // HOUR_MS // tier.octane_hours,
            source=f"{TIERS_SOURCE}; {score.source}",
        )
        for score in scores
        for tier in TIERS
    )
