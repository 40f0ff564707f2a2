"""Which task of the map each task of this run is; and what its owner changes of them.

The core counts the tasks of one run. One that is run again, since its result was taken
back, is another one there; here it is the same as before.
"""

import asyncio
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sublet.base.errors import Refused
from sublet.base.ids import Address
from sublet.core.task import fact
from sublet.core.task.state import add_names
from sublet.workload.map.book import TaskBook
from sublet.workload.map.earlier import Earlier
from sublet.workload.map.result import TaskResult
from sublet.workload.map.store import Store
from sublet.workload.map.task import Task


class Roll:
    """The tasks of one run."""

    def __init__(
        self,
        book: TaskBook,
        *,
        store: Store,
        earlier: Earlier,
        is_open: bool,
        now_ms: Callable[[], int],
        say: Callable[[fact.Fact], None],
    ) -> None:
        """Take all tasks, results, what earlier runs have left, and who is told."""
        self.book = book
        self.is_open = is_open
        self.done = earlier.done  # by earlier runs, less what is taken back in this one
        self.failed = earlier.failed
        self._places = array("Q", earlier.pending)
        self._lines = earlier.lines
        self._store = store
        self._now_ms = now_ms
        self._say = say
        self._writing = asyncio.Lock()  # what is kept is read and written by one
        # What the core is to be told first: tasks that are not like the others.
        self.opening = [
            self._note([one.number], one.avoid, is_urgent=one.is_urgent)
            for one in earlier.special
        ]

    def name(self, place: int) -> tuple[int, str]:
        """Give number and id of a task of this run."""
        return self._places[place], self.read(place)[0]

    def read(self, place: int) -> tuple[str, Task]:
        """Give id and content of a task of this run; raises as ``TaskBook.read``."""
        return self.book.read(self._places[place])

    async def keep(self, result: TaskResult, files: Path | None) -> None:
        """Keep a result; raises as ``Store.keep``."""
        async with self._writing:
            await asyncio.to_thread(self._store.keep, result, files)

    async def add(
        self, items: Iterable[Any], *, avoid: tuple[Address, ...], is_urgent: bool
    ) -> range:
        """Take more tasks; see ``RunningMap.add``."""
        async with self._writing:
            self._check_open()
            numbers = await asyncio.to_thread(
                self.book.add, items, avoid=avoid, is_urgent=is_urgent
            )
        self._say(self._note(numbers, avoid, is_urgent=is_urgent))
        return numbers

    async def redo(self, numbers: Iterable[int]) -> None:
        """Take back results, and have their tasks run elsewhere; see ``RunningMap``."""
        wanted = set(numbers)
        async with self._writing:
            self._check_open()
            found = await asyncio.to_thread(self._store.find, wanted)
            if missing := wanted - found.keys():
                raise Refused(
                    f"task {min(missing)} has no result that could be taken back",
                    code="no_result",
                )
            await asyncio.to_thread(self._store.void, list(found.values()))
        for number, result in sorted(found.items()):
            if number < len(self._lines):
                self._lines[number] = 0  # whoever iterates from now on does not get it
            self.done -= result.is_done
            self.failed -= not result.is_done
            avoid = [result.provider] if result.provider else []
            if number >= self.book.began_with:
                added = await asyncio.to_thread(self.book.read_added, number)
                avoid = [*added.avoid, *avoid]
            self._say(self._note([number], add_names((), avoid), is_urgent=True))

    async def dismiss(self, provider: Address, *, reason: str) -> None:
        """Leave a provider for good; see ``RunningMap``."""
        async with self._writing:
            await asyncio.to_thread(self._store.note_dismissed, provider)
        at_ms = self._now_ms()
        self._say(fact.ProviderDismissed(at_ms=at_ms, provider=provider, reason=reason))

    def close_tasks(self) -> None:
        """Take no more tasks."""
        self.is_open = False
        self._say(fact.TasksClosed(at_ms=self._now_ms()))

    def _note(
        self, numbers: Sequence[int], avoid: tuple[Address, ...], *, is_urgent: bool
    ) -> fact.TasksAdded:
        """Give tasks their places; the fact has to be told before the next one is."""
        self._places.extend(numbers)
        return fact.TasksAdded(
            at_ms=self._now_ms(), count=len(numbers), avoid=avoid, is_urgent=is_urgent
        )

    def _check_open(self) -> None:
        if not self.is_open:
            raise Refused(
                "the map takes no tasks any more; begin it with is_open, and close its "
                "tasks when none will follow",
                code="tasks_closed",
            )
