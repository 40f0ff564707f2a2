"""What free GPUs are worth: how much of them the usual wishes could still use.

From the shapes that are asked for, and how often, follow two tables. A lookup says
how many thousandths of a free GPU (or of several) an average wish could use, given the
machine's model and the CPUs that are left beside it. A GPU that nobody's wish fits any
more is worth nothing, however free it is: that is fragmentation. The measure is
the one of "Beware of Fragmentation" (USENIX ATC 2023), with one addition: a wish
that only few GPUs can fulfil counts for as much more as these are rarer, so that
wishes which could go anywhere leave them alone.

Integers throughout, so that every replay decides the same.
"""

from bisect import bisect_right
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sublet.core.placement.fleet import Fleet
from sublet.core.placement.shape import WHOLE, Shape

TYPICAL_MAX = 512  # shapes; the rarer ones are not kept room for
NO_GAIN = np.iinfo(np.int64).min // 4  # of a GPU with too little left for the part
_RARITY_UNIT = 64  # keeps the fractions of a rarity through integer division


class Worth(NamedTuple):
    """The tables. Lines: one for each model and step of CPUs that are left."""

    steps: NDArray[np.int64]  # CPUs that typical wishes ask for, ascending
    single: NDArray[np.int64]  # shape (n_lines, WHOLE + 1): one GPU, by what is free
    several: NDArray[np.int64]  # shape (n_lines, width + 1): by how many are all free
    total: int  # the sum of the weights; worth is in units of 1 / total

    def line(
        self, model: NDArray[np.int64], cpus: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Find the lines for machines of these models with so many CPUs left."""
        step = np.searchsorted(self.steps, cpus, side="right")
        lines: NDArray[np.int64] = model * (self.steps.size + 1) + step
        return lines

    def lines_of(self, model: int) -> slice:
        """Give the lines of one model: none of its steps is reached, the first, …"""
        per_model = self.steps.size + 1
        return slice(model * per_model, (model + 1) * per_model)

    def of(self, line: NDArray[np.int64], gpus: NDArray[np.int64]) -> NDArray[np.int64]:
        """Say what the GPUs of machines are worth; shapes (n,) and (n, width)."""
        worth: NDArray[np.int64] = self.single[line[:, None], gpus].sum(axis=1)
        worth += self.several[line, (gpus == WHOLE).sum(axis=1)]
        return worth

    def gains(
        self, line: NDArray[np.int64], gpus: NDArray[np.int64], milli: int
    ) -> NDArray[np.int64]:
        """Say how the worth changes if a part is cut from each of the GPUs.

        Args:
            line: of the machines once the CPUs are taken, shape (n,).
            gpus: free thousandths, shape (n, width).
            milli: the part.

        Returns:
            Shape (n, width); less than half of NO_GAIN where too little is left.
        """
        lines, left = line[:, None], gpus - milli
        gains: NDArray[np.int64] = self.single[lines, np.maximum(left, 0)]
        gains -= self.single[lines, gpus]
        is_whole = gpus == WHOLE
        free = is_whole.sum(axis=1)
        fewer = self.several[line, np.maximum(free - 1, 0)] - self.several[line, free]
        gains += is_whole * fewer[:, None]
        gains[left < 0] = NO_GAIN
        return gains


def typical(counts: Mapping[Shape, int]) -> dict[Shape, int]:
    """Pick the wishes that room is kept for: the most frequent ones."""
    merged: dict[Shape, int] = {}
    for shape, count in counts.items():
        # Memory is plentiful beside GPUs; the tables do not look at it.
        key = replace(shape, memory_bytes=0)
        merged[key] = merged.get(key, 0) + count
    return dict(sorted(merged.items(), key=_by_frequency)[:TYPICAL_MAX])


def _by_frequency(
    item: tuple[Shape, int],
) -> tuple[int, int, int, int, tuple[str, ...]]:
    shape, count = item
    size = (-shape.cpus_milli, -shape.gpu_milli, -shape.gpu_count)
    return (-count, *size, shape.gpu_models)


def appraise(counts: Mapping[Shape, int], fleet: Fleet) -> Worth:
    """Make the tables from how often each shape was asked for.

    Args:
        counts: wishes, by shape.
        fleet: for the models there are, and how rare each is.
    """
    gpus = fleet.gpus_of_model()
    total = sum(gpus.values())
    weights: dict[Shape, int] = {}
    for shape, count in typical(counts).items():
        weight = count * _RARITY_UNIT
        if shape.gpu_count:
            reachable = sum(n for model, n in gpus.items() if shape.accepts(model))
            if not reachable:
                continue  # nobody here could ever serve it
            weight = weight * total // reachable
        weights[shape] = weight
    return lay_out(weights, fleet)


def lay_out(weights: Mapping[Shape, int], fleet: Fleet) -> Worth:
    """Make the tables of weighted wishes."""
    steps = sorted({shape.cpus_milli for shape in weights if shape.gpu_count})
    lines_per_model = len(steps) + 1
    n_lines = len(fleet.models) * lines_per_model
    single = np.zeros((n_lines, WHOLE + 1), dtype=np.int64)
    several = np.zeros((n_lines, fleet.width + 1), dtype=np.int64)
    for shape, weight in weights.items():
        if not shape.gpu_count:
            continue
        step = bisect_right(steps, shape.cpus_milli)
        for number, model in enumerate(fleet.models):
            if not shape.accepts(model):
                continue
            start = number * lines_per_model
            served = slice(start + step, start + lines_per_model)
            if shape.gpu_count == 1:
                free = np.arange(shape.gpu_milli, WHOLE + 1)
                single[served, shape.gpu_milli :] += weight * free
            else:
                free = np.arange(shape.gpu_count, fleet.width + 1) * WHOLE
                several[served, shape.gpu_count :] += weight * free
    total = max(1, sum(weights.values()))
    return Worth(np.array(steps, dtype=np.int64), single, several, total)
