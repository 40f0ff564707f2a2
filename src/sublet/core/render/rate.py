"""How many of a provider's units are probed, and what that costs. Pure, integers only.

A worker that falsifies k of its units, of each of which a share f is probed and c of
the false ones among those caught, stays unseen with the chance (1 - f c)^k. So with
nothing but the lowest rate here, 5 %, fifty false units are seen with 92 %; and one that
is seen costs it all units that nobody bore out, its place in the job, and its name. A
falsified part p of one picture is missed by k probes with (1 - p)^k.

The first unit of every provider is probed whatever its name is worth, and none is ever
above being probed. Which of the others are, follows from the tenant's salt and the
hash that the worker committed to (``probe.draw_below``): it cannot know, nor try.

Not here: which part of a unit (``probe``), doubts that have a unit probed in any case
(``scrutiny``).
"""

from msgspec import Struct

from sublet.core.render.probe import draw_below

WHOLE_PPM = 1_000_000
START_PPM = 250_000  # of units whose provider has shown nothing but its first
LEAST_PPM = 50_000  # of anybody's
HALVES_AFTER = 8  # units that were borne out
MARKET_MAX = 8  # what a name is worth here, in units: so much, and no more


class Standing(Struct, frozen=True):
    """What is known of a provider."""

    given: int = 0  # units of this job that it has delivered before
    agreed: int = 0  # of which others bore out
    is_doubted: bool = False  # it was in a dispute that nobody could decide
    leases_completed: int = 0  # in this market (``core.book.record``)
    leases_at_fault: int = 0


def compute_rate(standing: Standing) -> int:
    """Say what share of its next units is probed, in parts per million; never zero.

    >>> compute_rate(Standing()), compute_rate(Standing(given=1, agreed=1))
    (1000000, 222222)
    """
    if standing.given == 0 or standing.is_doubted:
        return WHOLE_PPM
    name = min(
        standing.leases_completed // (1 + 4 * standing.leases_at_fault), MARKET_MAX
    )
    good = (standing.agreed + name) // (1 + standing.leases_at_fault)
    return max(LEAST_PPM, START_PPM * HALVES_AFTER // (HALVES_AFTER + good))


def is_probed(seed: bytes, *, rate_ppm: int) -> bool:
    """Say whether a unit is probed; ``seed`` is the unit's own (``probe.make_seed``)."""
    return draw_below(seed, "chosen", WHOLE_PPM) < rate_ppm


def compute_extra_ppm(*, units: int, providers: int, probe_ppm: int) -> int:
    """Expect what verifying a job costs, as a share of rendering it, rounded up.

    Of honest providers that nobody knows, who get as many units each: so it goes into a
    quote. Disputes are not in it; a liar pays for its own.

    Args:
        units: of the job.
        providers: that share them.
        probe_ppm: what all probes of one unit cost, as a share of the unit.
    """
    probed_ppm, left = 0, units
    for place in range(providers):
        own = left // (providers - place)
        left -= own
        probed_ppm += _expect_probed(own)
    return -(-probed_ppm * probe_ppm // (max(1, units) * WHOLE_PPM))


def _expect_probed(units: int) -> int:
    """Expect how many of a provider's units are probed, in millionths."""
    probed_ppm = 0
    for given in range(units):
        rate = compute_rate(Standing(given=given, agreed=probed_ppm // WHOLE_PPM))
        probed_ppm += rate
        if rate == LEAST_PPM:
            return probed_ppm + LEAST_PPM * (units - given - 1)
    return probed_ppm
