"""Real GPUs: what NVML says, and a sandbox that sees the leased ones and no others."""

import re
import shutil
from pathlib import Path

import pytest

from sublet.adapter.devices_machine import MachineDevices
from sublet.adapter.job_python import find_job_python
from sublet.adapter.nvidia import GPU_FOLDER, find_gpu_files, find_gpus
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.sandbox_oci import PodmanSandbox
from sublet.adapter.sandbox_warden import find_root_links
from sublet.service.ports import Bind, SandboxSpec
from tests.image_rig import lay_out_root

pytestmark = pytest.mark.gpu


def test_describes_every_gpu(tmp_path: Path) -> None:
    gpus = MachineDevices().find_machine(folder=tmp_path).gpus
    assert gpus == find_gpus()
    assert len(gpus) == len(list(Path("/proc/driver/nvidia/gpus").iterdir()))
    for gpu in gpus:
        assert gpu.uuid.startswith("GPU-")
        assert re.fullmatch(r"[a-z0-9]+", gpu.model)
        assert gpu.memory_bytes > 1 << 30


def test_finds_the_files_of_a_lease() -> None:
    (first, *_) = find_gpus()
    files = find_gpu_files((first.uuid,))
    assert "/dev/nvidiactl" in files.devices
    numbered = [node for node in files.devices if node[-1].isdigit()]
    assert len(numbered) == 1
    assert all(Path(node).exists() for node in files.devices)
    assert files.env["CUDA_VISIBLE_DEVICES"] == first.uuid
    targets = {bind.target for bind in files.binds}
    assert f"{GPU_FOLDER}/libcuda.so.1" in targets


CUDA = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
count = ctypes.c_int()
assert cuda.cuInit(0) == 0
assert cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
print("devices", count.value)
"""


@pytest.mark.parametrize("leased", [0, 1])
@pytest.mark.parametrize("is_image", [False, True], ids=["script", "image"])
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(BubblewrapSandbox, marks=pytest.mark.sandbox),
        pytest.param(PodmanSandbox, marks=pytest.mark.container),
    ],
)
async def test_sandbox_sees_what_was_leased(
    tmp_path: Path,
    kind: type[BubblewrapSandbox | PodmanSandbox],
    is_image: bool,
    leased: int,
) -> None:
    sandbox = kind()
    (tmp_path / "work").mkdir()
    binds = [Bind(str(tmp_path / "work"), "/work", is_writable=True)]
    if is_image:
        binds += make_image(tmp_path / "root")
    python = find_job_python().inside
    spec = SandboxSpec(
        argv=(python, "-c", CUDA),
        env={"PATH": "/usr/bin:/bin"},
        directory="/work",
        binds=tuple(binds),
        uid=64_700,
        memory_bytes=8 << 30,
        cpus_milli=2_000,
        processes_max=256,
        tmp_bytes=64 << 20,
        file_bytes_max=64 << 20,
        disk_bytes=64 << 20,
        watched=(),
        gpu_uuids=tuple(gpu.uuid for gpu in find_gpus()[:leased]),
        root=str(tmp_path / "root") if is_image else "",
        stdout=str(tmp_path / "stdout"),
        stderr=str(tmp_path / "stderr"),
        timeout_s=60,
    )
    await sandbox.start(spec, folder=tmp_path / "sandbox")
    state = await sandbox.wait_ended(tmp_path / "sandbox")
    said = (tmp_path / "stdout").read_text()
    if leased:
        assert said == f"devices {leased}\n", (tmp_path / "stderr").read_text()
    else:
        assert state.exit_code != 0
        assert said == ""


def make_image(root: Path) -> list[Bind]:
    """Make an image that has a C library and a Python, and knows no driver.

    It has no loader's cache, so that the driver is found where the sandbox puts it.
    """
    lay_out_root(root)
    shutil.rmtree(root / "bin")
    binds = [Bind("/usr", "/usr"), *find_job_python().binds]
    for path, target in find_root_links().items():
        if target:
            (root / path.lstrip("/")).symlink_to(target)
        else:
            binds.append(Bind(path, path))
    for bind in binds:
        place = root / bind.target.lstrip("/")
        if Path(bind.source).is_dir():
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    return binds
