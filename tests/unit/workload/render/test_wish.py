"""What is asked of a render, as typed."""

import pytest

from sublet.base.errors import Faults, Refused
from sublet.core.render.frames import format_frames, parse_frames
from sublet.workload.render.wish import BY_RECORD, RenderWish, parse_wish


def test_reads_everything() -> None:
    asked = parse_wish(
        RenderWish(
            scene="shot.blend",
            frames="1-9:4,3",
            resolution="1920x1080",
            tiles="4x2",
            check="25%",
            preview="every:10",
        )
    )
    assert asked.frames == (1, 3, 5, 9)
    assert (asked.size, asked.tiles) == ((1920, 1080), (4, 2))
    assert (asked.check_milli, asked.preview_every) == (250, 10)


def test_tells_all_faults_at_once() -> None:
    with pytest.raises(Faults) as caught:
        parse_wish(
            RenderWish(
                scene="shot.png",
                frames="9-1",
                samples=0,
                resolution="0x5",
                tiles="0x2",
                engine="arnold",
                check="101%",
                preview="10",
            )
        )
    assert len(caught.value.faults) == 8


@pytest.mark.parametrize(("typed", "milli"), [(BY_RECORD, -1), ("none", 0), ("5%", 50)])
def test_reads_how_much_is_checked(typed: str, milli: int) -> None:
    assert parse_wish(RenderWish(scene="a.glb", check=typed)).check_milli == milli


@pytest.mark.parametrize("typed", ["", "a", "1-", "1-9:0", "1-99999999", "--5"])
def test_refuses_what_is_no_frame(typed: str) -> None:
    with pytest.raises(Refused):
        parse_frames(typed)


@pytest.mark.parametrize("frames", [(1,), (1, 2, 3), (-2, -1, 5), (1, 3, 5)])
def test_writes_frames_as_it_reads_them(frames: tuple[int, ...]) -> None:
    assert parse_frames(format_frames(frames)) == frames
