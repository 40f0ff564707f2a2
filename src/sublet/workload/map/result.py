"""What a task came to: a line of ``results.jsonl``, and what programs are given."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from msgspec import Struct


class TaskResult(Struct, frozen=True):
    """One task's one result. Money in micro-USD."""

    id: str
    number: int  # of the task, from 0, in the order of the input
    # done, failed, timeout, stalled; lost where its machines were, all of them
    outcome: str
    exit_code: int = 0
    stdout: str = ""  # the first MiB; bytes that are no UTF-8 are replaced
    stderr: str = ""  # the end of it
    is_cut: bool = False  # there was more on standard output
    files: int = 0  # that lie in outputs/ID/
    attempts: int = 1
    ran_ms: int = 0
    cost: int = 0  # of these milliseconds on that machine
    provider: str = ""  # its address; "" where the task has no result of any
    lease: str = ""  # of the worker; its receipt covers what the worker committed to,
    job: str = ""  # and this job's copy of stdout shows it (``core.task.commitment``)
    note: str = ""

    @property
    def is_done(self) -> bool:
        """Say whether it ended well."""
        return self.outcome == "done"

    def json(self) -> Any:
        """Read the last line of standard output as JSON.

        Raises:
            ValueError: it is none.
        """
        lines = self.stdout.strip().splitlines()
        return msgspec.json.decode(lines[-1] if lines else "")


async def in_order(results: AsyncIterator[TaskResult]) -> AsyncIterator[TaskResult]:
    """Give results by the numbers of their tasks; those that come early wait here."""
    early: dict[int, TaskResult] = {}
    number = 0
    async for result in results:
        early[result.number] = result
        while number in early:
            yield early.pop(number)
            number += 1
    for number in sorted(early):  # the map was stopped; there are gaps
        yield early[number]


class MapResult(Struct, frozen=True):
    """A whole map. Money in micro-USD."""

    outcome: str  # done, failed, stopped, budget, no_supply, refused, unable
    message: str
    tasks: int
    done: int
    failed: int
    cost: int  # of this run of it
    cost_before: int  # of earlier runs that this one went on from
    workers: int  # machines that were rented
    folder: str  # where the results are


class WorkerSaid(Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the clerk, from a stranger: held, a result, or how far a task is."""

    held: tuple[int, ...] | None = None
    task: int = -1
    outcome: str = ""
    exit_code: int = 0
    ran_ms: int = 0
    stdout: bytes = b""
    stdout_bytes: int = 0
    stderr: bytes = b""
    has_files: bool = False
    progress: float | None = None  # 0..1, of a task that has not ended
    text: str = ""  # that goes with it
