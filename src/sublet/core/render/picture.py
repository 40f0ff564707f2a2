"""Pictures as arrays: their hash, and whether a stranger's is one at all. Pure.

A picture is float32 of shape (height, width, 4): RGBA, linear light, the top row first.

Not here: files (``adapter.exr_file``), how alike two pictures are (``compare``).
"""

import numpy as np
from numpy.typing import NDArray

from sublet.base.errors import PeerFault
from sublet.base.ids import Digest
from sublet.core.merkle import leaf_hash, root_of

Picture = NDArray[np.float32]
BLOCK = 16  # pixels, the side of what one leaf of the hash is over
CHANNELS = 4  # red, green, blue, alpha


def count_blocks(*, width: int, height: int) -> tuple[int, int]:
    """Count a picture's blocks: columns and rows; the last ones may be smaller."""
    return -(-width // BLOCK), -(-height // BLOCK)


def hash_blocks(picture: Picture) -> list[bytes]:
    """Hash each block: SHA-256 of 0x00 and its float32 bits, little-endian, row by row.

    In the order of reading, from the top left: the leaves of the tree whose root is the
    picture's hash.
    """
    height, width = picture.shape[:2]
    columns, rows = count_blocks(width=width, height=height)
    return [
        leaf_hash(write_pixels(picture[y : y + BLOCK, x : x + BLOCK]))
        for y in range(0, rows * BLOCK, BLOCK)
        for x in range(0, columns * BLOCK, BLOCK)
    ]


def hash_pixels(picture: Picture) -> Digest:
    """Hash pixels: the root of the Merkle tree (RFC 9162) over the picture's blocks.

    Of the pixels alone: a file's bytes differ with its compression and its metadata.
    A tree, so that one block is shown to be of a picture without the rest of it. The
    size is not in it; who compares hashes compares sizes too.
    """
    return "0x" + root_of(hash_blocks(picture)).hex()


def write_pixels(picture: Picture) -> bytes:
    """Give float32 bits, little-endian, row by row."""
    return np.ascontiguousarray(picture, dtype="<f4").tobytes()


def check_picture(picture: Picture, *, width: int, height: int) -> None:
    """Check an array that came from a stranger: a picture, so large, all finite.

    Raises:
        PeerFault: ``not_a_picture`` (not RGBA in float32), ``wrong_size``, or
            ``not_finite`` (NaN or infinity: Cycles gives neither).
    """
    if picture.dtype != np.float32 or picture.shape[2:] != (CHANNELS,):
        raise PeerFault(
            "a picture is float32 RGBA; this one has"
            f" shape {picture.shape} of {picture.dtype}",
            code="not_a_picture",
        )
    if picture.shape[:2] != (height, width):
        raise PeerFault(
            f"{width} by {height} pixels were asked for, and"
            f" {picture.shape[1]} by {picture.shape[0]} came",
            code="wrong_size",
        )
    bad = int(picture.size - np.count_nonzero(np.isfinite(picture)))
    if bad:
        raise PeerFault(
            f"{bad} values of the picture are not numbers or not finite",
            code="not_finite",
            detail={"values": bad},
        )
