"""The schedulers that ours is compared with, as the paper's simulator defines them.

Scores there are whole numbers, and among equals the node that stands first wins;
both matter for what comes out. FGD is "Fragmentation Gradient Descent", the best that
was published on these traces.
"""

import math
import random
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from sublet.core.placement.fleet import Fleet, Place
from sublet.core.placement.packer import Packer
from sublet.core.placement.shape import WHOLE, Shape
from sublet.core.placement.worth import Worth, lay_out

CPUS_MILLI_MOST, GPUS_MILLI_MOST = 128_000, 8_000  # by which resources are normalised
TYPICAL = 0.95  # the share of pods whose shapes FGD keeps room for
LEARNS_AT = 64  # arrivals; and then whenever they have doubled
UNFIT = -math.inf

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]


class Policy(Protocol):
    """How a scheduler ranks nodes and GPUs."""

    def score(self, fleet: Fleet, shape: Shape, rows: Rows) -> Scores:
        """Score these nodes, which have room for the shape; the highest wins."""

    def slot(self, fleet: Fleet, shape: Shape, row: int) -> int:
        """Choose the GPU of which a part is taken."""


class Baseline:
    """A policy at work. Scores are kept, and renewed for nodes that changed."""

    def __init__(self, fleet: Fleet, policy: Policy) -> None:
        """Start with the fleet as it is."""
        self.fleet, self._policy = fleet, policy
        self._changed: list[int] = []  # rows, in order
        self._scores: dict[Shape, tuple[Scores, int]] = {}  # and as of which change

    def find(self, shape: Shape) -> Place | None:
        """Choose the first of the best nodes."""
        scores = self.scores(shape)
        row = int(scores.argmax())
        return None if scores[row] == UNFIT else self._place(row, shape)

    def take(self, place: Place, shape: Shape) -> None:
        """Bind a slice there."""
        self.fleet.take(place, shape)
        self._changed.append(place.row)

    def scores(self, shape: Shape) -> Scores:
        """Score all nodes; UNFIT where there is no room."""
        known = self._scores.get(shape)
        if known is None:
            scores = np.full(len(self.fleet), UNFIT)
            rows = np.arange(len(self.fleet))
        else:
            scores, seen = known
            rows = np.unique(np.array(self._changed[seen:], dtype=np.int64))
        if rows.size:
            scores[rows] = UNFIT
            rows = rows[fits(self.fleet, shape, rows)]
            if rows.size:
                scores[rows] = self._policy.score(self.fleet, shape, rows)
        self._scores[shape] = (scores, len(self._changed))
        return scores

    def _place(self, row: int, shape: Shape) -> Place:
        if shape.gpu_count == 1 and shape.gpu_milli < WHOLE:
            return Place(row, (self._policy.slot(self.fleet, shape, row),))
        free = np.flatnonzero(self.fleet.gpus[row] == WHOLE)[: shape.gpu_count]
        return Place(row, tuple(free.tolist()))


def fits(fleet: Fleet, shape: Shape, rows: Rows) -> NDArray[np.bool_]:
    """Say which of these nodes have room for the shape."""
    accepted = np.array([shape.accepts(model) for model in fleet.models])
    enough: NDArray[np.bool_] = (fleet.cpus[rows] >= shape.cpus_milli) & (
        fleet.memory[rows] >= shape.memory_bytes
    )
    enough &= (fleet.gpus[rows] >= shape.gpu_milli).sum(axis=1) >= shape.gpu_count
    enough &= accepted[fleet.model[rows]]
    return enough


class BestFit:
    """The node with least left, of CPUs and GPUs alike; the fullest GPU."""

    def score(self, fleet: Fleet, shape: Shape, rows: Rows) -> Scores:
        """Score these nodes."""
        cpus = (fleet.cpus[rows] - shape.cpus_milli) / CPUS_MILLI_MOST
        gpus = (fleet.gpus[rows].sum(axis=1) - shape.gpus_milli()) / GPUS_MILLI_MOST
        scores: Scores = np.floor((1.0 - (cpus * 0.5 + gpus * 0.5)) * 100)
        return scores

    def slot(self, fleet: Fleet, shape: Shape, row: int) -> int:
        """Choose the fullest GPU with room."""
        gpus = fleet.gpus[row]
        return int(np.where(gpus >= shape.gpu_milli, gpus, WHOLE + 1).argmin())


class DotProduct(BestFit):
    """The node whose free resources point least the way the pod does (Tetris)."""

    def score(self, fleet: Fleet, shape: Shape, rows: Rows) -> Scores:
        """Score these nodes."""
        cpus = fleet.cpus[rows] / CPUS_MILLI_MOST * (shape.cpus_milli / CPUS_MILLI_MOST)
        free = fleet.gpus[rows].sum(axis=1) / GPUS_MILLI_MOST
        product = (cpus + free * (shape.gpus_milli() / GPUS_MILLI_MOST)) / 2
        scores: Scores = np.floor(100 * (1 - product))
        return scores


class Packed(BestFit):
    """GPUs that are in use already; then free ones of a node in use; then others."""

    def score(self, fleet: Fleet, shape: Shape, rows: Rows) -> Scores:
        """Score these nodes."""
        if not shape.gpu_count:
            return np.zeros(rows.size)
        gpus = fleet.gpus[rows]
        owned = np.array([len(fleet.machines[row].gpu_uuids) for row in rows.tolist()])
        free = (gpus == WHOLE).sum(axis=1)
        # The fullest ones with room; what has too little left is put last.
        left = np.sort(np.where(gpus >= shape.gpu_milli, gpus, 2 * WHOLE), axis=1)
        left = left[:, : shape.gpu_count]
        whole = (left == WHOLE).sum(axis=1)
        shared = np.maximum(100 - (left // 10).sum(axis=1) // 10, 50)
        scores: Scores = np.where(whole > 0, np.maximum(50 - whole, 33), shared)
        scores = np.where(free == owned, np.maximum(33 - free, free), scores)
        return scores.astype(np.float64)


class Clustered(Baseline):
    """Nodes where pods of the same number of GPUs are; then empty ones; then others."""

    def __init__(self, fleet: Fleet) -> None:
        """Start with no pods anywhere."""
        super().__init__(fleet, self)
        self._kinds: list[set[float]] = [set() for _ in range(len(fleet))]

    def take(self, place: Place, shape: Shape) -> None:
        """Bind a slice there, and remember of which kind it is."""
        super().take(place, shape)
        if shape.gpu_count:
            self._kinds[place.row].add(_kind(shape))

    def score(self, fleet: Fleet, shape: Shape, rows: Rows) -> Scores:
        """Score these nodes."""
        if not shape.gpu_count:
            return np.zeros(rows.size)
        used = 8 * WHOLE - fleet.gpus[rows].sum(axis=1)
        kinds = [self._kinds[row] for row in rows.tolist()]
        base = [self._base(known, _kind(shape)) for known in kinds]
        scores: Scores = (25 * used // (8 * WHOLE) + np.array(base)).astype(np.float64)
        return scores

    def slot(self, fleet: Fleet, shape: Shape, row: int) -> int:
        """Choose the fullest GPU with room."""
        return BestFit().slot(fleet, shape, row)

    @staticmethod
    def _base(known: set[float], kind: float) -> int:
        if kind in known:
            return 75 if len(known) == 1 else 50
        return 0 if known else 25


def _kind(shape: Shape) -> float:
    """Tell parts of a GPU from one, two, … of them."""
    return shape.gpu_count if shape.gpu_milli == WHOLE else 0.5


class Fgd:
    """The node, and GPU, whose use makes least of the free GPUs unusable."""

    def __init__(self, worth: Worth) -> None:
        """Take the tables of what free GPUs are worth to typical pods."""
        self._worth = worth

    def score(self, fleet: Fleet, shape: Shape, rows: Rows) -> Scores:
        """Score these nodes."""
        best: Scores = self._scores(fleet, shape, rows).max(axis=1)
        return best

    def slot(self, fleet: Fleet, shape: Shape, row: int) -> int:
        """Choose the first of the best GPUs."""
        scores = self._scores(fleet, shape, np.array([row]))[0]
        # A score may round to 0, which is also that of a GPU with too little left.
        scores[fleet.gpus[row] < shape.gpu_milli] = UNFIT
        return int(scores.argmax())

    def _scores(self, fleet: Fleet, shape: Shape, rows: Rows) -> Scores:
        worth, model, gpus = self._worth, fleet.model[rows], fleet.gpus[rows]
        line = worth.line(model, fleet.cpus[rows] - shape.cpus_milli)
        change = worth.of(line, gpus)
        change -= worth.of(worth.line(model, fleet.cpus[rows]), gpus)
        if shape.gpu_count == 1 and shape.gpu_milli < WHOLE:
            gains = worth.gains(line, gpus, shape.gpu_milli)
        else:
            free = (gpus == WHOLE).sum(axis=1)
            gains = worth.several[line, free - shape.gpu_count]
            gains -= worth.several[line, free]
            gains -= shape.gpu_count * worth.single[line, WHOLE]
            gains = gains[:, None]
        # Fragments before less fragments after, in GPUs.
        less = (shape.gpus_milli() + (change[:, None] + gains) / worth.total) / WHOLE
        with np.errstate(over="ignore"):
            scores: Scores = np.floor(100 / (1 + np.exp(-less)))
        return scores


def typical_worth(counts: Mapping[Shape, int], fleet: Fleet) -> Worth:
    """Make FGD's tables: of the most frequent shapes up to 95 % of all pods."""
    merged: dict[Shape, int] = {}
    for shape, count in counts.items():
        key = replace(shape, memory_bytes=0)
        merged[key] = merged.get(key, 0) + count
    enough, reached = TYPICAL * sum(counts.values()), 0
    weights: dict[Shape, int] = {}
    for shape, count in sorted(merged.items(), key=lambda item: -item[1]):
        if reached >= enough:
            break
        weights[shape] = count
        reached += count
    return lay_out(weights, fleet)


class Chance(Baseline):
    """Any node, and any GPU, with room."""

    def __init__(self, fleet: Fleet, *, seed: int) -> None:
        """Take the seed of what it chooses."""
        super().__init__(fleet, BestFit())  # whose scores only say what fits
        self._chance = random.Random(seed)

    def find(self, shape: Shape) -> Place | None:
        """Choose by chance."""
        rows = np.flatnonzero(self.scores(shape) != UNFIT)
        if not rows.size:
            return None
        row = int(self._chance.choice(rows))
        if shape.gpu_count == 1 and shape.gpu_milli < WHOLE:
            slots = np.flatnonzero(self.fleet.gpus[row] >= shape.gpu_milli)
            return Place(row, (int(self._chance.choice(slots)),))
        return self._place(row, shape)


class Learner(Packer):
    """Ours, without any knowledge beforehand: it learns from who came."""

    def __init__(self, fleet: Fleet) -> None:
        """Start with nothing."""
        super().__init__(fleet, {})
        self._counts: dict[Shape, int] = {}
        self._arrived, self._learns_at = 0, LEARNS_AT

    def find(self, shape: Shape) -> Place | None:
        """Count the shape, learn when it is time, and choose."""
        self._counts[shape] = self._counts.get(shape, 0) + 1
        self._arrived += 1
        if self._arrived == self._learns_at:
            self._learns_at *= 2
            self.learn(self._counts)
        return super().find(shape)
