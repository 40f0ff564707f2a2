"""The choice among machines: where a slice destroys least of what is of use.

For each machine and shape there is one score: what the machine's free GPUs are worth
after the slice, against before, in coarse steps. Machines within one step are equal,
and the first of them in the fleet's order gets the slice: so slices gather on few
machines, and the others stay whole. (Finer steps chase differences that are
smaller than what the tables know, spread slices everywhere and pack worse: measured
in ``benchmarks/packing.py``.)

Scores are kept. A slice that comes or goes changes one machine, and only that machine
is scored anew, for all known shapes at once.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sublet.core.placement.fleet import Fleet, Place
from sublet.core.placement.shape import WHOLE, Shape, check_shape
from sublet.core.placement.worth import NO_GAIN, TYPICAL_MAX, Worth, appraise

SHAPES_MAX = 4_096  # that scores are kept for; beyond, the longest known is forgotten
STEP_MILLI = 100  # thousandths of a GPU: scores closer than this are equal
NO_ROOM = np.iinfo(np.int64).min  # the score of a machine that cannot take the shape


class Packer:
    """Scores of a fleet's machines, by shape, always up to date."""

    def __init__(self, fleet: Fleet, counts: Mapping[Shape, int]) -> None:
        """Score by what was asked for until now; ``learn`` tells it more."""
        self.fleet = fleet
        self._rows: dict[Shape, int] = {}
        self._columns = _Columns(capacity=64, models=len(fleet.models))
        self._scores = np.full((64, len(fleet)), NO_ROOM, dtype=np.int64)
        self._worth: Worth = appraise(counts, fleet)
        usual = sorted(counts, key=lambda shape: -counts[shape])[:TYPICAL_MAX]
        for shape in usual:  # so that nobody waits who asks for one of them first
            self._number(shape)

    def learn(self, counts: Mapping[Shape, int]) -> None:
        """Score by these wishes from now on."""
        self._worth = appraise(counts, self.fleet)
        for shape, number in self._rows.items():
            self._score_shape(number, shape)

    def find(self, shape: Shape) -> Place | None:
        """Choose where a slice of this shape goes; None where it fits nowhere.

        Changes nothing but what is remembered of the shape.

        Raises:
            Refused: ``bad_shape``.
        """
        scores = self.scores(shape)
        if not scores.size:
            return None
        row = int(scores.argmax())
        if scores[row] == NO_ROOM:
            return None
        return Place(row, self.slots(row, shape))

    def scores(self, shape: Shape) -> NDArray[np.int64]:
        """Give each machine's score, the higher the better; NO_ROOM where it is full.

        Shape (n_machines,); a view that the next change overwrites.
        """
        number = self._number(shape)  # may lay out the scores anew
        scores: NDArray[np.int64] = self._scores[number]
        return scores

    def take(self, place: Place, shape: Shape) -> None:
        """Bind a slice there, and score the machine anew."""
        self.fleet.take(place, shape)
        self._score_machine(place.row)

    def release(self, place: Place, shape: Shape) -> None:
        """Give a slice's part back, and score the machine anew."""
        self.fleet.release(place, shape)
        self._score_machine(place.row)

    def slots(self, row: int, shape: Shape) -> tuple[int, ...]:
        """Choose the GPUs of a machine that has room for the shape."""
        gpus = self.fleet.gpus[row]
        if not _is_part(shape):
            free = np.flatnonzero(gpus == WHOLE)[: shape.gpu_count]
            return tuple(free.tolist())
        cpus = self.fleet.cpus[row : row + 1] - shape.cpus_milli
        line = self._worth.line(self.fleet.model[row : row + 1], cpus)
        gains = self._worth.gains(line, gpus[None, :], shape.gpu_milli)
        return (int(gains[0].argmax()),)

    def _number(self, shape: Shape) -> int:
        number = self._rows.get(shape)
        if number is not None:
            return number
        check_shape(shape)
        number = len(self._rows)
        if number == SHAPES_MAX:
            number = self._rows.pop(next(iter(self._rows)))
        elif number == len(self._scores):
            self._scores = np.concatenate([self._scores, self._scores])
            self._columns.grow()
        self._rows[shape] = number
        self._columns.put(number, shape, self.fleet.models)
        self._score_shape(number, shape)
        return number

    def _score_shape(self, number: int, shape: Shape) -> None:
        """Score all machines for one shape."""
        fleet, worth = self.fleet, self._worth
        enough = (fleet.cpus >= shape.cpus_milli) & (fleet.memory >= shape.memory_bytes)
        enough &= (fleet.gpus >= shape.gpu_milli).sum(axis=1) >= shape.gpu_count
        enough &= self._columns.accepts[number, fleet.model]
        rows = np.flatnonzero(enough)
        model, cpus, gpus = fleet.model[rows], fleet.cpus[rows], fleet.gpus[rows]
        line = worth.line(model, cpus - shape.cpus_milli)
        change = worth.of(line, gpus) - worth.of(worth.line(model, cpus), gpus)
        if _is_part(shape):
            change += worth.gains(line, gpus, shape.gpu_milli).max(axis=1)
        else:
            free = (gpus == WHOLE).sum(axis=1)
            change += worth.several[line, free - shape.gpu_count]
            change -= worth.several[line, free]
            change -= shape.gpu_count * worth.single[line, WHOLE]
        scores = self._scores[number]
        scores[:] = NO_ROOM
        scores[rows] = _score(change, shape.gpus_milli(), worth.total)

    def _score_machine(self, row: int) -> None:
        """Score one machine for all shapes: the same sums, read the other way.

        GPUs with as much free are equal, and the model's part of the tables is small.
        """
        fleet, worth, known = self.fleet, self._worth, len(self._rows)
        wish, width = self._columns, fleet.width
        cpus, model = fleet.cpus[row], fleet.model[row]
        free_milli = sorted(fleet.gpus[row].tolist(), reverse=True)
        # A shape fits where the last GPU that it needs has enough.
        last = np.array([WHOLE, *free_milli])[np.minimum(wish.count[:known], width)]
        fits = (wish.cpus[:known] <= cpus) & (wish.memory[:known] <= fleet.memory[row])
        fits &= (wish.count[:known] <= width) & (wish.milli[:known] <= last)
        fits &= wish.accepts[:known, model]
        numbers = np.flatnonzero(fits)
        column = self._scores[:known, row]
        column[:] = NO_ROOM
        if not numbers.size:
            return
        free = free_milli.count(WHOLE)
        lefts = list(dict.fromkeys(free_milli))
        lines = worth.lines_of(int(model))
        single, several = worth.single[lines], worth.several[lines]
        each = single[:, lefts]
        base = each @ np.array([free_milli.count(left) for left in lefts])
        base += several[:, free]
        step = np.searchsorted(worth.steps, cpus - wish.cpus[numbers], side="right")
        change = base[step] - base[np.searchsorted(worth.steps, cpus, side="right")]
        is_part = wish.is_part[numbers]
        part, whole = is_part.nonzero()[0], (~is_part).nonzero()[0]
        if whole.size:
            at, count = step[whole], wish.count[numbers[whole]]
            change[whole] += several[at, free - count] - several[at, free]
            change[whole] -= count * single[at, WHOLE]
        if part.size:
            at, milli = step[part], wish.milli[numbers[part]]
            left = np.array(lefts) - milli[:, None]
            gains = single[at[:, None], np.maximum(left, 0)] - each[at]
            if free:  # the first of the lefts is WHOLE
                gains[:, 0] += several[at, free - 1] - several[at, free]
            gains[left < 0] = NO_GAIN
            change[part] += gains.max(axis=1)
        column[numbers] = _score(change, wish.taken[numbers], worth.total)


class _Columns:
    """Shapes in columns, by number."""

    def __init__(self, *, capacity: int, models: int) -> None:
        self.cpus, self.memory, self.count, self.milli, self.taken = np.zeros(
            (5, capacity), dtype=np.int64
        )
        self.is_part = np.zeros(capacity, dtype=np.bool_)
        self.accepts = np.zeros((capacity, models), dtype=np.bool_)

    def grow(self) -> None:
        for name, column in vars(self).items():
            setattr(self, name, np.concatenate([column, column]))

    def put(self, number: int, shape: Shape, models: tuple[str, ...]) -> None:
        self.cpus[number] = shape.cpus_milli
        self.memory[number] = shape.memory_bytes
        self.count[number] = shape.gpu_count
        self.milli[number] = shape.gpu_milli
        self.taken[number] = shape.gpus_milli()
        self.is_part[number] = _is_part(shape)
        self.accepts[number] = [shape.accepts(model) for model in models]


def _is_part(shape: Shape) -> bool:
    return shape.gpu_count == 1 and shape.gpu_milli < WHOLE


def _score(
    change: NDArray[np.int64], taken: NDArray[np.int64] | int, total: int
) -> NDArray[np.int64]:
    """Turn a change of worth into a score: what was not lost, in steps."""
    scores: NDArray[np.int64] = (change + taken * total) // (total * STEP_MILLI)
    return scores
