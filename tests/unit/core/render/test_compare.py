"""Findings: equality within a class, closeness between two, and what is no picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sublet.core.render.compare import (
    CLOSE,
    EQUAL,
    Finding,
    compare,
    find_off,
    get_rule,
)
from sublet.core.render.probe import Probe, locate
from sublet.core.render.unit import Tile

FRAME = Tile(0, 0, 80, 16)
PROBES = tuple(locate(FRAME, block) for block in range(5))


def paint(seed: int = 0) -> list[np.ndarray]:
    """Five pictures of a block each."""
    random = np.random.default_rng(seed)
    return [random.random((16, 16, 4)).astype(np.float32) + 0.1 for _ in PROBES]


def spoil(
    pictures: list[np.ndarray], *, pixels: int, factor: float
) -> list[np.ndarray]:
    """Change the first pixels of each by a factor."""
    spoilt = [picture.copy() for picture in pictures]
    for picture in spoilt:
        picture.reshape(-1, 4)[:pixels] *= np.float32(factor)
    return spoilt


def test_equal_pictures_are_the_same_work() -> None:
    finding = compare(PROBES, paint(), paint(), rule=EQUAL)
    assert finding.is_same
    assert (finding.unequal, finding.off_ppm, finding.worst_ppm) == (0, 0, 0)


def test_one_bit_within_a_class_is_another_work() -> None:
    other = paint()
    other[3][5, 6, 2] = np.nextafter(other[3][5, 6, 2], np.float32(2))
    finding = compare(PROBES, paint(), other, rule=EQUAL)
    assert not finding.is_same
    assert finding.unequal == 1
    assert finding.is_close  # which does not help
    assert finding.describe() == "1 of 1280 pixels are not equal"


def test_rounding_between_classes_is_the_same_work() -> None:
    finding = compare(
        PROBES, paint(), spoil(paint(), pixels=256, factor=1.005), rule=CLOSE
    )
    assert finding.is_same
    assert finding.unequal == 1280


@pytest.mark.parametrize(
    ("pixels", "is_same"),
    [
        (7, True),  # 2.7 % of each probe
        (8, False),  # 3.1 %: too many of all together
    ],
)
def test_limit_of_all_probes(pixels: int, is_same: bool) -> None:
    spoilt = spoil(paint(), pixels=pixels, factor=1.1)
    assert compare(PROBES, paint(), spoilt, rule=CLOSE).is_same is is_same


@pytest.mark.parametrize(
    ("pixels", "is_same"),
    [
        (38, True),  # 14.8 % of one probe, 2.97 % of all
        (39, False),  # 15.2 % of one
    ],
)
def test_limit_of_the_worst_probe(pixels: int, is_same: bool) -> None:
    spoilt = [
        *spoil(paint(), pixels=pixels, factor=2)[:1],
        *paint()[1:],
    ]
    assert compare(PROBES, paint(), spoilt, rule=CLOSE).is_same is is_same


@pytest.mark.parametrize("rule", [EQUAL, CLOSE])
@pytest.mark.parametrize(
    ("picture", "fault"),
    [
        (np.zeros((16, 15, 4), np.float32), "wrong_size"),
        (np.zeros((16, 16, 3), np.float32), "wrong_size"),
        (np.zeros((16, 16, 4), np.float64), "wrong_size"),
        (np.zeros((0,), np.float32), "wrong_size"),
        (np.full((16, 16, 4), np.nan, np.float32), "not_finite"),
        (np.full((16, 16, 4), -np.inf, np.float32), "not_finite"),
    ],
)
def test_what_is_no_picture_is_told(picture: np.ndarray, fault: str, rule: str) -> None:
    finding = compare(PROBES, paint(), [picture, *paint()[1:]], rule=rule)
    assert not finding.is_same
    assert finding.probes[0].fault == fault
    assert finding.describe() == f"no picture of it: {fault}"


def test_nothing_compared_proves_nothing() -> None:
    assert not Finding(rule=EQUAL, probes=()).is_same
    assert not Finding(rule=CLOSE, probes=()).is_same


def test_a_smaller_block_counts_its_own_pixels() -> None:
    probe = Probe(block=0, tile=Tile(0, 0, 3, 2))
    picture = np.ones((2, 3, 4), np.float32)
    finding = compare([probe], [picture], [picture * 2], rule=CLOSE)
    assert finding.probes[0].pixels == finding.probes[0].off == 6


def test_as_many_pictures_as_probes() -> None:
    with pytest.raises(ValueError, match="zip"):
        compare(PROBES, paint(), paint()[:4], rule=EQUAL)


@pytest.mark.parametrize(
    ("one", "other", "is_off"),
    [
        (1.0, 1.0099, False),
        (1.0, 1.0102, True),
        (0.0, 0.00009, False),  # darkness is measured against the floor
        (0.0, 0.00011, True),
        (-1.0, 1.0, True),
        (3e38, -3e38, True),  # the difference is more than a float32 holds
        (1.0, np.nan, True),
        (np.inf, np.inf, True),
        (0.0, -0.0, False),
    ],
)
def test_off_is_one_percent(one: float, other: float, is_off: bool) -> None:
    pictures = [np.full((1, 1, 4), value, np.float32) for value in (one, other)]
    assert find_off(pictures[0], pictures[1]).tolist() == [[is_off]]


def test_one_channel_is_enough() -> None:
    one = np.ones((1, 1, 4), np.float32)
    for channel in range(4):
        other = one.copy()
        other[0, 0, channel] = 2
        assert find_off(one, other).all()


FLOATS = arrays(np.float32, (3, 2, 4), elements=st.floats(width=32))


@given(one=FLOATS, other=FLOATS)
def test_off_is_symmetric_and_never_warns(one: np.ndarray, other: np.ndarray) -> None:
    with np.errstate(all="raise"):
        assert (find_off(one, other) == find_off(other, one)).all()


@given(one=FLOATS)
def test_a_finite_picture_is_not_off_from_itself(one: np.ndarray) -> None:
    assert (find_off(one, one) == ~np.isfinite(one).all(axis=2)).all()


def test_the_rule_follows_the_classes() -> None:
    assert get_rule("cpu-avx2", "cpu-avx2") == EQUAL
    assert get_rule("cpu-avx2", "cpu-sse42") == CLOSE
