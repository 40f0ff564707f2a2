"""The folder of a map: nothing half, nothing twice, nothing of another map."""

from pathlib import Path

import pytest

from sublet.base.errors import Refused
from sublet.workload.map.result import TaskResult
from sublet.workload.map.store import Identity, Store

MAP = Identity(fingerprint="a" * 64, command="x", tasks=3)


def opened(folder: Path, identity: Identity = MAP) -> Store:
    store = Store(folder / "results")
    store.open(identity)
    return store


def make(number: int) -> TaskResult:
    return TaskResult(id=f"t{number}", number=number, outcome="done")


def test_results_and_files_are_kept(tmp_path: Path) -> None:
    store = opened(tmp_path)
    files = store.folder / ".scratch"
    (files / "deep").mkdir(parents=True)
    (files / "deep" / "x").write_text("made")
    store.keep(make(0), files)
    store.keep(make(1), None)
    store.close()
    again = opened(tmp_path)
    assert list(again.read()) == [make(0), make(1)]
    assert (again.folder / "outputs" / "t0" / "deep" / "x").read_text() == "made"


def test_torn_line_is_cut_off(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.keep(make(0), None)
    store.close()
    with (store.folder / "results.jsonl").open("ab") as file:
        file.write(b'{"id": "t1", "numb')
    again = opened(tmp_path)
    again.keep(make(2), None)
    assert [one.number for one in again.read()] == [0, 2]


def test_file_of_one_torn_line_is_emptied(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.close()
    (store.folder / "results.jsonl").write_bytes(b"x" * 200_000)
    assert list(opened(tmp_path).read()) == []


def test_other_map_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).close()
    other = Identity(fingerprint="b" * 64, command="x", tasks=3)
    with pytest.raises(Refused, match="another map"):
        opened(tmp_path, other)
    (tmp_path / "results" / "map.json").write_text("[]")
    with pytest.raises(Refused, match="another map"):
        opened(tmp_path)
    (tmp_path / "results" / "map.json").unlink()
    with pytest.raises(Refused, match="another map"):
        opened(tmp_path)


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(Refused, match="another process"):
        opened(tmp_path)
    store.close()
    opened(tmp_path).close()


def test_damage_is_said(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with (store.folder / "results.jsonl").open("ab") as file:
        file.write(b"nonsense\n")
    with pytest.raises(Refused, match="damaged"):
        list(store.read())


def test_jobs_are_remembered(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store.read_jobs() == []
    store.note_job("a" * 12)
    store.note_job("b" * 12)
    assert store.read_jobs() == ["a" * 12, "b" * 12]


def test_result_that_is_taken_back_does_not_count(tmp_path: Path) -> None:
    store = opened(tmp_path)
    files = store.folder / ".scratch"
    files.mkdir()
    (files / "x").write_text("a lie")
    store.keep(make(0), files)
    store.keep(make(1), None)
    store.void([make(0)])
    assert store.find({0, 1}) == {1: make(1)}
    assert not (store.folder / "outputs" / "t0").exists()
    assert (store.folder / "void" / "t0" / "x").read_text() == "a lie"
    store.close()
    again = opened(tmp_path)
    assert [one.outcome for one in again.read()] == ["done", "done", "void"]
    again.keep(make(0), None)
    assert again.find({0}) == {0: make(0)}


def test_dismissed_providers_are_remembered(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store.read_dismissed() == []
    store.note_dismissed("0x" + "a" * 40)
    store.close()
    assert opened(tmp_path).read_dismissed() == ["0x" + "a" * 40]
