"""What a task is: one line of ``tasks.jsonl``, and how a file of them is read.

The file is read twice: first every line is checked and its place noted, eight bytes a
task, so that a million of them fit; later each is read again when its turn comes.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from blake3 import blake3
from msgspec import Meta, Struct

from sublet.base import limits
from sublet.base.errors import Faults, Refused, SubletError

FAULTS_MAX = 20  # lines that are named
ARGS_MAX = 256
VARIABLES_MAX = 64

TaskId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")]
VariableName = Annotated[str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,127}\Z")]


class Task(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One run of the program: arguments, variables, standard input."""

    id: TaskId | None = None  # default: the number of its line
    args: Annotated[
        tuple[str | int | float | bool, ...], Meta(max_length=ARGS_MAX)
    ] = ()
    env: Annotated[dict[VariableName, str], Meta(max_length=VARIABLES_MAX)] = {}
    stdin: str | None = None  # text
    data: Any = None  # any JSON value, written to standard input on one line
    input: str | None = None  # a local file whose content is the standard input

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments, as a program gets them."""
        return tuple(
            word if isinstance(word, str) else msgspec.json.encode(word).decode()
            for word in self.args
        )


class TaskList:
    """Tasks in a file; ``open_tasks`` makes one."""

    def __init__(self, path: Path, places: "array[int]", fingerprint: str) -> None:
        """Take the file, where each task begins, and a hash of all of it."""
        self.path = path
        self.fingerprint = fingerprint
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def read(self, number: int) -> tuple[str, Task]:
        """Give the id and the content of a task, counted from 0.

        Raises:
            Refused: the file is not what it was any more.
        """
        with self.path.open("rb") as file:
            file.seek(self._places[number])
            line = file.readline(limits.TASK_BYTES_MAX + 1)
        try:
            task = msgspec.json.decode(line, type=Task)
        except msgspec.MsgspecError as exc:
            raise Refused(
                f"{self.path} has changed while it was worked on: {exc}",
                code="tasks_changed",
            ) from exc
        return task.id or str(number + 1), task

    def ids(self) -> Iterator[str]:
        """Give the ids, in order."""
        for number in range(len(self)):
            yield self.read(number)[0]


def open_tasks(path: Path) -> TaskList:
    """Check a file of tasks, all lines of it; empty lines are passed over.

    Raises:
        Faults: all that is wrong, each with its line.
        Refused: there is no such file, or no task in it, or there are too many.
    """
    places, hasher, seen = array("Q"), blake3(), set[int]()
    faults: list[SubletError] = []
    try:
        file = path.open("rb")
    except OSError as exc:
        raise _refuse(f"{path}: {exc.strerror}", code="no_tasks") from exc
    with file:
        start, line_number = 0, 0
        while line := file.readline(limits.TASK_BYTES_MAX + 1):
            line_number += 1
            hasher.update(line)
            if line.strip():
                number = len(places)
                places.append(start)
                fault = find_fault(line, number, f"line {line_number}", seen)
                if fault is not None:
                    faults.append(fault)
                if len(faults) == FAULTS_MAX or len(line) > limits.TASK_BYTES_MAX:
                    break
                if len(places) > limits.TASKS_MAX:
                    raise _refuse(
                        f"more than {limits.TASKS_MAX} tasks; make two maps of them",
                        code="too_many_tasks",
                    )
            start += len(line)
    if faults:
        raise Faults(faults)
    if not places:
        raise _refuse(f"{path} has no task in it", code="no_tasks")
    return TaskList(path, places, hasher.hexdigest())


def find_fault(line: bytes, number: int, where: str, seen: set[int]) -> Refused | None:
    """Say what is wrong with a task; note its id in ``seen`` where nothing is.

    Args:
        line: JSON.
        number: of the task, from 0.
        where: it stands, for whoever reads.
        seen: what ``hash_id`` gives of the ids before.
    """
    if len(line) > limits.TASK_BYTES_MAX:
        return _refuse(
            f"{where} has more than {limits.TASK_BYTES_MAX} bytes; name a file with "
            '"input", or bring data for all tasks with --input',
            code="task_too_large",
        )
    try:
        task = msgspec.json.decode(line, type=Task)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        return _refuse(f"{where} is no task: {str(exc)[:200]}", code="bad_task")
    if sum(one is not None for one in (task.stdin, task.data, task.input)) > 1:
        return _refuse(
            f'{where} names more than one of "stdin", "data" and "input"',
            code="bad_task",
        )
    if any("\0" in text for text in (*task.words, *task.env.values())):
        return _refuse(f"{where} has a NUL character", code="bad_task")
    short = hash_id(task.id or str(number + 1))
    if short in seen:
        return _refuse(
            f"{where} has the id {task.id or number + 1!s} once more", code="same_id"
        )
    seen.add(short)
    return None


def hash_id(task_id: str) -> int:
    """Give 64 bits of a hash: a million ids fit, and none is mistaken for another."""
    return int.from_bytes(blake3(task_id.encode()).digest(length=8), "big")


def write_tasks(items: Any, path: Path) -> None:
    """Write a program's items as a file of tasks.

    A ``Task``, or a mapping with its fields; a text or a number is one argument, a list
    or a tuple of them are the arguments.

    Raises:
        Refused: something else.
    """
    with path.open("wb") as file:
        for number, item in enumerate(items):
            try:
                file.write(msgspec.json.encode(as_task(item)) + b"\n")
            except (msgspec.MsgspecError, TypeError, ValueError) as exc:
                raise _refuse(
                    f"item {number} is no task: {exc}", code="bad_task"
                ) from exc


def as_task(item: Any) -> Task:
    """Read a program's item; TypeError, ValueError or MsgspecError: it is no task."""
    if isinstance(item, Task):
        return item
    if isinstance(item, Mapping):
        return msgspec.convert(dict(item), Task)
    is_one = isinstance(item, str | int | float)
    if isinstance(item, bytes) or not (is_one or isinstance(item, Sequence)):
        raise TypeError(f"{type(item).__name__} is no task, text, number or list")
    return msgspec.convert({"args": [item] if is_one else list(item)}, Task)


def read_stdin(task: Task) -> bytes:
    """Give what a task gets on standard input.

    Raises:
        Refused: the file cannot be read, or is too large.
    """
    if task.data is not None:
        return msgspec.json.encode(task.data) + b"\n"
    if task.input is None:
        return (task.stdin or "").encode()
    try:
        with Path(task.input).open("rb") as file:
            content = file.read(limits.TASK_BYTES_MAX + 1)
    except OSError as exc:
        raise _refuse(f"{task.input}: {exc.strerror}", code="no_input") from exc
    if len(content) > limits.TASK_BYTES_MAX:
        raise _refuse(
            f"{task.input} has more than {limits.TASK_BYTES_MAX} bytes; bring it with "
            "--input instead",
            code="task_too_large",
        )
    return content


def read_data(task: Task) -> Any:
    """Give what a warm program is told: any JSON value; of a file its text.

    Raises:
        Refused: the file cannot be read, is too large, or is no text.
    """
    if task.input is None:
        return task.stdin if task.data is None else task.data
    try:
        return read_stdin(task).decode()
    except UnicodeDecodeError:
        raise _refuse(
            f"{task.input} is no UTF-8 text, and a warm program is told texts; bring it "
            "with --input",
            code="no_input",
        ) from None


def _refuse(text: str, *, code: str) -> Refused:
    return Refused(f"--tasks: {text}", code=code, field="--tasks")
