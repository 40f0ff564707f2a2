"""What a report gives away before any probe."""

import msgspec
import pytest

from sublet.core.render.scrutiny import Expectation, scrutinise
from sublet.core.render.unit import Recipe, Tile, Unit, UnitReport

BUILD = "blender 5.0.1 a3db93c5b259"
HASH = "0x" + "11" * 32
RECIPE = Recipe(
    scene="a.blend",
    root="0x" + "ab" * 32,
    build=BUILD,
    engine="cycles",
    device="cuda",
    width=320,
    height=180,
    samples=8,
    seed=0,
)
REPORT = UnitReport(
    pixels=HASH,
    width=320,
    height=180,
    device="cuda",
    kernel="cuda-sm_90",
    build=BUILD,
    seconds=4.0,
)
KNOWN = Expectation(kernel="cuda-sm_90", seconds=4.0, took_s=5.0)


UNIT = Unit(frame=2)


def look(report=REPORT, *, unit=UNIT, recipe=RECIPE, known=KNOWN, **rest):
    rest = {"arrived": HASH, "frames": {}} | rest
    return scrutinise(report, unit=unit, recipe=recipe, known=known, **rest)


def change(**fields):
    return msgspec.structs.replace(REPORT, **fields)


def test_an_honest_report_gives_nothing_away():
    found = look()
    assert (found.faults, found.doubts) == ((), ())


@pytest.mark.parametrize(
    ("report", "faults"),
    [
        (change(build="blender 4.5.15 000000000000"), ("wrong_build",)),
        # It fell back to the CPU, and says so: twice.
        (change(device="cpu", kernel="cpu-avx2"), ("wrong_device", "wrong_kernel")),
        (change(kernel="cpu-avx2"), ("wrong_kernel",)),  # a GPU in name only
        (change(kernel="cuda-sm_89"), ("wrong_kernel",)),  # not what was calibrated
        (change(width=160), ("wrong_size",)),
        (change(pixels="0x" + "22" * 32), ("wrong_hash",)),
    ],
)
def test_its_own_words_are_faults(report, faults):
    assert look(report).faults == faults


@pytest.mark.parametrize(
    ("seconds", "doubts"),
    [
        (0.9, ("too_fast",)),  # a third of four seconds, less what clocks differ
        (1.2, ()),
        (16.0, ()),
        (17.0, ("too_slow",)),  # four times as long, as a CPU would
    ],
)
def test_seconds_of_another_device_are_a_doubt(seconds, doubts):
    known = Expectation(kernel="cuda-sm_90", seconds=4.0, took_s=60.0)
    assert look(change(seconds=seconds), known=known).doubts == doubts


def test_more_seconds_than_we_waited_are_a_doubt():
    assert look(change(seconds=5.2)).doubts == ()
    assert look(change(seconds=5.3)).doubts == ("impossible_time",)


def test_a_short_unit_raises_no_doubt():
    """Seconds that vanish in how clocks differ say nothing."""
    known = Expectation(seconds=0.05, took_s=3.0)
    assert look(change(seconds=0.3), known=known).doubts == ()
    assert look(change(seconds=0.001), known=known).doubts == ()


def test_without_calibration_time_says_nothing():
    known = Expectation(took_s=500.0)
    assert look(change(seconds=400.0), known=known).doubts == ()


def test_a_neighbours_frame_is_a_doubt_and_no_proof():
    assert look(frames={HASH: 1}).doubts == ("frame_twice",)
    assert look(frames={HASH: 2}).doubts == ()  # the same frame, rendered twice


def test_a_tile_has_its_own_size():
    unit = Unit(frame=2, tile=Tile(0, 0, 32, 16))
    assert look(change(width=32, height=16), unit=unit).faults == ()
    assert look(unit=unit).faults == ("wrong_size",)


def test_the_toy_has_a_class_of_its_own():
    recipe = msgspec.structs.replace(RECIPE, engine="toy", device="cpu")
    report = change(device="cpu", kernel="toy")
    assert look(report, recipe=recipe, known=Expectation()).faults == ()
    cpu = change(device="cpu", kernel="cpu-avx2")
    assert look(cpu, recipe=recipe, known=Expectation()).faults == ("wrong_kernel",)
