"""Probes: where the picture varies and elsewhere, foreseen by nobody, drawn again."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.core.render.picture import BLOCK, hash_pixels
from sublet.core.render.probe import (
    PROBES,
    draw_below,
    draw_probes,
    make_seed,
    weigh_blocks,
)
from sublet.core.render.unit import Recipe, SampleRange, Tile, Unit

RECIPE = Recipe(
    scene="a.blend",
    root="0x" + "ab" * 32,
    build="toy 1",
    engine="toy",
    device="cpu",
    width=160,
    height=90,
    samples=8,
    seed=0,
)
WHOLE = Unit(frame=1)
SALT = bytes(range(32))


def paint(*, width: int = 160, height: int = 90, seed: int = 0) -> np.ndarray:
    """A picture of noise."""
    return np.random.default_rng(seed).random((height, width, 4)).astype(np.float32)


def draw(picture, *, unit=WHOLE, salt=SALT, count=PROBES):
    seed = make_seed(salt=salt, recipe=RECIPE, unit=unit, pixels=hash_pixels(picture))
    return draw_probes(picture, recipe=RECIPE, unit=unit, seed=seed, count=count)


def test_draws_the_same_from_the_same_salt():
    assert draw(paint()) == draw(paint())


@pytest.mark.parametrize(
    "changed",
    [
        {"salt": bytes(32)},
        {"unit": Unit(frame=2)},
        {"unit": Unit(frame=1, samples=SampleRange(0, 4))},
    ],
    ids=["another salt", "another frame", "other samples"],
)
def test_draws_elsewhere_when_anything_differs(changed):
    assert draw(paint()) != draw(paint(), **changed)


def test_one_bit_of_the_picture_moves_the_probes():
    picture = paint()
    other = picture.copy()
    other[0, 0, 0] = np.nextafter(other[0, 0, 0], 2)

    assert draw(picture) != draw(other)


def test_draws_are_what_they_were():
    """Whoever checks old evidence draws the same; these numbers may never change."""
    picture = np.zeros((90, 160, 4), np.float32)
    picture[::7, ::5] = 1.5
    picture[40:, 80:] *= 0.25

    assert [one.block for one in draw(picture)] == [25, 56, 1, 38, 3]
    assert draw_below(bytes(32), "example", 1_000_000) == 998_415


@given(
    left=st.integers(0, 100),
    top=st.integers(0, 60),
    width=st.integers(1, 60),
    height=st.integers(1, 30),
    count=st.integers(1, 8),
    salt=st.binary(min_size=32, max_size=32),
)
def test_probes_lie_in_the_tile_and_differ(left, top, width, height, count, salt):
    unit = Unit(frame=3, tile=Tile(left, top, left + width, top + height))
    picture = paint(width=width, height=height)

    probes = draw(picture, unit=unit, salt=salt, count=count)

    blocks = -(-width // BLOCK) * -(-height // BLOCK)
    assert len({one.block for one in probes}) == len(probes) == min(count, blocks)
    for probe in probes:
        tile = probe.tile
        assert left <= tile.left < tile.right <= left + width
        assert top <= tile.top < tile.bottom <= top + height
        assert tile.width <= BLOCK
        assert tile.height <= BLOCK
        assert probe.of(unit) == Unit(frame=3, tile=tile)


def test_keeps_the_samples_of_its_unit():
    unit = Unit(frame=1, samples=SampleRange(2, 3))

    assert draw(paint(), unit=unit)[0].of(unit).samples == SampleRange(2, 3)


def test_a_flat_sky_is_never_all_that_is_seen():
    """Three of five probes fall into the one block in 60 that varies, or beside it."""
    picture = np.full((90, 160, 4), 0.5, np.float32)
    picture[16:32, 32:48] = paint(width=16, height=16)
    busy = set(np.flatnonzero(weigh_blocks(picture)))

    for number in range(50):
        probes = draw(picture, salt=bytes([number]) * 32)
        assert sum(one.block in busy for one in probes) >= min(3, len(busy))


def test_what_was_forged_to_be_flat_is_probed_too():
    """A forger paints half of the frame flat: uniform draws still fall there."""
    picture = paint()
    picture[:, 80:] = 0.5
    seen = sum(
        any(one.tile.left >= 80 for one in draw(picture, salt=bytes([n]) * 32))
        for n in range(200)
    )

    assert seen > 130  # of 200; two uniform draws of half the frame: 3 of 4


def test_a_flat_picture_is_probed_anywhere():
    flat = np.full((90, 160, 4), 0.25, np.float32)
    blocks = {one.block for n in range(100) for one in draw(flat, salt=bytes([n]) * 32)}

    assert len(blocks) > 55  # of 60


def test_weighs_equal_ratios_alike_and_blackness_not():
    dim, bright = (np.zeros((16, 32, 4), np.float32) for _ in range(2))
    dim[:, ::2], dim[:, 1::2] = 0.25, 0.5
    bright[:, ::2], bright[:, 1::2] = 2, 4
    black = np.full((16, 32, 4), 1e-9, np.float32)
    black[:, ::2] = 1e-5

    assert weigh_blocks(dim).tolist() == weigh_blocks(bright).tolist()
    assert not weigh_blocks(black).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0, 3e38, 0.0])
def test_weighs_any_float(value):
    picture = paint()
    picture[3, 3] = value

    assert (weigh_blocks(picture) >= 0).all()
    assert len(draw(picture)) == PROBES


def test_probe_travels_as_json():
    probe = draw(paint())[0]

    assert msgspec.json.decode(msgspec.json.encode(probe), type=type(probe)) == probe
