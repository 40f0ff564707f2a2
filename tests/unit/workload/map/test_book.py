"""Tasks that were added: durable, found again, and none of them twice."""

from pathlib import Path
from typing import Any

import pytest

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.workload.map.book import AVOID_MAX, TaskBook
from sublet.workload.map.task import open_tasks, write_tasks

A, B = "0x" + "a" * 40, "0x" + "b" * 40


def opened(folder: Path) -> TaskBook:
    place = folder / "tasks.jsonl"
    write_tasks([{"id": "first"}, "x"], place)
    (folder / "results").mkdir(exist_ok=True)
    book = TaskBook(open_tasks(place), folder / "results")
    book.open()
    return book


def add(
    book: TaskBook, *items: Any, avoid: tuple[str, ...] = (), is_urgent: bool = False
) -> list[int]:
    return list(book.add(items, avoid=avoid, is_urgent=is_urgent))


def test_added_tasks_follow_and_are_found_again(tmp_path: Path) -> None:
    book = opened(tmp_path)
    assert add(book, {"data": {"n": 1}}, {"id": "probe"}, avoid=(A, B)) == [2, 3]
    assert add(book, "z" * 1_000_000, is_urgent=True) == [4]
    book.close()
    book = opened(tmp_path)
    assert (len(book), book.began_with) == (5, 2)
    assert [book.read(n)[0] for n in range(5)] == ["first", "2", "3", "probe", "5"]
    assert book.read(2)[1].data == {"n": 1}
    assert book.read_added(3).avoid == (A, B)
    assert (book.read_added(4).avoid, book.read_added(4).is_urgent) == ((), True)
    assert add(book, "next") == [5]


def test_half_a_line_was_never_promised(tmp_path: Path) -> None:
    book = opened(tmp_path)
    add(book, "a")
    book.close()
    with (tmp_path / "results" / "added.jsonl").open("ab") as file:
        file.write(b'{"task": {"args')
    book = opened(tmp_path)
    assert add(book, "b") == [3]
    assert book.read(3)[1].words == ("b",)


BAD = [
    # what is added after "a": what is said of it
    ([{"id": "first"}], "id first once more"),
    ([{"id": "3"}, "y"], None),  # is its own number
    (["y", {"id": "3"}], "id 3 once more"),
    (["y", b"z"], "item 1 is no task"),
    ([{"nope": 1}], "item 0 is no task"),
    ([{"stdin": "a", "data": 1}], "more than one"),
    (["x" * limits.TASK_BYTES_MAX], "more than"),
]


@pytest.mark.parametrize(("items", "said"), BAD)
def test_all_or_none_are_taken(
    tmp_path: Path, items: list[Any], said: str | None
) -> None:
    book = opened(tmp_path)
    if said is None:
        assert add(book, *items) == [2, 3]
        return
    with pytest.raises(Refused, match=said):
        add(book, *items)
    assert len(book) == 2
    assert add(book, {"id": "y"}) == [2], "what was refused holds no id"


def test_limits_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = opened(tmp_path)
    with pytest.raises(Refused, match="8 providers at most"):
        add(book, "x", avoid=(A,) * (AVOID_MAX + 1))
    monkeypatch.setattr(limits, "TASKS_MAX", 3)
    with pytest.raises(Refused, match="more than 3 tasks"):
        add(book, "x", "y")
    assert add(book, "x") == [2]


def test_damage_is_said(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "results" / "added.jsonl").write_text("nonsense\n")
    with pytest.raises(Refused, match="damaged"):
        opened(tmp_path)
