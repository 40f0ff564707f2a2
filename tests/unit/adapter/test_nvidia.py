"""GPUs without one: names, libraries, and the answer where there is no driver."""

from pathlib import Path

import pytest

from sublet.adapter.cdi import GpuEdits, GpuName
from sublet.adapter.nvidia import (
    find_gpu_files,
    find_gpus,
    find_listed,
    make_gpu_files,
    normalize_model,
)
from sublet.base.errors import Unavailable
from sublet.service.ports import Bind

MODELS = {  # what drivers say: what offers and orders say
    "NVIDIA H200": "h200",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H100 PCIe": "h100",
    "NVIDIA H100 NVL": "h100",
    "NVIDIA A100-SXM4-80GB": "a100",
    "NVIDIA A100 80GB PCIe": "a100",
    "NVIDIA GH200 480GB": "gh200",
    "NVIDIA B200": "b200",
    "NVIDIA L40S": "l40s",
    "NVIDIA A10G": "a10g",
    "Tesla T4": "t4",
    "Tesla V100-SXM2-16GB": "v100",
    "NVIDIA GeForce RTX 4090": "rtx4090",
    "NVIDIA GeForce RTX 4090 D": "rtx4090d",
    "NVIDIA GeForce RTX 4070 Ti SUPER": "rtx4070tisuper",
    "NVIDIA GeForce RTX 3080 Laptop GPU": "rtx3080laptop",
    "NVIDIA GeForce GTX 1080 Ti": "gtx1080ti",
    "NVIDIA RTX A6000": "rtxa6000",
    "NVIDIA RTX 6000 Ada Generation": "rtx6000ada",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "rtxpro6000blackwell",
    "Quadro RTX 8000": "rtx8000",
    "NVIDIA TITAN RTX": "titanrtx",
}

LOADER_CACHE = """142 libs found in cache `/etc/ld.so.cache'
\tlibnvidia-ml.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1
\tlibnvidia-ml.so.1 (libc6) => /usr/lib/i386-linux-gnu/libnvidia-ml.so.1
\tlibcuda.so.1 (libc6,x86-64) => /opt/driver/libcuda.so.1
\tlibcuda.so (libc6,x86-64) => /opt/driver/libcuda.so
\tlibcudart.so.12 (libc6,x86-64) => /usr/local/cuda/lib64/libcudart.so.12
\tlibnvcuvid.so.1 (libc6,x86-64) => /opt/driver/libnvcuvid.so.1
\tlibc.so.6 (libc6,x86-64) => /lib/x86_64-linux-gnu/libc.so.6
"""


@pytest.mark.parametrize(("name", "model"), MODELS.items())
def test_normalizes_names_of_models(name: str, model: str) -> None:
    assert normalize_model(name) == model


def test_finds_the_libraries_of_the_driver() -> None:
    assert find_listed(LOADER_CACHE) == {
        "libnvidia-ml.so.1": "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1",
        "libcuda.so.1": "/opt/driver/libcuda.so.1",
        "libcuda.so": "/opt/driver/libcuda.so",
        "libnvcuvid.so.1": "/opt/driver/libnvcuvid.so.1",
    }


def test_finds_nothing_in_an_empty_cache() -> None:
    assert find_listed("0 libs found in cache\n") == {}


LIBRARIES = {"libcuda.so.1": "/opt/driver/libcuda.so.1"}
GPU = GpuName(("GPU-1", "0"), minor=3)


def test_gives_a_job_its_gpus_and_the_driver() -> None:
    files = make_gpu_files(["GPU-1"], gpus=[GPU], edits=None, libraries=LIBRARIES)
    bind = Bind("/opt/driver/libcuda.so.1", "/run/nvidia/libcuda.so.1")
    assert files.binds == (bind,)
    assert files.env == {"CUDA_VISIBLE_DEVICES": "GPU-1"}


def test_takes_libraries_of_cdi_files_by_all_their_names(tmp_path: Path) -> None:
    real = tmp_path / "libcuda.so.550.1"
    real.touch()
    (tmp_path / "libcuda.so.1").symlink_to(real.name)
    (tmp_path / "libcuda.so").symlink_to("libcuda.so.1")
    (tmp_path / "libcuda.so.2").symlink_to("elsewhere")
    edits = GpuEdits((), (str(real),), {"NVIDIA_X": "1", "CUDA_VISIBLE_DEVICES": "9"})
    files = make_gpu_files(["GPU-1"], gpus=[GPU], edits=edits, libraries=LIBRARIES)
    assert {bind.target: bind.source for bind in files.binds} == {
        f"/run/nvidia/{name}": str(real)
        for name in ("libcuda.so.550.1", "libcuda.so.1", "libcuda.so")
    }
    assert files.env == {"NVIDIA_X": "1", "CUDA_VISIBLE_DEVICES": "GPU-1"}


def test_no_gpu_without_the_driver_s_library() -> None:
    with pytest.raises(Unavailable, match=r"libcuda\.so is not found"):
        make_gpu_files(["GPU-1"], gpus=[GPU], edits=None, libraries={})


def test_no_lease_needs_no_driver() -> None:
    files = find_gpu_files(())
    assert (files.devices, files.binds, files.env) == ((), (), {})


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU here")
def test_without_driver_there_are_none() -> None:
    assert find_gpus() == ()


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU here")
def test_leased_gpu_without_driver_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        find_gpu_files(("GPU-1",))
