"""The GPU cluster of "Beware of Fragmentation" (USENIX ATC 2023), and its recipe.

Nodes and pods come from Alibaba's cluster-trace-gpu-v2023; the recipe is that of the
paper's simulator (hkust-adsl/kubernetes-scheduler-simulator): pods are shuffled, then
drawn again until they ask for 1.3 times the GPUs that there are; nodes stand in
random order, which breaks ties; pods arrive one by one, none leaves. Measured
is which share of all GPUs is allocated when pods for 100 % of them have arrived: the
mean over all arrivals that round to 100 %. Their generator of random numbers is
Go's and ours is Python's, so a seed means another draw of the same distribution.
"""

import csv
import gzip
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

from benchmarks.rig.frame import ROOT
from sublet.core.placement.fleet import Fleet, Machine, Place
from sublet.core.placement.shape import WHOLE, Shape

DATA = Path(os.environ.get("GPU_CLUSTER", ROOT.parent / "shared/data/gpu-cluster"))
LISTS = (
    *("default", "cpu050", "cpu100", "cpu250", "gpushare40", "gpushare80"),
    *("gpushare100", "gpuspec10", "gpuspec20", "gpuspec33", "multigpu20"),
    *("multigpu40", "multigpu50"),
)
ARRIVING = 1.3  # GPUs asked for, over GPUs there are
MIB = 1 << 20


class Scheduler(Protocol):
    """What is compared: it chooses, and is told what was taken."""

    def find(self, shape: Shape) -> Place | None:
        """Choose a place; None where there is none."""

    def take(self, place: Place, shape: Shape) -> None:
        """Bind a slice there."""


def read(name: str) -> Iterator[dict[str, str]]:
    """Read one file of the trace, row by row."""
    path = DATA / f"{name}.csv.gz"
    if not path.is_file():
        raise SystemExit(f"{path} is missing; set GPU_CLUSTER to the trace's folder")
    with gzip.open(path, "rt", newline="") as lines:
        yield from csv.DictReader(lines)


@cache
def read_machines() -> tuple[Machine, ...]:
    """Read the nodes that have GPUs."""
    return tuple(
        Machine(
            cpus_milli=int(row["cpu_milli"]),
            memory_bytes=int(row["memory_mib"]) * MIB,
            gpu_model=row["model"],
            gpu_uuids=tuple(f"{row['sn']}-{n}" for n in range(int(row["gpu"]))),
        )
        for row in read("openb_node_list_gpu_node")
    )


@cache
def read_pods(name: str) -> tuple[Shape, ...]:
    """Read a list of pods."""
    return tuple(
        Shape(
            cpus_milli=int(row["cpu_milli"]),
            memory_bytes=int(row["memory_mib"]) * MIB,
            gpu_count=(count := int(row["num_gpu"])),
            gpu_milli=int(row["gpu_milli"]) if count else WHOLE,
            gpu_models=tuple(x for x in row.get("gpu_spec", "").split("|") if x),
        )
        for row in read(f"openb_pod_list_{name}")
    )


def read_published() -> dict[tuple[str, str], tuple[float, float]]:
    """Read the paper's allocation and fragmentation in %, by list and policy."""
    return {
        (row["workload"].removeprefix("openb_pod_list_"), row["sc_policy"][3:]): (
            float(row["mean"]),
            float(row["frag_ratio_pct"]),
        )
        for row in read("fgd_expected_alloc")
        if row["arrived_pct"] == "100"
    }


def draw(
    pods: Sequence[Shape], machines: Sequence[Machine], *, seed: int
) -> tuple[list[Shape], list[Machine]]:
    """Draw the pods that arrive, in order, and the order of the nodes."""
    chance = random.Random(seed)
    arriving, nodes = list(pods), list(machines)
    chance.shuffle(arriving)
    capacity = WHOLE * sum(len(node.gpu_uuids) for node in nodes)
    target = ARRIVING * capacity
    asked = sum(pod.gpus_milli() for pod in arriving)
    while asked > target:
        asked -= arriving.pop(chance.randrange(len(arriving))).gpus_milli()
    # The simulator tests one GPU's worth of the next pod before it goes over.
    while (
        asked + (pod := chance.choice(pods)).gpu_milli * (pod.gpu_count > 0) <= target
    ):
        asked += pod.gpus_milli()
        arriving.append(pod)
    chance.shuffle(nodes)
    return arriving, nodes


def count_shapes(pods: Sequence[Shape]) -> dict[Shape, int]:
    """Count how often each shape is asked for."""
    return dict(Counter(pods))


def fill(fleet: Fleet, scheduler: Scheduler, arriving: Sequence[Shape]) -> float:
    """Let pods arrive until 100 % have; give the share of GPUs allocated, in %."""
    capacity = WHOLE * sum(len(node.gpu_uuids) for node in fleet.machines)
    arrived = allocated = 0
    shares = []
    for pod in arriving:
        arrived += pod.gpus_milli()
        place = scheduler.find(pod)
        if place is not None:
            scheduler.take(place, pod)
            allocated += pod.gpus_milli()
        if arrived * 1_000 >= 1_005 * capacity:
            break
        if arrived * 1_000 >= 995 * capacity:
            shares.append(100 * allocated / capacity)
    return sum(shares) / len(shares)
