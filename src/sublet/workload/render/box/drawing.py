"""Small pictures of pictures: previews, watermarks, sheets with a frame beside a frame.

Part of the programs ``post`` and ``film``; numpy comes with bpy, and is imported where
it is used: the base install has none. Arrays have shape
(height, width, 4), floats 0..1 as a screen shows them, the bottom row first, as
Blender keeps them.
"""

from typing import Any

Pixels = Any  # float32, shape (height, width, 4)

JPEG_QUALITY = 85
GAP = 4  # pixels between the frames of a sheet
SHADE = 0.12  # brightness of a sheet's ground
_STRENGTH = 0.45  # how much of a watermark covers the picture
_WORD = "PREVIEW"
# Five columns and seven rows a letter; a bit is a dot.
_LETTERS = {
    "P": (0b11110, 0b10001, 0b10001, 0b11110, 0b10000, 0b10000, 0b10000),
    "R": (0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001),
    "E": (0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111),
    "V": (0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01010, 0b00100),
    "I": (0b01110, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110),
    "W": (0b10001, 0b10001, 0b10001, 0b10101, 0b10101, 0b11011, 0b10001),
}


def read_pixels(path: str, *, width: int) -> Pixels:
    """Read a picture, scaled to a width; a smaller one stays as it is.

    Raises:
        RuntimeError: Blender does not read it.
    """
    import bpy
    import numpy as np

    picture = bpy.data.images.load(path)
    across, down = picture.size
    if not across or not down:
        raise RuntimeError(f"{path} is no picture")
    if across > width:
        picture.scale(width, max(1, round(down * width / across)))
        across, down = picture.size
    pixels = np.empty(across * down * 4, dtype=np.float32)
    picture.pixels.foreach_get(pixels)
    bpy.data.images.remove(picture)
    return pixels.reshape(down, across, 4)


def write_pixels(pixels: Pixels, path: str) -> None:
    """Write a JPEG; what is transparent becomes black."""
    import bpy
    import numpy as np

    down, across, _ = pixels.shape
    picture = bpy.data.images.new("drawn", across, down, alpha=True)
    solid = np.clip(pixels, 0, 1).astype(np.float32)
    solid[..., :3] *= solid[..., 3:]
    solid[..., 3] = 1
    picture.pixels.foreach_set(np.ascontiguousarray(solid).ravel())
    picture.file_format = "JPEG"
    picture.save(filepath=path, quality=JPEG_QUALITY)
    bpy.data.images.remove(picture)


def write_preview(path: str, target: str, *, width: int, has_watermark: bool) -> None:
    """Write a small picture of a picture."""
    pixels = read_pixels(path, width=width)
    write_pixels(add_watermark(pixels) if has_watermark else pixels, target)


def add_watermark(pixels: Pixels) -> Pixels:
    """Write PREVIEW over all of a picture, light with a dark edge."""
    import numpy as np

    down, across, _ = pixels.shape
    dot = max(1, across // 160)
    word = _draw_word(dot)
    tall, wide = word.shape
    rows, columns = -(-down // (tall * 3)) + 1, -(-across // (wide + tall * 2)) + 1
    cell = np.zeros((tall * 3, wide + tall * 2), dtype=bool)
    cell[tall : tall * 2, tall : tall + wide] = word[::-1]  # the bottom row is first
    # Each line of words is moved along, so that no column of the picture stays bare.
    lines = [
        np.roll(np.tile(cell, (1, columns)), (wide // 3) * line, axis=1)
        for line in range(rows)
    ]
    mask = np.concatenate(lines)[:down, :across]
    edge = np.roll(mask, (-dot, dot), axis=(0, 1)) & ~mask
    marked = pixels.copy()
    marked[mask, :3] += (1 - marked[mask, :3]) * _STRENGTH
    marked[edge, :3] *= 1 - _STRENGTH
    marked[mask | edge, 3] = 1
    return marked


def _draw_word(dot: int) -> Any:
    import numpy as np

    letters = []
    for letter in _WORD:
        # The sixth column is the space to the next letter.
        rows = [
            [bits << 1 >> shift & 1 for shift in range(5, -1, -1)]
            for bits in _LETTERS[letter]
        ]
        letters.append(np.array(rows, dtype=bool))
    return np.kron(np.concatenate(letters, axis=1), np.ones((dot, dot), dtype=bool))


def draw_sheet(frames: list[Pixels], *, columns: int) -> Pixels:
    """Put frames side by side, the first at the top left; all have one size."""
    import numpy as np

    down, across, _ = frames[0].shape
    rows = -(-len(frames) // columns)
    size = (rows * (down + GAP) + GAP, columns * (across + GAP) + GAP, 4)
    sheet = np.full(size, SHADE, dtype=np.float32)
    sheet[..., 3] = 1
    for number, frame in enumerate(frames):
        row, column = divmod(number, columns)
        bottom = size[0] - (row + 1) * (down + GAP)
        left = GAP + column * (across + GAP)
        part = frame[:down, :across]
        sheet[bottom : bottom + part.shape[0], left : left + part.shape[1]] = part
    return sheet
