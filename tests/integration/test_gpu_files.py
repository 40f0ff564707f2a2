"""GPUs in each kind of sandbox, for scripts and images: nodes, libraries, variables.

Without a GPU: the node is one that gives zeros, the libraries are a fake driver's.
What a real one does with them: ``tests/gpu``.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sublet.adapter.nvidia import GPU_FOLDER, GpuFiles
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.sandbox_oci import GvisorSandbox, PodmanSandbox
from sublet.base.errors import Refused
from sublet.service.ports import Bind
from tests.fakes.gpu_driver import compile_driver
from tests.image_rig import lay_out_root
from tests.integration.test_sandbox_isolation import Cell

UUID = "GPU-00000000-0000-4000-8000-000000000000"
KINDS = {"bubblewrap": BubblewrapSandbox, "podman": PodmanSandbox}
EACH = [
    pytest.param("bubblewrap", marks=pytest.mark.sandbox),
    pytest.param("podman", marks=pytest.mark.container),
]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes nodes")

PROGRAM = """
import ctypes, os, sys
ctypes.CDLL("libcuda.so.1").cuInit  # as every program finds it
assert open(sys.argv[1], "rb").read(3) == bytes(3)
print(os.environ["CUDA_VISIBLE_DEVICES"], sorted(os.listdir("/run/nvidia")))
try:
    open("/run/nvidia/libcuda.so.1", "wb")
except OSError:
    print("read-only")
"""


@pytest.fixture
def node() -> Iterator[str]:
    """A device of this machine that no sandbox shows by itself."""
    path = f"/dev/sublet-test-{os.getpid()}"
    os.mknod(path, stat.S_IFCHR, os.makedev(1, 5))  # as /dev/zero
    os.chmod(path, 0o666)  # noqa: PTH101
    yield path
    os.unlink(path)  # noqa: PTH108


@pytest.fixture
def files(node: str, tmp_path: Path) -> GpuFiles:
    driver = compile_driver(tmp_path)
    bind = Bind(str(driver / "libcuda.so.1"), f"{GPU_FOLDER}/libcuda.so.1")
    return GpuFiles((node,), (bind,), {"CUDA_VISIBLE_DEVICES": UUID})


def make_cell(kind: str, files: GpuFiles, base: Path) -> Cell:
    def find(uuids: object) -> GpuFiles:
        return files if uuids else GpuFiles((), (), {})

    (base / "cell").mkdir()
    return Cell(base / "cell", KINDS[kind](find_gpu_files=find))


@pytest.mark.parametrize("kind", EACH)
async def test_script_has_the_leased_gpu(
    kind: str, node: str, files: GpuFiles, tmp_path: Path
) -> None:
    cell = make_cell(kind, files, tmp_path)
    argv = ("/usr/bin/env", "python3", "-S", "-c", PROGRAM, node)
    env = {"PATH": "/opt/python/bin:/usr/bin:/bin"}
    state = await cell.run(*argv, env=env, gpu_uuids=(UUID,))
    assert state.exit_code == 0, cell.complained()
    assert cell.said() == f"{UUID} ['libcuda.so.1']\nread-only"
    await cell.run(*argv, env=env)
    assert "libcuda.so.1" in cell.complained()  # without a lease there is none
    await cell.run("ls", node)
    assert cell.said() == ""


@pytest.mark.parametrize("kind", EACH)
async def test_image_has_the_leased_gpu(
    kind: str, node: str, files: GpuFiles, tmp_path: Path
) -> None:
    cell = make_cell(kind, files, tmp_path)
    look = (
        f"test -c {node} && head -c 3 {node} | od -An -tx1; ls /run/nvidia; "
        "cat /run/nvidia/libcuda.so.1 >/dev/null && echo readable; "
        "echo x 2>/dev/null >/run/nvidia/libcuda.so.1 || echo read-only; "
        "echo $LD_LIBRARY_PATH $CUDA_VISIBLE_DEVICES"
    )
    changes = {"root": lay_out_root(tmp_path / "root"), "env": {"PATH": "/bin"}}
    for name in ("head", "od", "test"):
        (tmp_path / "root/bin" / name).symlink_to("busybox")
    await cell.run("sh", "-c", look, gpu_uuids=(UUID,), **changes)
    assert cell.said().splitlines() == [
        *("00 00 00", "libcuda.so.1", "readable", "read-only"),
        f"/run/nvidia {UUID}",
    ], cell.complained()
    await cell.run("sh", "-c", f"ls {node}; ls /run/nvidia; echo none", **changes)
    assert cell.said() == "none"


@pytest.mark.container
async def test_gvisor_says_that_it_has_none(tmp_path: Path) -> None:
    cell = Cell(tmp_path, GvisorSandbox())
    with pytest.raises(Refused, match="gvisor reaches no GPU"):
        await cell.run("true", gpu_uuids=(UUID,))
