"""A gang lies close together and apart as asked, whole or not at all."""

import numpy as np
import pytest

from sublet.core.placement.fleet import Fleet, Machine, Place
from sublet.core.placement.gang import (
    FAR_US,
    Apartness,
    Gang,
    Sites,
    find_gang,
    take_gang,
)
from sublet.core.placement.packer import Packer
from sublet.core.placement.shape import WHOLE, Shape

PAIR = Shape(cpus_milli=1_000, memory_bytes=1, gpu_count=2)


def fleet_of(*gpus: int) -> Packer:
    return Packer(
        Fleet(
            [
                Machine(
                    cpus_milli=64_000,
                    memory_bytes=64,
                    gpu_model="A",
                    gpu_uuids=tuple(f"GPU-{row}-{slot}" for slot in range(count)),
                )
                for row, count in enumerate(gpus)
            ]
        ),
        {PAIR: 1},
    )


def sites(
    places: list[int],
    latency_us: list[list[int]],
    *,
    provider: list[int] | None = None,
    network: list[int] | None = None,
) -> Sites:
    each = list(range(len(places)))
    return Sites(
        provider=np.array(provider or each),
        place=np.array(places),
        network=np.array(network or each),
        latency_us=np.array(latency_us),
    )


# Two cities 9 ms apart, and a third that is 50 ms from both.
CITIES = [[200, 9_000, 50_000], [9_000, 200, 50_000], [50_000, 50_000, 200]]


def rows_of(packer: Packer, gang: Gang, where: Sites) -> list[int] | None:
    found = find_gang(packer, gang, where)
    return None if found is None else sorted(place.row for place in found)


def test_one_machine_is_closest() -> None:
    packer = fleet_of(2, 2, 4)
    where = sites([0, 0, 2], CITIES)
    assert rows_of(packer, Gang(PAIR, 2), where) == [2, 2]


def test_otherwise_one_city_and_then_the_nearest_two() -> None:
    where = sites([2, 0, 1, 0, 1], CITIES)
    packer = fleet_of(2, 2, 2, 2, 2)
    assert rows_of(packer, Gang(PAIR, 2), where) in ([1, 3], [2, 4])
    found = rows_of(packer, Gang(PAIR, 3), where)
    assert found is not None and 0 not in found
    assert rows_of(packer, Gang(PAIR, 5), where) == [0, 1, 2, 3, 4]


def test_what_is_too_far_apart_is_not_placed() -> None:
    where = sites([0, 1, 2], CITIES)
    near = Gang(PAIR, 2, latency_us_max=9_000)
    assert rows_of(fleet_of(2, 2, 2), near, where) == [0, 1]
    nearer = Gang(PAIR, 2, latency_us_max=8_999)
    assert rows_of(fleet_of(2, 2, 2), nearer, where) is None
    far = sites([0, 1, 2], [[0, FAR_US, 1], [FAR_US, 0, 1], [1, FAR_US, 0]])
    assert rows_of(fleet_of(2, 2, 0), Gang(PAIR, 2, latency_us_max=9), far) is None


@pytest.mark.parametrize(
    ("apart", "expected"),
    [
        ((), [0, 0]),
        (("machine",), [0, 1]),
        (("provider",), [0, 2]),
        (("network",), [0, 1]),
        (("provider", "network"), [0, 3]),
        (("place",), [0, 4]),
    ],
)
def test_members_lie_apart_as_asked(
    apart: tuple[Apartness, ...], expected: list[int]
) -> None:
    where = sites(
        [0, 0, 0, 0, 1], CITIES, provider=[7, 7, 8, 9, 9], network=[1, 2, 1, 3, 4]
    )
    packer = fleet_of(4, 2, 2, 2, 2)
    # Leave only the machines that the right answer needs, and one that is wrong.
    for row in range(5):
        if row not in {*expected, 2 if expected != [0, 2] else 1}:
            take_gang(packer, PAIR, [Place(row, (0, 1))])
    assert rows_of(packer, Gang(PAIR, 2, apart=apart), where) == expected


def test_a_gang_is_placed_whole_or_not_at_all() -> None:
    packer, where = fleet_of(2, 3, 2), sites([0, 0, 0], CITIES)
    before = packer.fleet.gpus.copy()
    assert find_gang(packer, Gang(PAIR, 4), where) is None
    assert np.array_equal(packer.fleet.gpus, before)
    places = find_gang(packer, Gang(PAIR, 3), where)
    assert places is not None
    assert np.array_equal(packer.fleet.gpus, before)  # found, not taken
    take_gang(packer, PAIR, places)
    uuids = [uuid for place in places for uuid in packer.fleet.uuids(place)]
    assert len(set(uuids)) == 6
    assert find_gang(packer, Gang(PAIR, 1), where) is None


def test_members_share_gpus_by_parts() -> None:
    third = Shape(cpus_milli=1, memory_bytes=1, gpu_count=1, gpu_milli=330)
    packer, where = fleet_of(2), sites([0], [[0]])
    places = find_gang(packer, Gang(third, 6), where)
    assert places is not None
    take_gang(packer, third, places)
    assert packer.fleet.gpus.tolist() == [[WHOLE - 990, WHOLE - 990]]
    assert find_gang(packer, Gang(third, 1), where) is None
