"""The packing benchmark's recipe, on a small trace of its own in the trace's format."""

import csv
import gzip
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import packing
from benchmarks.rig import gpu_trace
from benchmarks.rig.schedulers import Fgd, typical_worth
from sublet.core.placement.fleet import Fleet
from sublet.core.placement.shape import WHOLE

MODELS = ("T4", "V100")
WISHES = (  # cpus, GPUs, thousandths of each, models, how many
    (4_000, 1, 460, "", 40),
    (6_000, 1, 700, "", 15),
    (8_000, 1, 1_000, "V100", 25),
    (8_000, 1, 1_000, "", 25),
    (32_000, 8, 1_000, "", 2),
    (2_000, 0, 0, "", 15),
)


def write(path: Path, header: str, rows: list[tuple[object, ...]]) -> None:
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    nodes = [
        (
            f"n{n}",
            64_000 if n % 2 else 96_000,
            1 << 19,
            (2, 8)[n % 2],
            MODELS[n % 3 == 0],
        )
        for n in range(40)
    ]
    pods = [
        (f"p{kind}-{n}", cpus, 1_024, gpus, milli, models)
        for kind, (cpus, gpus, milli, models, count) in enumerate(WISHES)
        for n in range(count)
    ]
    write(
        tmp_path / "openb_node_list_gpu_node.csv.gz",
        "sn,cpu_milli,memory_mib,gpu,model",
        nodes,
    )
    write(
        tmp_path / "openb_pod_list_default.csv.gz",
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec",
        pods,
    )
    monkeypatch.setattr(gpu_trace, "DATA", tmp_path)
    gpu_trace.read_machines.cache_clear()
    gpu_trace.read_pods.cache_clear()
    yield
    gpu_trace.read_machines.cache_clear()
    gpu_trace.read_pods.cache_clear()


@pytest.mark.usefixtures("trace")
def test_arrivals_ask_for_thirteen_tenths_of_the_gpus() -> None:
    pods, machines = gpu_trace.read_pods("default"), gpu_trace.read_machines()
    arriving, nodes = gpu_trace.draw(pods, machines, seed=3)
    capacity = WHOLE * sum(len(node.gpu_uuids) for node in machines)
    asked = sum(pod.gpus_milli() for pod in arriving)
    assert 0 <= 1.3 * capacity - asked + 8 * WHOLE <= 9 * WHOLE
    assert sorted(nodes, key=str) == sorted(machines, key=str)
    assert (arriving, nodes) == gpu_trace.draw(pods, machines, seed=3)
    assert arriving != gpu_trace.draw(pods, machines, seed=4)[0]


@pytest.mark.usefixtures("trace")
def test_ours_packs_best_and_chance_worst() -> None:
    mean = {
        policy: sum(packing.run("default", policy, seed) for seed in range(6)) / 6
        for policy in packing.POLICIES
    }
    assert max(mean.values()) <= 100
    assert min(mean, key=mean.__getitem__) == "Random"
    assert mean["Sublet"] >= mean["FGD"] - 0.5
    assert mean["Sublet"] > mean["BestFit"] > mean["Random"]


@pytest.mark.usefixtures("trace")
def test_fgd_scores_as_the_paper_defines() -> None:
    pods = gpu_trace.read_pods("default")
    arriving, nodes = gpu_trace.draw(pods, gpu_trace.read_machines(), seed=5)
    fleet, chance = Fleet(nodes), random.Random(5)
    counts = gpu_trace.count_shapes(pods)
    policy = Fgd(typical_worth(counts, fleet))
    fleet.gpus[fleet.gpus > 0] = 700
    fleet.gpus[:, 0] = [chance.choice([0, 460, WHOLE]) for _ in nodes]

    def fragments(cpus: int, gpus: list[int], model: str) -> float:
        lost = 0.0
        for shape, count in counts.items():
            enough = [left for left in gpus if left >= shape.gpu_milli]
            is_usable = (
                shape.gpu_count > 0
                and shape.accepts(model)
                and cpus >= shape.cpus_milli
                and len(enough) >= shape.gpu_count
            )
            lost += count * (sum(gpus) - (sum(enough) if is_usable else 0))
        return lost / len(pods) / WHOLE

    part = next(pod for pod in arriving if 0 < pod.gpus_milli() == 460)
    for row, node in enumerate(nodes):
        gpus, cpus = fleet.gpus[row].tolist(), int(fleet.cpus[row])
        before = fragments(cpus, gpus, node.gpu_model)
        scores = policy._scores(fleet, part, np.array([row]))[0]
        for slot, left in enumerate(gpus):
            if left < 460:
                continue
            after = [x - 460 * (n == slot) for n, x in enumerate(gpus)]
            less = before - fragments(cpus - part.cpus_milli, after, node.gpu_model)
            assert abs(scores[slot] - 100 / (1 + 2.718281828459045**-less)) <= 1
