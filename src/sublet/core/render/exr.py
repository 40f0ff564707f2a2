"""OpenEXR files of one kind: float32 RGBA in scanlines, as units travel. Pure.

This file is also sent to workers as text, beside the programs that render: it knows the
standard library and NumPy only. Reading is strict, for who wrote a file may be hostile:
one part, four float channels, no compression or ZIP, every chunk once and in order.
Other files are for programs that read OpenEXR whole.

Not here: files on a disk and limits on their size (``adapter.exr_file``).
"""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x76\x2f\x31\x01\x02\x00\x00\x00"  # version 2, without any flag
NAMES = "ABGR"  # of the channels, in the file's order
FLOAT = 2  # the type of pixels
ROWS_OF = {0: 1, 2: 1, 3: 16}  # in one chunk, by compression: none, ZIPS, ZIP
ZIP = 3
LEVEL = 4  # of zlib: as OpenEXR has it
HEADER_BYTES_MAX = 65_536
PIXEL_BYTES = 16


def encode_exr(picture: NDArray[np.float32]) -> bytes:
    """Write a picture of shape (height, width, 4), RGBA, as a file, ZIP-compressed."""
    height, width = picture.shape[:2]
    chunks = []
    for top in range(0, height, ROWS_OF[ZIP]):
        rows = picture[top : top + ROWS_OF[ZIP], :, ::-1]
        # Line by line, and in a line channel by channel.
        raw = np.ascontiguousarray(rows.transpose(0, 2, 1), dtype="<f4").tobytes()
        packed = zlib.compress(_filter(raw), LEVEL)
        body = packed if len(packed) < len(raw) else raw
        chunks.append(struct.pack("<ii", top, len(body)) + body)
    head = MAGIC + _write_header(width, height)
    places, place = [], len(head) + 8 * len(chunks)
    for chunk in chunks:
        places.append(place)
        place += len(chunk)
    return b"".join([head, struct.pack(f"<{len(places)}Q", *places), *chunks])


def decode_exr(content: bytes, *, width: int, height: int) -> NDArray[np.float32]:
    """Read a file of a picture that is so large; gives (height, width, 4), RGBA.

    Memory is bounded by that size, whatever the file says.

    Raises:
        ValueError: it is not such a file; the text says what is wrong.
    """
    view = memoryview(content)
    if view[: len(MAGIC)] != MAGIC:
        raise ValueError("it is no OpenEXR file of one part in scanlines")
    header, place = _read_header(view)
    compression = _check_header(header, width, height)
    step = ROWS_OF[compression]
    count = -(-height // step)
    place += 8 * count  # where each chunk lies; they lie in order
    picture = np.empty((height, width, len(NAMES)), np.float32)
    for top in range(0, height, step):
        rows = min(step, height - top)
        raw_bytes = rows * width * PIXEL_BYTES
        if place + 8 > len(view):
            raise ValueError("it ends before its last row")
        line, size = struct.unpack_from("<ii", view, place)
        body = view[place + 8 : place + 8 + max(size, 0)]
        if line != top or not 0 < size <= raw_bytes or len(body) != size:
            raise ValueError(f"the rows from {top} on are damaged")
        raw = bytes(body) if size == raw_bytes else _unpack(body, raw_bytes, top)
        lines = np.frombuffer(raw, "<f4").reshape(rows, len(NAMES), width)
        picture[top : top + rows] = lines.transpose(0, 2, 1)[:, :, ::-1]
        place += 8 + size
    if place != len(view):
        raise ValueError("something follows its last row")
    return picture


def _filter(raw: bytes) -> bytes:
    """Lay like bytes together, and keep their differences: they pack better."""
    source = np.frombuffer(raw, np.uint8)
    split = np.concatenate([source[::2], source[1::2]])
    split[1:] = split[1:] - split[:-1] + np.uint8(128)
    return split.tobytes()


def _unpack(body: memoryview, size: int, top: int) -> bytes:
    """Undo zlib and ``_filter``; never more bytes than ``size``."""
    unpacker = zlib.decompressobj()
    try:
        # A byte more than there should be, so that the stream's end is read as well.
        packed = unpacker.decompress(body, size + 1)
    except zlib.error as error:
        raise ValueError(f"the rows from {top} on are damaged: {error}") from None
    if len(packed) != size or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"the rows from {top} on are not of their size")
    split = np.frombuffer(packed, np.uint8).copy()
    split[1:] += np.uint8(128)
    split = np.cumsum(split, dtype=np.uint8)
    raw = np.empty_like(split)
    half = (size + 1) // 2
    raw[::2], raw[1::2] = split[:half], split[half:]
    return raw.tobytes()


def _write_header(width: int, height: int) -> bytes:
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    channels = b"".join(
        name.encode() + b"\0" + struct.pack("<iB3xii", FLOAT, 0, 1, 1) for name in NAMES
    )
    rows = (
        ("channels", "chlist", channels + b"\0"),
        ("compression", "compression", bytes([ZIP])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
    )
    parts = (
        f"{name}\0{kind}\0".encode() + struct.pack("<i", len(value)) + value
        for name, kind, value in rows
    )
    return b"".join(parts) + b"\0"


def _read_header(view: memoryview) -> tuple[dict[str, bytes], int]:
    """Read the attributes, and where they end."""
    head = bytes(view[:HEADER_BYTES_MAX])
    found: dict[str, bytes] = {}
    place = len(MAGIC)
    try:
        while head[place]:
            name_end = head.index(b"\0", place)
            kind_end = head.index(b"\0", name_end + 1)
            (size,) = struct.unpack_from("<i", head, kind_end + 1)
            start = kind_end + 5
            if size < 0 or start + size >= len(head):
                raise ValueError
            found[head[place:name_end].decode("ascii")] = head[start : start + size]
            place = start + size
    except (IndexError, ValueError, struct.error):
        raise ValueError("its header is damaged, or longer than 64 KiB") from None
    return found, place + 1


def _check_header(header: dict[str, bytes], width: int, height: int) -> int:
    """Check that it promises what was asked for; gives the compression."""
    ours, at = _read_header(memoryview(MAGIC + _write_header(width, height)))[0], []
    for name in ("channels", "lineOrder"):
        if header.get(name) != ours[name]:
            at.append(name)
    compression: Any = header.get("compression", b"")
    if len(compression) != 1 or compression[0] not in ROWS_OF:
        at.append("compression")
    if at:
        raise ValueError(
            f"its {' and '.join(at)} are not those of float RGBA, from the top down,"
            " by ZIP or not compressed"
        )
    for name in ("dataWindow", "displayWindow"):
        if header.get(name) != ours[name]:
            raise ValueError(f"it has another size: {name} is not {width} by {height}")
    return int(compression[0])
