"""Files of tasks: what is read, what is refused, and by which line."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sublet.base import limits
from sublet.base.errors import Faults, Refused
from sublet.workload.map.task import Task, open_tasks, read_stdin, write_tasks


def write(folder: Path, text: str | bytes) -> Path:
    place = folder / "tasks.jsonl"
    place.write_bytes(text.encode() if isinstance(text, str) else text)
    return place


def test_lines_become_tasks(tmp_path: Path) -> None:
    text = '{"args": ["-n", 3, 0.5, true]}\n\n{"id": "b", "data": {"x": [1]}}'
    tasks = open_tasks(write(tmp_path, text))
    assert list(tasks.ids()) == ["1", "b"]
    assert tasks.read(0)[1].words == ("-n", "3", "0.5", "true")
    assert read_stdin(tasks.read(1)[1]) == b'{"x":[1]}\n'


BAD = [
    # the file: what is said of it
    ("", "no task in it"),
    ("\n \n", "no task in it"),
    ("{}\nnope\n", "line 2 is no task"),
    ("[1]\n", "line 1 is no task"),
    ('{"argz": []}\n', "line 1 is no task"),
    ('{"id": "../up"}\n', "line 1 is no task"),
    ('{"id": "a"}\n{"id": "a"}\n', "line 2 has the id a once more"),
    ('{"id": "2"}\n{}\n', "line 2 has the id 2 once more"),
    ('{"stdin": "x", "data": 1}\n', "line 1 names more than one"),
    ('{"args": ["a\\u0000b"]}\n', "line 1 has a NUL"),
    ('{"env": {"A-B": "x"}}\n', "line 1 is no task"),
    (b'{"stdin": "\xff\xfe"}\n', "line 1 is no task"),
    ('{"data": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "line 1 is no task"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_bad_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Refused) as caught:
        open_tasks(write(tmp_path, text))
    assert said in str(caught.value)


def test_all_bad_lines_are_named(tmp_path: Path) -> None:
    with pytest.raises(Faults) as caught:
        open_tasks(write(tmp_path, "{}\nx\n{}\ny\n"))
    assert len(caught.value.faults) == 2
    with pytest.raises(Refused, match="No such file"):
        open_tasks(tmp_path / "nowhere")


def test_large_task_is_taken_and_a_larger_one_named(tmp_path: Path) -> None:
    tasks = open_tasks(write(tmp_path, '{"stdin": "' + "x" * 10_000_000 + '"}\n{}\n'))
    assert len(read_stdin(tasks.read(0)[1])) == 10_000_000
    big = '{}\n{"stdin": "' + "x" * limits.TASK_BYTES_MAX + '"}\n'
    with pytest.raises(Faults, match="line 2 has more than"):
        open_tasks(write(tmp_path, big))


def test_many_tasks_take_little_memory(tmp_path: Path) -> None:
    place = write(tmp_path, '{"args": ["--number", 12345]}\n' * 100_000)
    tracemalloc.start()
    tasks = open_tasks(place)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(tasks) == 100_000
    assert most < 20_000_000
    assert tasks.read(99_999)[0] == "100000"


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    first = open_tasks(write(tmp_path, "{}\n{}\n")).fingerprint
    assert open_tasks(write(tmp_path, "{}\n{}\n")).fingerprint == first
    assert open_tasks(write(tmp_path, '{}\n{"args": []}\n')).fingerprint != first


def test_changed_file_is_noticed(tmp_path: Path) -> None:
    tasks = open_tasks(write(tmp_path, "{}\n{}\n"))
    write(tmp_path, "other text\n")
    with pytest.raises(Refused, match="changed"):
        tasks.read(1)


ITEMS: list[tuple[Any, Task]] = [
    # what a program gives: the task that it means
    ("word", Task(args=("word",))),
    (3, Task(args=(3,))),
    (["-n", 3], Task(args=("-n", 3))),
    ({"id": "a", "stdin": "x"}, Task(id="a", stdin="x")),
    (Task(env={"A": "1"}), Task(env={"A": "1"})),
]


@pytest.mark.parametrize(("item", "task"), ITEMS)
def test_items_become_tasks(tmp_path: Path, item: Any, task: Task) -> None:
    place = tmp_path / "tasks.jsonl"
    write_tasks([item], place)
    assert open_tasks(place).read(0)[1] == task


@pytest.mark.parametrize("item", [None, object(), {"nope": 1}, b"x", [[1]]])
def test_other_items_are_refused(tmp_path: Path, item: Any) -> None:
    with pytest.raises(Refused, match="item 0"):
        write_tasks([item], tmp_path / "tasks.jsonl")


def test_input_is_a_local_file(tmp_path: Path) -> None:
    place = tmp_path / "in.txt"
    place.write_bytes(b"\x00\xff")
    assert read_stdin(Task(input=str(place))) == b"\x00\xff"
    with pytest.raises(Refused, match="No such file"):
        read_stdin(Task(input=str(tmp_path / "gone")))
