"""What is said of a render, in words."""

from sublet.cli.render_screen import format_look, summarize
from sublet.core.render.look import DONE, FrameLook, RenderLook, UnitLook
from sublet.workload.render.render import RenderResult


def test_says_how_far_it_is() -> None:
    unit = UnitLook("f1", DONE, took_ms=1)
    look = RenderLook(
        scene="a.blend",
        state="running",
        frames=(FrameLook(1, DONE, (unit,)), FrameLook(2, "waiting", (unit,))),
        units=4,
        units_done=2,
        units_checked=1,
        machines=2,
        cost=1_000,
        cost_likely=2_000,
        left_ms=65_000,
        left_low_ms=50_000,
        left_high_ms=90_000,
        at_s=0,
    )
    assert format_look(look) == (
        "1 of 2 frames, 2 of 4 units, 1 checked, 2 machines, about 1m 5s (50s to "
        "1m 30s) left, $0.001 of about $0.002"
    )


def test_names_who_was_caught_and_how_to_go_on() -> None:
    result = RenderResult(
        outcome="stopped",
        message="",
        frames=4,
        frames_done=1,
        units=4,
        units_checked=1,
        dismissed={"0xaa": "wrong\x1b[2J_build"},
        cost=5,
        cost_before=0,
        folder="out",
    )
    lines = summarize(result)
    assert lines[-1] == "run the same command again to go on"
    (caught,) = [line for line in lines if line.startswith("caught")]
    assert caught.startswith("caught: 0xaa: wrong")
    assert "\x1b" not in caught
