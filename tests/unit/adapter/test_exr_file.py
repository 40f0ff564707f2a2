"""A stranger's picture is read with limits; each kind of lie has one clear error."""

from pathlib import Path

import numpy as np
import pytest

from sublet.adapter.exr_file import read_picture, write_picture
from sublet.base import limits
from sublet.base.errors import PeerFault, Unavailable
from sublet.core.render.exr import encode_exr


def picture(value: float = 0.5) -> np.ndarray:
    return np.full((9, 16, 4), value, np.float32)


def test_written_is_read(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.exr", picture())
    again = read_picture(tmp_path / "a.exr", width=16, height=9)
    assert again.tobytes() == picture().tobytes()
    assert [place.name for place in tmp_path.iterdir()] == ["a.exr"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"no picture", "not_a_picture"),
        (encode_exr(np.zeros((16, 9, 4), np.float32)), "not_a_picture"),  # turned
        (bytes(1_000_000), "not_a_picture"),  # longer than it can be
        (encode_exr(picture(np.nan)), "not_finite"),
        (encode_exr(picture(np.inf)), "not_finite"),
    ],
)
def test_lies_are_told_apart(tmp_path: Path, content: bytes, code: str) -> None:
    place = tmp_path / "a.exr"
    place.write_bytes(content)
    with pytest.raises(PeerFault) as error:
        read_picture(place, width=16, height=9)
    assert error.value.code == code


def test_too_many_pixels_are_not_read(tmp_path: Path) -> None:
    side = limits.PICTURE_SIDE_MAX
    with pytest.raises(PeerFault, match="more than are read"):
        read_picture(tmp_path / "none", width=side, height=side)


def test_missing_file_is_no_lie(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        read_picture(tmp_path / "none", width=1, height=1)
    with pytest.raises(Unavailable):
        write_picture(tmp_path / "none" / "a.exr", picture())
