"""Scenes made by Blender for tests, and the short ways to look at them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sublet.base.errors import Faults, SubletError
from sublet.workload.render.chamber import Limits
from sublet.workload.render.packing import Packing, pack
from sublet.workload.render.tracing import Project, Trace, open_project, trace_scene

HERE = Path(__file__).parent
MAKE_TIMEOUT_S = 120
BYTES_MAX = 1 << 30
TAKES = Limits(memory_bytes=2 << 30, timeout_s=90)


def make_scenes(folder: Path) -> None:
    """Make all scenes of ``render_scenes``."""
    made = subprocess.run(
        [sys.executable, str(HERE / "render_scenes.py"), str(folder)],
        capture_output=True,
        text=True,
        timeout=MAKE_TIMEOUT_S,
        env={"HOME": str(folder), "PATH": "/usr/bin"},
    )
    assert made.returncode == 0, made.stderr[-2_000:]


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    """A folder that the sandbox's own user can look into, too."""
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.fixture(scope="module")
def scenes() -> Iterator[Path]:
    """A folder with a project folder for each scene."""
    with TemporaryDirectory(prefix="scenes-") as name:
        Path(name).chmod(0o755)
        make_scenes(Path(name))
        yield Path(name)


async def look(
    scene: Path, *, project: Path | None = None, has_scripts: bool = False
) -> tuple[Project, Trace]:
    """Trace a scene."""
    found = open_project(str(scene), project=str(project) if project else None)
    traced = await trace_scene(found, has_scripts=has_scripts, takes=TAKES)
    return found, traced


def find_faults(
    project: Project, trace: Trace, *, bytes_max: int = BYTES_MAX
) -> dict[str, SubletError]:
    """Say why a scene cannot be packed, by code."""
    try:
        pack(project, trace, bytes_max=bytes_max)
    except Faults as faults:
        return {each.code: each for each in faults.faults}
    return {}


def names(packing: Packing) -> set[str]:
    """Name what goes along, as the workers see it."""
    plain = {name for source in packing.sources for name in source.include}
    return plain | {source.name for source in packing.sources if source.name}
