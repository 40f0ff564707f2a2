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
from sublet.core.placement.worth import Worth, appraise

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

    def learn(self, counts: Mapping[Shape, int]) -> None:
        """Score by these wishes from now on."""
        self._worth = appraise(counts, self.fleet)
        for number in self._rows.values():
            self._score_shape(number)

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
        if shape.gpu_count != 1 or shape.gpu_milli == WHOLE:
            free = np.flatnonzero(gpus >= shape.gpu_milli)[: shape.gpu_count]
            return tuple(free.tolist())
        model = self.fleet.model[row : row + 1]
        cpus = self.fleet.cpus[row : row + 1] - shape.cpus_milli
        line = self._worth.line(model, cpus)
        milli = np.array([shape.gpu_milli])
        gains = self._worth.gains(line, gpus[None, :], milli)
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
        self._score_shape(number)
        return number

    def _score_shape(self, number: int) -> None:
        """Score all machines for one shape."""
        fleet, wish = self.fleet, self._columns.pick(slice(number, number + 1))
        enough = (fleet.cpus >= wish.cpus) & (fleet.memory >= wish.memory)
        enough &= (fleet.gpus >= wish.milli[:, None]).sum(axis=1) >= wish.count
        enough &= wish.accepts[0, fleet.model]
        rows = np.flatnonzero(enough)
        scores = self._scores[number]
        scores[:] = NO_ROOM
        scores[rows] = _score(
            self._worth, fleet.model[rows], fleet.cpus[rows], fleet.gpus[rows], wish
        )

    def _score_machine(self, row: int) -> None:
        """Score one machine for all shapes."""
        fleet, known = self.fleet, len(self._rows)
        wish = self._columns
        gpus, cpus = fleet.gpus[row], fleet.cpus[row]
        model = fleet.model[row]
        most = np.sort(gpus)[::-1]  # a shape fits where its last GPU has enough
        last = np.concatenate([[WHOLE], most])
        numbers = np.flatnonzero(
            (wish.cpus[:known] <= cpus)
            & (wish.memory[:known] <= fleet.memory[row])
            & (wish.count[:known] <= gpus.size)
            & wish.accepts[:known, model]
            & (last[np.minimum(wish.count[:known], gpus.size)] >= wish.milli[:known])
        )
        self._scores[:known, row] = NO_ROOM
        if numbers.size:
            self._scores[numbers, row] = _score(
                self._worth,
                fleet.model[row : row + 1],
                fleet.cpus[row : row + 1],
                gpus[None, :],
                wish.pick(numbers),
            )


class _Columns:
    """Shapes in columns, by number."""

    def __init__(self, *, capacity: int, models: int) -> None:
        self.cpus, self.memory, self.count, self.milli = np.zeros(
            (4, capacity), dtype=np.int64
        )
        self.accepts = np.zeros((capacity, models), dtype=np.bool_)

    def grow(self) -> None:
        for name, column in vars(self).items():
            setattr(self, name, np.concatenate([column, column]))

    def put(self, number: int, shape: Shape, models: tuple[str, ...]) -> None:
        self.cpus[number] = shape.cpus_milli
        self.memory[number] = shape.memory_bytes
        self.count[number] = shape.gpu_count
        self.milli[number] = shape.gpu_milli
        self.accepts[number] = [shape.accepts(model) for model in models]

    def pick(self, numbers: slice | NDArray[np.int64]) -> "_Columns":
        picked = _Columns.__new__(_Columns)
        for name, column in vars(self).items():
            setattr(picked, name, column[numbers])
        return picked


def _score(
    worth: Worth,
    model: NDArray[np.int64],
    cpus: NDArray[np.int64],
    gpus: NDArray[np.int64],
    wish: _Columns,
) -> NDArray[np.int64]:
    """Score pairs of a machine and a shape that fits it.

    Either side may have the length 1, and then goes with all of the other's.

    Returns:
        Steps of STEP_MILLI; shape (n_pairs,).
    """
    before = worth.of(worth.line(model, cpus), gpus)
    line = worth.line(model, cpus - wish.cpus)
    after = worth.of(line, np.broadcast_to(gpus, (line.size, gpus.shape[1])))
    free = (gpus == WHOLE).sum(axis=1)
    is_part = (wish.count == 1) & (wish.milli < WHOLE)
    left = free - np.where(is_part, 0, wish.count)
    whole = worth.several[line, left] - worth.several[line, free]
    whole += (left - free) * worth.single[line, WHOLE]
    part = worth.gains(line, gpus, wish.milli).max(axis=1)
    after += np.where(is_part, part, whole)
    taken = wish.count * wish.milli * worth.total
    scores: NDArray[np.int64] = (after - before + taken) // (worth.total * STEP_MILLI)
    return scores
