"""Where a job's files lie in the sandbox, and which of them travel."""

import os
from pathlib import Path

import pytest

from sublet.base.errors import Faults, Refused
from sublet.workload.openjd.layout import ROOT, Layout, copy_file, lay_out, stage
from sublet.workload.openjd.template import load_job

TEMPLATE = """
specificationVersion: jobtemplate-2023-09
name: n
parameterDefinitions:
- {name: File, type: PATH, objectType: FILE, dataFlow: IN, default: in/file.txt}
- {name: Folder, type: PATH, dataFlow: IN, default: in}
- {name: Out, type: PATH, dataFlow: OUT, default: out}
- {name: Both, type: PATH, dataFlow: INOUT, default: both}
- {name: One, type: PATH, objectType: FILE, dataFlow: OUT, default: one.txt}
- {name: Text, type: PATH, default: text}
steps: [{name: S, script: {actions: {onRun: {command: x}}}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    for name in ("in/file.txt", "in/deep/more.txt", "both/b.txt", "out/old.txt"):
        place = home / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(name)
    (home / "job.yaml").write_text(TEMPLATE)
    return home


def lay(folder: Path, **given: str) -> Layout:
    return lay_out(load_job(folder / "job.yaml", given, here=folder.parent))


def list_files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_inputs_are_staged_and_outputs_are_not(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "stage"
    stage(lay(folder), target, earlier=[])
    assert list_files(target) == {
        "job/template/in/file.txt",
        "job/template/in/deep/more.txt",
        "job/template/both/b.txt",
    }


def test_what_earlier_steps_left_comes_last(folder: Path, tmp_path: Path) -> None:
    earlier = [tmp_path / "one", tmp_path / "two"]
    for number, left in enumerate(earlier):
        (left / "template/both").mkdir(parents=True)
        (left / "template/both/b.txt").write_text(f"step {number}")
    target = tmp_path / "stage"
    stage(lay(folder), target, earlier=earlier)
    assert (target / "job/template/both/b.txt").read_text() == "step 1"
    assert (folder / "both/b.txt").read_text() == "both/b.txt"  # ours stays


def test_paths_from_elsewhere_have_a_place_of_their_own(
    folder: Path, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "x.txt").write_text("x")
    layout = lay(folder, Folder=str(away), Text=str(away / "x.txt"))
    assert layout.map_path(str(away / "x.txt")) == f"{ROOT}/job/paths/Folder/away/x.txt"
    assert layout.map_path(str(folder / "a")) == f"{ROOT}/job/template/a"
    assert layout.map_path(f"{folder}er/a") == f"{folder}er/a"
    assert layout.map_path("/bin/sh") == "/bin/sh"
    stage(layout, tmp_path / "stage", earlier=[])
    assert "job/paths/Folder/away/x.txt" in list_files(tmp_path / "stage")


def test_only_outputs_come_back(folder: Path) -> None:
    layout = lay(folder)
    for path, local in (
        ("job/template/out/deep/a.txt", folder / "out/deep/a.txt"),
        ("job/template/both/b.txt", folder / "both/b.txt"),
        ("job/template/one.txt", folder / "one.txt"),
        ("job/template/in/file.txt", None),  # an input
        ("job/template/job.yaml", None),  # nobody's
        ("job/template/text", None),
        ("job/template/outer.txt", None),
        ("job/template/one.txt/x", None),
    ):
        assert layout.find_return(path) == local


def test_an_input_within_an_output_is_safe(folder: Path) -> None:
    layout = lay(folder, Out=str(folder))
    assert layout.find_return("job/template/new.txt") == folder / "new.txt"
    assert layout.find_return("job/template/in/file.txt") is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("File", "none.txt", "is not there"),
        ("File", "home", "is no file"),
        ("Folder", "home/in/file.txt", "is no folder"),
        ("Out", "home/in/file.txt", "is no folder"),
    ],
)
def test_wrong_paths_are_refused(
    folder: Path, name: str, value: str, said: str
) -> None:
    with pytest.raises(Faults, match=said) as caught:
        lay(folder, **{name: value})
    assert caught.value.faults[0].field == f"--param {name}"


def test_what_cannot_travel_is_named(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "in/pipe")
    with pytest.raises(Refused, match="in/pipe is no regular file"):
        stage(lay(folder), tmp_path / "stage", earlier=[])


def test_symlink_to_a_file_is_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "in/link.txt").symlink_to(folder / "both/b.txt")
    (folder / "in/again.txt").symlink_to(folder / "both/b.txt")
    stage(lay(folder), tmp_path / "stage", earlier=[])
    link = tmp_path / "stage/job/template/in/link.txt"
    assert (link.is_symlink(), link.read_text()) == (False, "both/b.txt")


def test_copies_are_whole(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_text("new")
    target = tmp_path / "deep/b"
    target.parent.mkdir()
    target.write_text("old")
    copy_file(source, target)
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(OSError):
        copy_file(source, tmp_path / "deep")  # a folder
    assert not list(tmp_path.glob(".sublet-*"))
