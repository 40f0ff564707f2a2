"""Files come back bit for bit, OpenEXR itself reads them, and forged ones are refused."""

import struct
import zlib
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.core.render.exr import decode_exr, encode_exr


def noise(width: int, height: int) -> np.ndarray:
    bits = np.random.default_rng(width).integers(0, 1 << 32, (height, width, 4))
    return bits.astype(np.uint32).view(np.float32)


def smooth(width: int, height: int) -> np.ndarray:
    steps = np.linspace(0, 1, height * width * 4, dtype=np.float32)
    return steps.reshape(height, width, 4)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([noise, smooth]))
def test_pictures_come_back_exactly(width: int, height: int, make) -> None:
    picture = make(width, height)
    again = decode_exr(encode_exr(picture), width=width, height=height)
    assert again.tobytes() == picture.tobytes()


@pytest.mark.parametrize("make", [noise, smooth])
def test_openexr_reads_what_we_write(tmp_path: Path, make) -> None:
    picture = make(37, 21)
    place = tmp_path / "a.exr"
    place.write_bytes(encode_exr(picture))
    with OpenEXR.File(str(place)) as file:
        assert file.channels()["RGBA"].pixels.tobytes() == picture.tobytes()


@pytest.mark.parametrize("packing", ["NO", "ZIPS", "ZIP"])
def test_reads_what_openexr_writes(tmp_path: Path, packing: str) -> None:
    picture = smooth(37, 21)
    place = str(tmp_path / "a.exr")
    header = {
        "compression": getattr(OpenEXR, f"{packing}_COMPRESSION"),
        "type": OpenEXR.scanlineimage,
    }
    with OpenEXR.File(header, {"RGBA": picture}) as file:
        file.write(place)
    again = decode_exr(Path(place).read_bytes(), width=37, height=21)
    assert again.tobytes() == picture.tobytes()


GOOD = encode_exr(smooth(20, 20))


def bomb() -> bytes:
    """A chunk that unpacks to far more than its rows."""
    body = zlib.compress(bytes(1_000_000))
    return GOOD[: _first_chunk()] + struct.pack("<ii", 0, len(body)) + body


def _first_chunk() -> int:
    table = GOOD.index(b"screenWindowWidth\0float\0") + 24 + 4 + 4 + 1
    return int(struct.unpack_from("<Q", GOOD, table)[0])


def turned(old: bytes, new: bytes) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no OpenEXR"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "no OpenEXR"),
        (b"\x76\x2f\x31\x01\x02\x02\x00\x00" + GOOD[8:], "no OpenEXR"),  # tiled
        (GOOD[:60], "header"),
        (GOOD[:8] + b"x" * 70_000, "header"),
        (GOOD[:-1], "damaged"),
        (GOOD[: _first_chunk() + 4], "ends before"),
        (GOOD + b"\0", "follows"),
        (bomb(), "not of their size"),
        (turned(b"A\0\2\0\0\0", b"A\0\1\0\0\0"), "channels"),  # half
        (turned(b"R\0\2", b"Z\0\2"), "channels"),  # another channel
        (turned(b"compression\0\1\0\0\0\3", b"compression\0\1\0\0\0\4"), "compress"),
        (
            turned(struct.pack("<4i", 0, 0, 19, 19), struct.pack("<4i", 0, 0, 9, 19)),
            "size",
        ),
        (turned(b"dataWindow\0box2i\0\x10", b"dataWindow\0box2i\0\xff"), "size|header"),
        (GOOD[: _first_chunk()] + bytes(8) + GOOD[_first_chunk() + 8 :], "damaged"),
    ],
)
def test_forged_files_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode_exr(content, width=20, height=20)


def test_other_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        decode_exr(GOOD, width=20_000, height=20_000)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_byte_changed_is_refused_or_read(place: int, byte: int) -> None:
    changed = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    try:
        picture = decode_exr(changed, width=20, height=20)
    except ValueError:
        return
    assert picture.shape == (20, 20, 4)
