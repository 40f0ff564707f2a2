"""The tables say what the definition says, term by term."""

import random

import numpy as np

from sublet.core.placement.fleet import Fleet, Machine
from sublet.core.placement.shape import WHOLE, Shape
from sublet.core.placement.worth import TYPICAL_MAX, appraise, lay_out, typical

CHANCE = random.Random(7)
MODELS = ("A", "B")


def any_shape() -> Shape:
    count = CHANCE.choice([0, 1, 1, 1, 2, 4])
    return Shape(
        cpus_milli=CHANCE.choice([1_000, 4_000, 9_000]),
        memory_bytes=0,
        gpu_count=count,
        gpu_milli=CHANCE.choice([250, 500, 700, WHOLE]) if count == 1 else WHOLE,
        gpu_models=CHANCE.choice([(), ("A",), ("A", "B")]),
    )


def usable(shape: Shape, *, model: str, cpus: int, gpus: list[int]) -> int:
    """Say how much of the free GPUs a wish could use, by the words of the paper."""
    if not shape.gpu_count or not shape.accepts(model) or cpus < shape.cpus_milli:
        return 0
    enough = [left for left in gpus if left >= shape.gpu_milli]
    return sum(enough) if len(enough) >= shape.gpu_count else 0


def test_worth_is_what_an_average_wish_could_use() -> None:
    fleet = Fleet(
        [Machine(cpus_milli=1, memory_bytes=1, gpu_model=m, gpu_uuids=tuple("abcd"))
         for m in MODELS]
    )  # fmt: skip
    weights = {any_shape(): CHANCE.randrange(1, 50) for _ in range(30)}
    worth = lay_out(weights, fleet)
    for _ in range(300):
        model, cpus = CHANCE.randrange(2), CHANCE.randrange(12_000)
        gpus = [CHANCE.choice([0, 100, 250, 499, 700, WHOLE]) for _ in range(4)]
        line = worth.line(np.array([model]), np.array([cpus]))
        expected = sum(
            weight * usable(shape, model=MODELS[model], cpus=cpus, gpus=gpus)
            for shape, weight in weights.items()
        )
        assert worth.of(line, np.array([gpus])).tolist() == [expected]
        gains = worth.gains(line, np.array([gpus]), 250)[0].tolist()
        for slot, gain in enumerate(gains):
            if gpus[slot] < 250:
                assert gain < -(1 << 60)
                continue
            after = [left - 250 * (n == slot) for n, left in enumerate(gpus)]
            there = worth.of(line, np.array([after]))[0]
            assert gain == there - expected


def test_wishes_that_few_gpus_fulfil_weigh_more() -> None:
    rare = Machine(cpus_milli=9_000, memory_bytes=1, gpu_model="A", gpu_uuids=("a",))
    usual = Machine(
        cpus_milli=9_000, memory_bytes=1, gpu_model="B", gpu_uuids=("b", "c", "d")
    )
    picky = Shape(cpus_milli=1, memory_bytes=1, gpu_count=1, gpu_models=("A",))
    easy = Shape(cpus_milli=1, memory_bytes=1, gpu_count=1)
    worth = appraise({picky: 1, easy: 1}, Fleet([rare, usual]))
    lines = worth.line(np.array([0, 1]), np.array([9_000, 9_000]))
    of_a, of_b = worth.single[lines, WHOLE].tolist()
    assert of_a == 5 * of_b  # four times the weight of one, and the weight of another


def test_what_nobody_could_serve_counts_for_nothing() -> None:
    alone = Machine(cpus_milli=1, memory_bytes=1, gpu_model="A", gpu_uuids=("a",))
    wish = Shape(cpus_milli=1, memory_bytes=1, gpu_count=1, gpu_models=("none",))
    assert not appraise({wish: 5}, Fleet([alone])).single.any()


def test_only_so_many_shapes_are_kept_room_for() -> None:
    counts = {
        Shape(cpus_milli=n, memory_bytes=m, gpu_count=1): 1 + (n < 5)
        for n in range(TYPICAL_MAX + 10)
        for m in (1, 2)
    }
    picked = typical(counts)
    assert len(picked) == TYPICAL_MAX
    assert list(picked.values())[:6] == [4, 4, 4, 4, 4, 2]
