"""The machines that slices are placed on: what is free of each, in columns.

Each GPU is itself, under its UUID, with the thousandths of it that are free; never a
mere count. Not here: which machine is best (``packer``).
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sublet.base.errors import Broken
from sublet.core.placement.shape import WHOLE, Shape


class Machine(Struct, frozen=True):
    """A machine, and what of it may be given away."""

    cpus_milli: int
    memory_bytes: int
    gpu_model: str = ""
    gpu_uuids: tuple[str, ...] = ()


class Place(Struct, frozen=True):
    """Where a slice lies: the row of its machine, and the slots of its GPUs."""

    row: int
    slots: tuple[int, ...] = ()


class Fleet:
    """Machines by row; a row keeps its machine for good."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        """Lay out the machines with everything free."""
        self.machines = tuple(machines)
        self.models = tuple(sorted({each.gpu_model for each in machines}))
        numbers = {model: number for number, model in enumerate(self.models)}
        width = max((len(each.gpu_uuids) for each in machines), default=0)
        self.width = max(1, width)  # slots: GPUs of the machine with most of them
        self.cpus = np.array([x.cpus_milli for x in machines], dtype=np.int64)
        self.memory = np.array([x.memory_bytes for x in machines], dtype=np.int64)
        self.model = np.array([numbers[x.gpu_model] for x in machines], dtype=np.int64)
        # Thousandths free, shape (n_machines, width); a slot without a GPU has none.
        self.gpus = np.zeros((len(self.machines), self.width), dtype=np.int64)
        for row, machine in enumerate(machines):
            self.gpus[row, : len(machine.gpu_uuids)] = WHOLE

    def __len__(self) -> int:
        """Count the machines."""
        return len(self.machines)

    def gpus_of_model(self) -> dict[str, int]:
        """Count the GPUs of each model, taken or not."""
        counts = dict.fromkeys(self.models, 0)
        for machine in self.machines:
            counts[machine.gpu_model] += len(machine.gpu_uuids)
        return counts

    def uuids(self, place: Place) -> tuple[str, ...]:
        """Name the GPUs of a place."""
        known = self.machines[place.row].gpu_uuids
        return tuple(known[slot] for slot in place.slots)

    def take(self, place: Place, shape: Shape) -> None:
        """Bind a slice of this shape there.

        Raises:
            Broken: it does not fit; whoever chose the place looked at other machines.
        """
        row, gpus = place.row, self.gpus[place.row]
        fits = (
            self.cpus[row] >= shape.cpus_milli
            and self.memory[row] >= shape.memory_bytes
            and len(place.slots) == len(set(place.slots)) == shape.gpu_count
            and all(gpus[slot] >= shape.gpu_milli for slot in place.slots)
        )
        if not fits:
            raise Broken(f"a slice was placed on machine {row}, where it does not fit")
        self._change(place, shape, sign=-1)

    def release(self, place: Place, shape: Shape) -> None:
        """Give back what a slice of this shape took there."""
        self._change(place, shape, sign=1)

    def _change(self, place: Place, shape: Shape, *, sign: int) -> None:
        row, gpus = place.row, self.gpus[place.row]
        self.cpus[row] += sign * shape.cpus_milli
        self.memory[row] += sign * shape.memory_bytes
        for slot in place.slots:
            gpus[slot] += sign * shape.gpu_milli

    def room(self, shape: Shape) -> NDArray[np.int64]:
        """Count how many slices of this shape each machine could still take.

        Returns:
            Shape (n_machines,); at most 2^31 for a shape that takes nothing.
        """
        room = np.full(len(self), 1 << 31, dtype=np.int64)
        if shape.cpus_milli:
            np.minimum(room, self.cpus // shape.cpus_milli, out=room)
        if shape.memory_bytes:
            np.minimum(room, self.memory // shape.memory_bytes, out=room)
        if shape.gpu_count:
            parts = (self.gpus // shape.gpu_milli).sum(axis=1) // shape.gpu_count
            accepted = np.array([shape.accepts(model) for model in self.models])
            np.minimum(room, np.where(accepted[self.model], parts, 0), out=room)
        return room
