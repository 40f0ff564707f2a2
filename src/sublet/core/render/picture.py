"""Pictures as arrays: their hash, and whether a stranger's is one at all. Pure.

A picture is float32 of shape (height, width, 4): RGBA, linear light, the top row first.

Not here: files (``adapter.exr_file``), how alike two pictures are (``compare``).
"""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from sublet.base.errors import PeerFault
from sublet.base.ids import Digest

Picture = NDArray[np.float32]
CHANNELS = 4  # red, green, blue, alpha


def hash_pixels(picture: Picture) -> Digest:
    """Hash pixels: SHA-256 of their float32 bits, little-endian, row by row.

    Of the pixels alone: a file's bytes differ with its compression and its metadata.
    The size is not in it; who compares hashes compares sizes too.
    """
    rows = np.ascontiguousarray(picture, dtype="<f4")
    return "0x" + sha256(rows.data).hexdigest()


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
