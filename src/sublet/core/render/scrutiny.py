"""What a worker's report gives away by itself, before any probe. Pure.

A **fault** is the worker's own word against it, or a picture that is not what it says:
the unit is void. A **doubt** proves nothing to others (a still scene has equal frames, a
machine may be busy, clocks are our own) but has the unit probed, whatever the rate.

Who bills a CPU as a GPU gives itself away three ways: it takes the time of a CPU, which
is a doubt; its pixels are not equal to those of the class that it names (``compare``);
and its bill is in reference minutes, so that being slow earns nothing.
"""

from collections.abc import Mapping

from msgspec import Struct

from sublet.base.ids import Digest
from sublet.core.render.unit import Frame, Recipe, Unit, UnitReport, get_tile

FASTER_MAX = 3.0  # times as fast as its own calibration says: then it skipped something
SLOWER_MAX = 4.0  # times as slow: then another device did it
TIMER_S = 0.25  # that clocks, and what starts and ends a render call, may differ
_DEVICES = {"cpu": ("cpu-",), "cuda": ("cuda-",), "optix": ("optix-",)}
_TOY = "toy"


class Expectation(Struct, frozen=True):
    """What is known of the provider and its machine, beside the recipe."""

    kernel: str = ""  # class that it was calibrated in; "" where it never was
    seconds: float = 0.0  # of this unit by that calibration; 0: unknown
    took_s: float = 0.0  # from sending to hearing, by the tenant's clock


class Scrutiny(Struct, frozen=True):
    """What was found; stable words."""

    faults: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def scrutinise(
    report: UnitReport,
    *,
    unit: Unit,
    recipe: Recipe,
    arrived: Digest,
    known: Expectation,
    frames: Mapping[Digest, Frame],
) -> Scrutiny:
    """Hold a report against the recipe, the picture that came with it, and the clock.

    Args:
        report: of the worker.
        unit: that it was given.
        recipe: of the job.
        arrived: the hash of the picture that came with it.
        known: of the provider.
        frames: hashes of the job's other units so far, and which frame each is of.
    """
    tile = get_tile(unit, recipe)
    wrong = {
        "wrong_size": (report.width, report.height) != (tile.width, tile.height),
        "wrong_hash": report.pixels != arrived,
        "wrong_build": report.build != recipe.build,
        "wrong_device": report.device != recipe.device,
        "wrong_kernel": not _is_kernel_of(report, recipe)
        or known.kernel not in ("", report.kernel),
    }
    return Scrutiny(
        faults=tuple(name for name, is_so in wrong.items() if is_so),
        doubts=_find_doubts(report, unit=unit, known=known, frames=frames),
    )


def _is_kernel_of(report: UnitReport, recipe: Recipe) -> bool:
    if recipe.engine == _TOY:
        return report.kernel.startswith(_TOY)
    return report.kernel.startswith(_DEVICES[recipe.device])


def _find_doubts(
    report: UnitReport,
    *,
    unit: Unit,
    known: Expectation,
    frames: Mapping[Digest, Frame],
) -> tuple[str, ...]:
    expected_s = known.seconds
    doubtful = {
        "frame_twice": frames.get(report.pixels, unit.frame) != unit.frame,
        "impossible_time": 0 < known.took_s < report.seconds - TIMER_S,
        "too_fast": report.seconds + TIMER_S < expected_s / FASTER_MAX,
        "too_slow": 0 < expected_s < (report.seconds - TIMER_S) / SLOWER_MAX,
    }
    return tuple(name for name, is_so in doubtful.items() if is_so)
