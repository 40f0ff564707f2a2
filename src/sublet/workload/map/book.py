"""All tasks of a map: those that it began with, and those that came while it ran."""

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.ids import Address
from sublet.workload.map.line_file import LineFile
from sublet.workload.map.store import keeping_in
from sublet.workload.map.task import Task, TaskList, as_task, find_fault, hash_id

AVOID_MAX = 8  # providers that one task may not go to
_LINE_BYTES_MAX = limits.TASK_BYTES_MAX + 4_096


class Added(Struct, frozen=True, omit_defaults=True):
    """A line of ``added.jsonl``."""

    task: Task
    avoid: tuple[Address, ...] = ()  # providers that must not get it
    is_urgent: bool = False  # before all that wait


class TaskBook:
    """The tasks of one map, by their numbers. Methods block."""

    def __init__(self, tasks: TaskList, folder: Path) -> None:
        """Take the tasks that it began with, and where others are kept; use ``open``."""
        self._tasks = tasks
        self._file = LineFile(folder / "added.jsonl")
        self._places = array("Q")  # where each added task begins
        self._ids: set[int] | None = None  # hashed; made when the first one is added

    def open(self) -> None:
        """Find the tasks that earlier runs were given.

        Raises:
            Refused: the file is damaged.
            Unavailable: the disk did not answer.
        """
        with keeping_in(self._file.path.parent):
            self._file.open()
            with self._file.path.open("rb") as file:
                place = 0
                while line := file.readline(_LINE_BYTES_MAX):
                    self._places.append(place)
                    place += len(line)
        for number in range(len(self._tasks), len(self)):
            self.read_added(number)

    def close(self) -> None:
        """Let go of the file; twice is harmless."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._tasks) + len(self._places)

    @property
    def began_with(self) -> int:
        """Count the tasks that were there from the first."""
        return len(self._tasks)

    def read(self, number: int) -> tuple[str, Task]:
        """Give the id and the content of a task, counted from 0; raises as ``open``."""
        if number < len(self._tasks):
            return self._tasks.read(number)
        task = self.read_added(number).task
        return task.id or str(number + 1), task

    def read_added(self, number: int) -> Added:
        """Give one that was added, with who must not get it; raises as ``open``."""
        path = self._file.path
        with keeping_in(path.parent), path.open("rb") as file:
            file.seek(self._places[number - len(self._tasks)])
            line = file.readline(_LINE_BYTES_MAX)
        try:
            return msgspec.json.decode(line, type=Added)
        except msgspec.MsgspecError as exc:
            raise Refused(
                f"{path} is damaged: {exc}; name another folder with --results",
                code="results_damaged",
            ) from exc

    def add(
        self, items: Iterable[Any], *, avoid: tuple[Address, ...], is_urgent: bool
    ) -> range:
        """Take more tasks; they are on the disk when this returns. Give their numbers.

        Args:
            items: as a map may be given at first.
            avoid: providers that must not get them.
            is_urgent: they come before all that wait.

        Raises:
            Refused: something is no task, or there are too many; none was taken.
            Unavailable: the disk did not take them.
        """
        if len(avoid) > AVOID_MAX:
            raise _refuse(f"a task may avoid {AVOID_MAX} providers at most")
        first = len(self)
        lines = [
            self._write(item, place, first + place, avoid, is_urgent)
            for place, item in enumerate(items)
        ]
        if first + len(lines) > limits.TASKS_MAX:
            self._ids = None
            raise _refuse(f"more than {limits.TASKS_MAX} tasks; make two maps of them")
        with keeping_in(self._file.path.parent):
            start = self._file.append(b"".join(lines))
        for line in lines:
            self._places.append(start)
            start += len(line)
        return range(first, len(self))

    def _write(
        self,
        item: Any,
        place: int,
        number: int,
        avoid: tuple[Address, ...],
        is_urgent: bool,
    ) -> bytes:
        if self._ids is None:
            self._ids = {hash_id(self.read(n)[0]) for n in range(len(self))}
        try:
            task = as_task(item)
        except (msgspec.MsgspecError, TypeError, ValueError) as exc:
            self._ids = None
            raise _refuse(f"item {place} is no task: {exc}") from exc
        fault = find_fault(
            msgspec.json.encode(task), number, f"item {place}", self._ids
        )
        if fault is not None:
            self._ids = None  # those of the items before it are free again
            raise fault
        added = Added(task=task, avoid=avoid, is_urgent=is_urgent)
        return msgspec.json.encode(added) + b"\n"


def _refuse(text: str) -> Refused:
    return Refused(f"tasks to add: {text}", code="bad_task")
