"""Machines give away GPUs by UUID, never more of one than there is."""

import pytest

from sublet.base.errors import Broken
from sublet.core.placement.fleet import Fleet, Machine, Place
from sublet.core.placement.shape import Shape

PAIR = Machine(
    cpus_milli=8_000, memory_bytes=64, gpu_model="A", gpu_uuids=("GPU-0", "GPU-1")
)
HALF = Shape(cpus_milli=1_000, memory_bytes=1, gpu_count=1, gpu_milli=500)
BOTH = Shape(cpus_milli=1_000, memory_bytes=1, gpu_count=2)


def test_a_place_names_its_gpus() -> None:
    assert Fleet([PAIR]).uuids(Place(0, (1,))) == ("GPU-1",)


def test_what_is_taken_comes_back() -> None:
    fleet = Fleet([PAIR])
    fleet.take(Place(0, (1,)), HALF)
    assert fleet.gpus.tolist() == [[1_000, 500]]
    assert fleet.cpus.tolist() == [7_000]
    fleet.release(Place(0, (1,)), HALF)
    assert fleet.gpus.tolist() == [[1_000, 1_000]]
    assert (fleet.cpus.tolist(), fleet.memory.tolist()) == ([8_000], [64])


@pytest.mark.parametrize(
    ("place", "shape"),
    [
        (Place(0, (0, 1)), BOTH),  # half of the second is taken
        (Place(0, (0, 0)), BOTH),  # one GPU is not two
        (Place(0, ()), HALF),
        (Place(0, (0,)), Shape(cpus_milli=7_001, memory_bytes=1, gpu_count=1)),
        (Place(0, (0,)), Shape(cpus_milli=1, memory_bytes=64, gpu_count=1)),
    ],
)
def test_more_than_there_is_is_never_given(place: Place, shape: Shape) -> None:
    fleet = Fleet([PAIR])
    fleet.take(Place(0, (1,)), HALF)
    with pytest.raises(Broken):
        fleet.take(place, shape)
    assert fleet.gpus.tolist() == [[1_000, 500]]


def test_room_counts_slices() -> None:
    small = Machine(cpus_milli=1_500, memory_bytes=64, gpu_model="A", gpu_uuids=("x",))
    other = Machine(cpus_milli=8_000, memory_bytes=64, gpu_model="B", gpu_uuids=("y",))
    fleet = Fleet([PAIR, small, other])
    assert fleet.room(HALF).tolist() == [4, 1, 2]
    assert fleet.room(BOTH).tolist() == [1, 0, 0]
    of_b = Shape(cpus_milli=1, memory_bytes=1, gpu_count=1, gpu_models=("B",))
    assert fleet.room(of_b).tolist() == [0, 0, 1]
