"""Real GPUs: what NVML says, and a sandbox that sees the leased ones and no others."""

import re
from pathlib import Path

import pytest

from sublet.adapter.devices_machine import MachineDevices
from sublet.adapter.nvidia import find_gpu_files, find_gpus
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.service.ports import Bind, SandboxSpec

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


CUDA = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
count = ctypes.c_int()
assert cuda.cuInit(0) == 0
assert cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
print("devices", count.value)
"""


@pytest.mark.sandbox
@pytest.mark.parametrize("leased", [0, 1])
async def test_sandbox_sees_what_was_leased(tmp_path: Path, leased: int) -> None:
    sandbox = BubblewrapSandbox()
    (tmp_path / "work").mkdir()
    spec = SandboxSpec(
        argv=("python3", "-c", CUDA),
        env={"PATH": "/opt/python/bin:/usr/bin:/bin"},
        directory="/work",
        binds=(Bind(str(tmp_path / "work"), "/work", is_writable=True),),
        uid=64_700,
        memory_bytes=8 << 30,
        cpus_milli=2_000,
        processes_max=256,
        tmp_bytes=64 << 20,
        file_bytes_max=64 << 20,
        disk_bytes=64 << 20,
        watched=(),
        gpu_uuids=tuple(gpu.uuid for gpu in find_gpus()[:leased]),
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
