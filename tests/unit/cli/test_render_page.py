"""The page of a render."""

from sublet.cli.render_page import format_page
from sublet.core.render.look import (
    DONE,
    RUNNING,
    FrameLook,
    RenderLook,
    UnitLook,
    guess_left,
)


def make_look(state: str, unit: UnitLook) -> RenderLook:
    return RenderLook(
        scene="shot<b>.blend",
        state=state,
        frames=(FrameLook(7, unit.state, (unit,), "frames/000007.png"),),
        units=1,
        units_done=1,
        units_checked=0,
        machines=1,
        cost=10,
        cost_likely=20,
        left_ms=-1,
        left_low_ms=-1,
        left_high_ms=-1,
        at_s=0,
    )


def test_escapes_what_strangers_say() -> None:
    said = "<script>alert(1)</script>"
    page = format_page(make_look("running", UnitLook("f7", RUNNING, said, said, said)))
    assert "<script" not in page
    assert "shot<b>" not in page
    assert "default-src 'none'" in page


def test_loads_itself_again_while_it_runs() -> None:
    unit = UnitLook("f7", DONE, "0xaa", "m", "cpu-avx2", took_ms=1_500)
    assert 'http-equiv="refresh"' in format_page(make_look("running", unit))
    page = format_page(make_look("done", unit))
    assert 'http-equiv="refresh"' not in page
    assert "frames/000007.png" in page
    assert "1.5 s" in page


def test_nobody_can_tell_from_one_unit() -> None:
    assert guess_left([5_000], left=3, machines=1)[0] == -1
    likely, low, high = guess_left([4_000, 6_000], left=4, machines=2)
    assert low < likely <= high
