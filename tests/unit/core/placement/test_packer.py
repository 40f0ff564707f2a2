"""Slices go where they destroy least, and kept scores never go stale."""

import random

import numpy as np
import pytest

from sublet.base.errors import Refused
from sublet.core.placement import packer as module
from sublet.core.placement.fleet import Fleet, Machine, Place
from sublet.core.placement.packer import NO_ROOM, Packer
from sublet.core.placement.shape import WHOLE, Shape

GIB = 1 << 30


def machine(*, gpus: int, model: str = "A", cpus: int = 32) -> Machine:
    return Machine(
        cpus_milli=cpus * 1_000,
        memory_bytes=256 * GIB,
        gpu_model=model,
        gpu_uuids=tuple(f"GPU-{n}" for n in range(gpus)),
    )


def wish(*, gpus: int = 1, milli: int = WHOLE, models: tuple[str, ...] = ()) -> Shape:
    return Shape(
        cpus_milli=1_000,
        memory_bytes=GIB,
        gpu_count=gpus,
        gpu_milli=milli,
        gpu_models=models,
    )


EIGHT, ONE, HALF = wish(gpus=8), wish(), wish(milli=500)


def test_a_half_goes_to_the_gpu_that_is_half_taken() -> None:
    packer = Packer(Fleet([machine(gpus=2), machine(gpus=2)]), {HALF: 5, ONE: 5})
    packer.take(Place(1, (1,)), HALF)
    assert packer.find(HALF) == Place(1, (1,))


def test_a_machine_with_all_gpus_free_is_kept_for_who_needs_them_all() -> None:
    packer = Packer(Fleet([machine(gpus=8), machine(gpus=8)]), {EIGHT: 1, ONE: 8})
    packer.take(Place(1, (0,)), ONE)
    for slot in range(1, 8):
        assert packer.find(ONE) == Place(1, (slot,))
        packer.take(Place(1, (slot,)), ONE)
    assert packer.find(EIGHT) == Place(0, tuple(range(8)))


def test_the_rare_model_is_left_to_who_must_have_it() -> None:
    picky = wish(models=("R",))
    fleet = Fleet([machine(gpus=4, model="R"), machine(gpus=4), machine(gpus=4)])
    packer = Packer(fleet, {picky: 1, ONE: 5})
    found = packer.find(ONE)
    assert found is not None and found.row == 1
    found = packer.find(picky)
    assert found is not None and found.row == 0


def test_without_knowledge_the_first_that_fits_is_taken() -> None:
    packer = Packer(Fleet([machine(gpus=1), machine(gpus=2), machine(gpus=2)]), {})
    assert packer.find(wish(gpus=2)) == Place(1, (0, 1))


def test_where_nothing_fits_nothing_is_found() -> None:
    packer = Packer(Fleet([machine(gpus=2, cpus=1)]), {ONE: 1})
    assert packer.find(wish(gpus=3)) is None
    assert packer.find(wish(models=("B",))) is None
    packer.take(Place(0, (0,)), ONE)  # the last CPU
    assert packer.find(ONE) is None
    packer.release(Place(0, (0,)), ONE)
    assert packer.find(ONE) == Place(0, (0,))
    assert Packer(Fleet([]), {}).find(ONE) is None


@pytest.mark.parametrize(
    ("shape", "field"),
    [
        (wish(gpus=65), "shape.gpu_count"),
        (wish(milli=0), "shape.gpu_milli"),
        (wish(gpus=2, milli=500), "shape.gpu_milli"),
        (Shape(cpus_milli=-1, memory_bytes=0), "shape.cpus_milli"),
    ],
)
def test_a_shape_that_makes_no_sense_is_refused(shape: Shape, field: str) -> None:
    with pytest.raises(Refused) as caught:
        Packer(Fleet([machine(gpus=2)]), {}).find(shape)
    assert (caught.value.code, caught.value.field) == ("bad_shape", field)


def random_world(seed: int) -> tuple[random.Random, list[Machine], list[Shape]]:
    chance = random.Random(seed)
    machines = [
        machine(
            gpus=chance.choice([0, 1, 2, 4, 8]),
            model=chance.choice("AB"),
            cpus=chance.choice([4, 16, 64]),
        )
        for _ in range(30)
    ]
    shapes = [
        wish(milli=chance.randrange(1, WHOLE), models=chance.choice([(), ("B",)]))
        for _ in range(60)
    ]
    return chance, machines, [*shapes, EIGHT, ONE, wish(gpus=2), wish(gpus=0)]


@pytest.mark.parametrize("seed", range(5))
def test_kept_scores_are_those_of_a_packer_that_starts_now(seed: int) -> None:
    chance, machines, shapes = random_world(seed)
    counts = {shape: chance.randrange(1, 9) for shape in shapes}
    packer = Packer(Fleet(machines), counts)
    bound: list[tuple[Place, Shape]] = []
    for _ in range(300):
        shape = chance.choice(shapes)
        if bound and chance.random() < 0.3:
            packer.release(*bound.pop(chance.randrange(len(bound))))
        elif (place := packer.find(shape)) is not None:
            packer.take(place, shape)  # Broken where it does not fit
            bound.append((place, shape))
        else:
            assert not packer.fleet.room(shape).any()
    anew = Packer(Fleet(machines), counts)
    for place, shape in bound:
        anew.fleet.take(place, shape)
    for shape in shapes:
        there = Packer(anew.fleet, counts).scores(shape)
        assert packer.scores(shape).tolist() == there.tolist()
        assert ((there != NO_ROOM) == (anew.fleet.room(shape) > 0)).all()


def test_scores_are_kept_for_so_many_shapes_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SHAPES_MAX", 8)
    _, machines, shapes = random_world(1)
    packer = Packer(Fleet(machines), {})
    for shape in shapes * 2:
        place = packer.find(shape)
        if place is not None:
            packer.take(place, shape)
        there = Packer(packer.fleet, {}).scores(shape)
        assert np.array_equal(packer.scores(shape), there)
