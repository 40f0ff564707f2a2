"""What scenes need, found by Blender in the sandbox: behind links, in every kind."""

from pathlib import Path

import pytest

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.base.errors import Refused, Unavailable
from sublet.core.render.unit import Recipe, Unit
from sublet.workload.render import chamber
from sublet.workload.render.packing import find_absolute, pack, relink
from sublet.workload.render.tracing import check_facts, open_project
from sublet.workload.run import survey
from sublet.workload.run.plan import Program
from tests.integration.render_house import (
    BYTES_MAX,
    TAKES,
    find_faults,
    look,
    names,
    open_path,
    scenes,
)
from tests.rig.render_box import BUILD, RenderBox, needs_blender

__all__ = ["open_path", "scenes"]
pytestmark = [needs_blender, pytest.mark.sandbox]

RECIPE = Recipe(
    scene="shot.blend",
    root="0x" + "00" * 32,
    build=BUILD,
    engine="cycles",
    device="cpu",
    width=96,
    height=54,
    samples=4,
    seed=0,
)
LINKED = {
    "shots/shot.blend",
    "assets/middle.blend",
    "assets/wood.png",
    "assets/lamp.ies",
    "assets/deep/deep.blend",
    "assets/deep/tex/t.1001.png",
    "assets/deep/tex/t.1002.png",
    "assets/deep/tex/f_0001.png",
    "assets/deep/tex/f_0002.png",
    "assets/deep/tex/f_0003.png",
    "vdb/smoke_0001.vdb",
    "vdb/smoke_0002.vdb",
}


async def test_finds_all_behind_links(scenes: Path) -> None:
    place = scenes / "linked"
    project, trace = await look(place / "shots/shot.blend", project=place)
    packing = pack(project, trace, bytes_max=BYTES_MAX)
    found = names(packing)
    font = next(name for name in found if name.startswith("fonts/"))
    assert found == LINKED | {font}
    assert packing.scene == "shots/shot.blend"
    assert packing.bytes == sum((place / name).stat().st_size for name in found)
    # Nothing on the picture depends on it: it is told, and does not stop the job.
    assert any("gone/unused.png" in each for each in packing.warnings)
    assert {each.kind for each in trace.needs} == {
        *("library", "texture", "volume", "font", "node"),
    }
    facts = trace.facts
    assert (facts.width, facts.height, facts.samples) == (96, 54, 4)
    assert (facts.frame_start, facts.frame_end, facts.fps) == (1, 3, 24.0)
    assert (facts.engine, facts.camera, facts.has_volumes) == ("CYCLES", "Cam", True)
    assert facts.saved_with == (5, 0) and facts.build.startswith("blender 5.0.")
    check_facts(facts, version=(5, 0))


async def test_names_each_missing_file(scenes: Path, tmp_path: Path) -> None:
    place = scenes / "linked"
    gone = ("assets/deep/tex/t.1002.png", "assets/deep/tex/f_0002.png")
    for name in gone:
        (place / name).rename(tmp_path / Path(name).name)
    try:
        faults = find_faults(*await look(place / "shots/shot.blend", project=place))
    finally:
        for name in gone:
            (tmp_path / Path(name).name).rename(place / name)
    fault = faults["missing_files"]
    assert fault.message.startswith("SCENE: 2 files are missing: ")
    for name in gone:
        assert name in fault.message
    assert "wanted by Image t.<UDIM>.png in assets/deep/deep.blend" in fault.message


async def test_names_what_a_library_lost(scenes: Path) -> None:
    faults = find_faults(*await look(scenes / "broken/shot.blend"))
    assert "Collection Lib" in faults["missing_files"].message


async def test_says_what_is_outside_project(scenes: Path) -> None:
    scene = scenes / "linked/shots/shot.blend"
    faults = find_faults(*await look(scene))
    # The library cannot be opened from here, so nothing is known of what is behind it.
    text = faults["outside_project"].message
    assert str(scenes / "linked/assets/middle.blend") in text
    assert f"--project {scenes / 'linked'}" in text


async def test_absolute_paths_become_relative(scenes: Path, open_path: Path) -> None:
    project, trace = await look(scenes / "absolute/shot.blend")
    packing = pack(project, trace, bytes_max=BYTES_MAX)
    holders = find_absolute(project, trace)
    assert [Path(each).name for each in holders] == ["lib.blend", "shot.blend"]
    (open_path / "copies").mkdir()
    packing = await relink(
        project, packing, holders, folder=open_path / "copies", takes=TAKES
    )
    assert names(packing) == {"a.png", "lib.blend", "shot.blend"}
    # As on a worker: the files alone, elsewhere; each path leads into that folder.
    for source in packing.sources:
        for name in source.include or (source.name,):
            content = (Path(source.path) / name if source.include else source.path,)
            (open_path / name).write_bytes(Path(content[0]).read_bytes())
    moved, again = await look(open_path / "shot.blend")
    assert not any(each.is_absolute for each in again.needs)
    assert {Path(each.path).name for each in again.needs} == {"a.png", "lib.blend"}
    assert names(pack(moved, again, bytes_max=BYTES_MAX)) == names(packing)
    # The copies are the same scene: the same picture, bit for bit.
    hashes = []
    for folder in (scenes / "absolute", open_path):
        with RenderBox(folder) as worker:
            _, report = worker.render(RECIPE, Unit(frame=1))
        hashes.append(report.pixels)
    assert hashes[0] == hashes[1]


async def test_files_travel_as_inputs(scenes: Path, tmp_path: Path) -> None:
    place = scenes / "linked"
    project, trace = await look(place / "shots/shot.blend", project=place)
    packing = pack(project, trace, bytes_max=BYTES_MAX)
    program = Program("command", ("true",), packing.sources, "true")
    blobs = FolderBlobs(tmp_path, is_durable=False)
    tree = survey.gather(program, blobs=blobs, bytes_max=BYTES_MAX)
    assert {file.path for file in tree.files} == names(packing)
    # Pictures of one content are one, wherever they lie: so is what is uploaded.
    again = survey.gather(program, blobs=blobs, bytes_max=BYTES_MAX)
    assert again == tree


async def test_opens_gltf_and_usd(scenes: Path, open_path: Path) -> None:
    (open_path / "tex").mkdir()
    (open_path / "tex/wood.png").write_bytes(
        (scenes / "linked/assets/wood.png").read_bytes()
    )
    (open_path / "scene.gltf").write_text(
        '{"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": []}],'
        ' "images": [{"uri": "tex/wood.png"}, {"uri": "tex/gone%20away.png"}]}'
    )
    project, trace = await look(open_path / "scene.gltf")
    assert {each.path: each.is_there for each in trace.needs} == {
        str(open_path / "tex/wood.png"): True,
        str(open_path / "tex/gone away.png"): False,
    }
    assert "tex/gone away.png" in find_faults(project, trace)["missing_files"].message
    (open_path / "part.usda").write_text(
        '#usda 1.0\n(defaultPrim = "A")\ndef Xform "A" {}\n'
    )
    (open_path / "scene.usda").write_text(
        '#usda 1.0\n(defaultPrim = "R")\ndef Xform "R" {\n'
        '  def "P" (references = @./part.usda@) {}\n'
        '  def "Q" (references = @./lost.usda@) {}\n}\n'
    )
    project, trace = await look(open_path / "scene.usda")
    assert {Path(each.path).name: each.is_there for each in trace.needs} == {
        "part.usda": True,
        "lost.usda": False,
    }
    assert "lost.usda" in find_faults(project, trace)["missing_files"].message


# What stands before Blender is asked at all.
PLACES = [
    ("gone.blend", None, "no_scene"),  # not there
    ("a.txt", None, "bad_scene"),  # not a scene
    ("a.blend", "other", "bad_project"),  # does not contain it
    ("a.blend", "gone", "no_project"),
    ("a.blend", "/", "bad_project"),  # everything
    ("a.blend", "/usr", "bad_project"),  # the system
    ("a.blend", str(Path.home()), "bad_project"),  # every secret of the user
]


@pytest.mark.parametrize(("scene", "project", "code"), PLACES)
def test_refuses_what_is_no_project(
    tmp_path: Path, scene: str, project: str | None, code: str
) -> None:
    (tmp_path / "a.blend").write_bytes(b"")
    (tmp_path / "a.txt").write_bytes(b"")
    (tmp_path / "other").mkdir()
    with pytest.raises(Refused) as caught:
        open_project(
            str(tmp_path / scene), project=str(tmp_path / project) if project else None
        )
    assert caught.value.code == code


async def test_opens_nothing_without_sandbox(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="apt install bubblewrap") as caught:
        await look(scenes / "plain/shot.blend")
    assert caught.value.code == "no_sandbox"


def test_says_how_to_get_blender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chamber.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"sublet\[render\]") as caught:
        chamber.find_packages()
    assert caught.value.code == "no_blender"
