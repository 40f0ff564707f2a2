"""Scenes that mean harm, opened by real Blender in the real sandbox."""

import os
from pathlib import Path

import pytest

from sublet.base.errors import Faults, Refused
from sublet.workload.render.chamber import Limits, run_program
from sublet.workload.render.tracing import (
    check_facts,
    open_project,
    trace_scene,
)
from tests.integration.render_house import (
    BYTES_MAX,
    TAKES,
    find_faults,
    look,
    open_path,
    scenes,
)
from tests.rig.render_box import needs_blender

__all__ = ["open_path", "scenes"]
pytestmark = [needs_blender, pytest.mark.sandbox]

WRITTEN = ("text", "driver", "spy")  # what the hostile scene's Python leaves


async def _run_hostile(scenes: Path, *, has_scripts: bool) -> dict[str, str]:
    """Open the hostile scene; give what its Python wrote, by name."""
    project = open_project(str(scenes / "hostile/shot.blend"))
    request = {"scene": project.scene, "has_scripts": has_scripts}
    said = {}
    async with run_program(
        "trace", request, reads=project.binds, limits=TAKES
    ) as place:
        assert (place.folder / "answer.json").stat().st_size
        for name in WRITTEN:
            if (place.folder / name).exists():
                said[name] = (place.folder / name).read_text()
    return said


async def test_scripts_do_nothing_by_default(scenes: Path) -> None:
    assert await _run_hostile(scenes, has_scripts=False) == {}


async def test_scripts_are_contained_when_asked(scenes: Path) -> None:
    before = (scenes / "hostile/shot.blend").read_bytes()
    said = await _run_hostile(scenes, has_scripts=True)
    # They ran, so that what follows means something; they saw nothing beside the
    # project, could not write to it, and reached no network.
    assert (scenes / "elsewhere/above.png").exists()
    assert said["text"] == "ran"
    assert said["spy"] == "held"
    assert (scenes / "hostile/shot.blend").read_bytes() == before


async def test_scripts_are_named(scenes: Path) -> None:
    _, trace = await look(scenes / "hostile/shot.blend")
    assert set(trace.facts.scripts) == {"evil.py", "spy.py"}
    assert trace.facts.drivers == ("Box: location",)


async def test_refuses_paths_that_leave(scenes: Path) -> None:
    project, trace = await look(scenes / "outside/shot.blend")
    faults = find_faults(project, trace)
    assert set(faults) == {"missing_files", "outside_project", "hidden_files"}
    text = faults["outside_project"].message
    assert text.startswith("--project: 3 files lie outside")
    # By "..", by an absolute path, and by a symlink, whose target is told.
    for path in ("elsewhere/above.png", "/etc/hostname", "behind.png"):
        assert path in text
    assert f"--project {scenes}. Or: Pack it" in text
    assert ".secret.png" in faults["hidden_files"].message
    assert "gone.png" in faults["missing_files"].message
    # A symlink within the project is a file like any other.
    assert "alias.png" not in "".join(each.message for each in faults.values())


async def test_refuses_huge_texture_unread(scenes: Path) -> None:
    project, trace = await look(scenes / "huge/shot.blend")
    fault = find_faults(project, trace, bytes_max=BYTES_MAX)["inputs_too_large"]
    assert "huge.png with 100000000000" in fault.message


async def test_survives_a_bomb(scenes: Path) -> None:
    assert (scenes / "bomb/shot.blend").stat().st_size < 1_000_000
    with pytest.raises(Refused) as caught:
        await look(scenes / "bomb/shot.blend")
    assert caught.value.code in ("bad_scene", "scene_too_large")


async def test_bounds_memory_of_a_scene(scenes: Path) -> None:
    project = open_project(str(scenes / "plain/shot.blend"))
    with pytest.raises(Refused) as caught:
        await trace_scene(project, takes=Limits(memory_bytes=32 << 20))
    assert caught.value.code == "scene_too_large"


async def test_bounds_time_of_a_scene(scenes: Path) -> None:
    project = open_project(str(scenes / "endless/shot.blend"))
    takes = Limits(memory_bytes=2 << 30, timeout_s=10)
    with pytest.raises(Refused) as caught:
        await trace_scene(project, has_scripts=True, takes=takes)
    assert caught.value.code == "scene_too_slow"


async def test_refuses_newer_and_blind_scenes(scenes: Path) -> None:
    plain = (scenes / "plain/shot.blend").read_bytes()
    assert plain.startswith(b"BLENDER17-01v0500")
    blind = (scenes / "plain/blind.blend").read_bytes()
    forged = scenes / "plain/forged.blend"
    forged.write_bytes(blind.replace(b"v0500", b"v0599", 1))
    _, trace = await look(forged)
    with pytest.raises(Faults) as caught:
        check_facts(trace.facts, version=(5, 0))
    newer, blind_fault = caught.value.faults
    assert newer.code == "newer_scene" and "Blender 5.99" in newer.message
    assert blind_fault.code == "no_camera"
    check_facts(trace.facts, version=(5, 99), has_default_camera=True)


async def test_refuses_garbage(open_path: Path) -> None:
    (open_path / "shot.blend").write_bytes(b"BLENDER-v500" + b"\xff" * 4_096)
    with pytest.raises(Refused) as caught:
        await look(open_path / "shot.blend")
    assert caught.value.code == "bad_scene"
    assert "does not open it" in caught.value.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another user open scenes")
async def test_says_what_is_for_root_alone(tmp_path: Path) -> None:
    (tmp_path / "shot.blend").write_bytes(b"")
    tmp_path.chmod(0o700)
    with pytest.raises(Refused, match="chmod -R o") as caught:
        await look(tmp_path / "shot.blend")
    assert caught.value.code == "not_readable"
