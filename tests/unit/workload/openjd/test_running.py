"""What steps left: which of it comes back, and where it goes."""

from pathlib import Path

import msgspec
import pytest

from sublet.base.errors import Unavailable
from sublet.workload.map.result import TaskResult
from sublet.workload.openjd.layout import ROOT, Layout, Place
from sublet.workload.openjd.running import bring_back, list_outputs, pick_needed


def note(folder: Path, *ends: tuple[int, str, str]) -> None:
    """Write results as a map does: number, id, outcome."""
    folder.mkdir(exist_ok=True)
    with (folder / "results.jsonl").open("ab") as file:
        for number, name, outcome in ends:
            one = TaskResult(id=name, number=number, outcome=outcome)
            file.write(msgspec.json.encode(one) + b"\n")


def leave(folder: Path, task: str, path: str, text: str = "x") -> Path:
    place = folder / "outputs" / task / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return folder / "outputs" / task


def lay(local: Path) -> Layout:
    out = Place("Out", local, "job/template/out", True, False, True)
    return Layout((out,), ((str(local.parent), f"{ROOT}/job/template"),))


def test_outputs_are_those_of_done_tasks_in_their_order(tmp_path: Path) -> None:
    note(tmp_path, (2, "c", "done"), (1, "b", "failed"), (0, "a", "done"))
    note(tmp_path, (3, "d", "failed"), (3, "d", "done"), (4, "e", "done"))
    for name in "abcd":
        leave(tmp_path, name, "template/x")
    found = [place.name for place in list_outputs(tmp_path)]
    assert found == ["a", "c", "d"]  # e left nothing
    assert list_outputs(tmp_path / "none") == []


def test_later_task_counts_and_the_rest_stays(tmp_path: Path) -> None:
    local = tmp_path / "mine"
    folders = [
        leave(tmp_path, "a", "template/out/deep/x.txt", "first"),
        leave(tmp_path, "b", "template/out/deep/x.txt", "second"),
    ]
    leave(tmp_path, "b", "template/other.txt")
    leave(tmp_path, "b", "paths/Else/y.txt")
    assert bring_back(lay(local), folders) == (1, 2)
    assert (local / "deep/x.txt").read_text() == "second"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mine", "outputs"]


def test_file_where_a_folder_is_says_so(tmp_path: Path) -> None:
    local = tmp_path / "mine"
    (local / "x").mkdir(parents=True)
    folders = [leave(tmp_path, "a", "template/out/x")]
    with pytest.raises(Unavailable, match="move it away") as caught:
        bring_back(lay(local), folders)
    assert caught.value.code == "disk_failed"
    assert list((local / "x").iterdir()) == []


def test_time_of_a_task_is_no_need_of_a_machine() -> None:
    options = {"timeout": "5m", "cpus": "2", "parallel": 3, "lease": "1h"}
    assert pick_needed(options) == {"cpus": "2"}  # type: ignore[arg-type]
