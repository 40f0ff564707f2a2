"""Pictures as OpenEXR files on this disk; those of workers are read with limits.

Not here: the form of the files (``core.render.exr``).
"""

from pathlib import Path

from sublet.base import limits
from sublet.base.errors import PeerFault, Unavailable
from sublet.core.render.exr import HEADER_BYTES_MAX, PIXEL_BYTES, decode_exr, encode_exr
from sublet.core.render.picture import Picture, check_picture

ROW_BYTES_MAX = 16  # that a file has for each row beside its pixels


def read_picture(path: Path, *, width: int, height: int) -> Picture:
    """Read a picture that a stranger made, of the size that it was asked for.

    Raises:
        PeerFault: ``not_a_picture`` (the form, or longer than such a picture can be),
            ``not_finite`` (NaN or infinity).
        Unavailable: the disk does not give it.
    """
    if width * height > limits.PICTURE_PIXELS_MAX:
        raise PeerFault(
            f"{width} by {height} pixels are more than are read at once",
            code="not_a_picture",
        )
    most = width * height * PIXEL_BYTES + height * ROW_BYTES_MAX + HEADER_BYTES_MAX
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be read: {error.strerror}", code="disk_failed"
        ) from error
    if len(content) > most:
        raise PeerFault(
            f"{path.name} is longer than {width} by {height} pixels can be",
            code="not_a_picture",
        )
    try:
        picture = decode_exr(content, width=width, height=height)
    except ValueError as error:
        raise PeerFault(f"{path.name}: {error}", code="not_a_picture") from None
    check_picture(picture, width=width, height=height)
    return picture


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture; whoever looks sees all of the file or none.

    Raises:
        Unavailable: the disk does not take it.
    """
    draft = path.with_name(path.name + ".part")
    try:
        draft.write_bytes(encode_exr(picture))
        draft.replace(path)
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be written: {error.strerror}", code="disk_failed"
        ) from error
