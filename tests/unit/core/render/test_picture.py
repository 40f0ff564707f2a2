"""A picture's hash is of its pixels, and what is no picture is told from one."""

from hashlib import sha256

import numpy as np
import pytest

from sublet.base.errors import PeerFault
from sublet.core.merkle import (
    inclusion_proof,
    leaf_hash,
    node_hash,
    verify_inclusion,
)
from sublet.core.render.picture import (
    check_picture,
    hash_blocks,
    hash_pixels,
    write_pixels,
)


def picture(width: int = 4, height: int = 3) -> np.ndarray:
    return np.random.default_rng(1).random((height, width, 4), np.float32)


def test_hash_of_one_block_is_its_rows() -> None:
    pixels = picture()
    assert hash_pixels(pixels) == "0x" + sha256(b"\0" + pixels.tobytes()).hexdigest()


def test_hash_is_a_tree_over_blocks() -> None:
    """Two blocks wide, two high; those at the right and the bottom are smaller."""
    pixels = picture(20, 17)
    rows = (slice(0, 16), slice(16, 17))
    columns = (slice(0, 16), slice(16, 20))
    leaves = [leaf_hash(pixels[y, x].tobytes()) for y in rows for x in columns]
    left, right = node_hash(*leaves[:2]), node_hash(*leaves[2:])
    assert hash_pixels(pixels) == "0x" + node_hash(left, right).hex()


def test_one_block_is_shown_to_be_of_the_picture() -> None:
    pixels = picture(100, 50)
    leaves = hash_blocks(pixels)
    assert len(leaves) == 7 * 4
    root = bytes.fromhex(hash_pixels(pixels)[2:])
    verify_inclusion(
        leaf_hash(write_pixels(pixels[16:32, 96:100])),
        index=13,
        size=28,
        root=root,
        proof=inclusion_proof(leaves, index=13),
    )


def test_hash_knows_no_memory_order() -> None:
    pixels = picture(8, 6)
    view = pixels[::2, ::2]
    assert hash_pixels(view) == hash_pixels(view.copy())
    assert hash_pixels(pixels.astype(">f4")) == hash_pixels(pixels)


def test_one_bit_changes_the_hash() -> None:
    pixels = picture()
    other = pixels.copy()
    other[1, 2, 3] = np.nextafter(other[1, 2, 3], np.float32(2))
    assert hash_pixels(other) != hash_pixels(pixels)


def test_right_picture_passes() -> None:
    check_picture(picture(), width=4, height=3)


def with_value(value: float) -> np.ndarray:
    pixels = picture()
    pixels[0, 0, 0] = value
    return pixels


@pytest.mark.parametrize(
    ("pixels", "code"),
    [
        (picture(3, 4), "wrong_size"),
        (picture().astype(np.float64), "not_a_picture"),
        (picture()[:, :, :3], "not_a_picture"),
        (picture()[:, :, 0], "not_a_picture"),
        (picture()[None], "not_a_picture"),
        (with_value(np.nan), "not_finite"),
        (with_value(-np.inf), "not_finite"),
    ],
)
def test_what_is_no_picture_is_refused(pixels: np.ndarray, code: str) -> None:
    with pytest.raises(PeerFault) as error:
        check_picture(pixels, width=4, height=3)
    assert error.value.code == code
