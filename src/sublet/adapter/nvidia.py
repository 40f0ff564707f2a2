"""NVIDIA GPUs through NVML: what there is, and which files of theirs a job needs.

``pynvml`` is imported late and may be missing; without a driver there are no GPUs.
Device nodes and driver libraries are bound one by one: no container hook, none of
the vendor's toolkit stands in the path of trust.
"""

import contextlib
import logging
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from msgspec import Struct

from sublet.base.errors import Unavailable
from sublet.service.ports import Bind, Gpu

_log = logging.getLogger(__name__)

GPU_FOLDER = "/run/nvidia"  # where an image finds the driver's libraries
_CONTROL_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")
_LIBRARY = re.compile(r"\s(lib(?:cuda|nvidia-|nvcuvid|nvoptix)[^ ]*) .*=> (/\S+)$")
_UNLISTED = Path("/usr/local/nvidia/lib64")  # clouds keep the driver here, unlisted
_LDCONFIG_TIMEOUT_S = 10
# Words of a product name that say nothing about the model: makers, cooling, memory.
_NOISE = re.compile(
    r"\A(nvidia|geforce|tesla|quadro|gpu|graphics|generation|edition|server|workstation"
    r"|pcie|nvl|sxm\d*|hbm\d*e?|\d+gb)\Z"
)


class GpuFiles(Struct, frozen=True):
    """What a job must be given to use some GPUs, and only those."""

    devices: tuple[str, ...]  # device nodes
    binds: tuple[Bind, ...]  # libraries; those in /usr a job sees anyway
    env: dict[str, str]


def normalize_model(name: str) -> str:
    """Turn a driver's product name into the one that offers and orders use.

    >>> normalize_model("NVIDIA GeForce RTX 4090"), normalize_model("NVIDIA H200")
    ('rtx4090', 'h200')
    """
    words = re.split(r"[^a-z0-9]+", name.lower())
    return "".join(word for word in words if not _NOISE.match(word))


@contextlib.contextmanager
def _open_driver() -> Iterator[ModuleType]:
    """Open NVML for a moment.

    Raises:
        Unavailable: no driver, no ``nvidia-ml-py``, or the driver failed.
    """
    try:
        import pynvml
    except ImportError as error:
        raise Unavailable(
            "nvidia-ml-py is not installed; pip install 'sublet[provider]'"
        ) from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise Unavailable(f"no NVIDIA driver answers ({error})") from error
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise Unavailable(f"the NVIDIA driver failed ({error})") from error
    finally:
        pynvml.nvmlShutdown()


def find_gpus() -> tuple[Gpu, ...]:
    """List the GPUs that the driver shows; none, and a line in the log, without one."""
    try:
        with _open_driver() as nvml:
            return tuple(
                _describe(nvml, index) for index in range(nvml.nvmlDeviceGetCount())
            )
    except Unavailable as error:
        _log.info("no GPUs: %s", error.message)
        return ()


def _describe(nvml: ModuleType, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    try:
        power_mw = nvml.nvmlDeviceGetEnforcedPowerLimit(handle)
    except nvml.NVMLError:  # laptops and virtual GPUs do not say
        power_mw = 0
    return Gpu(
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        model=normalize_model(str(nvml.nvmlDeviceGetName(handle))),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        power_limit_w=int(power_mw) // 1_000,
        index=index,
    )


class GpuState(Struct, frozen=True):
    """How one GPU is doing."""

    uuid: str
    temperature_c: int
    power_w: int
    programs: int  # that compute on it


def read_gpu_states() -> tuple[GpuState, ...]:
    """Say how the GPUs are doing.

    Raises:
        Unavailable: no driver answers.
    """
    with _open_driver() as nvml:
        return tuple(
            _read_state(nvml, index) for index in range(nvml.nvmlDeviceGetCount())
        )


def _read_state(nvml: ModuleType, index: int) -> GpuState:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    try:
        power_mw = nvml.nvmlDeviceGetPowerUsage(handle)
    except nvml.NVMLError:  # laptops and virtual GPUs do not say
        power_mw = 0
    return GpuState(
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        temperature_c=int(
            nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        ),
        power_w=int(power_mw) // 1_000,
        programs=len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
    )


class GpuUse(Struct, frozen=True):
    """Who is on one GPU."""

    uuid: str
    memory_bytes: int
    programs: int  # that compute on it or show graphics
    screens: int  # those of them that show graphics


def read_gpu_uses() -> tuple[GpuUse, ...]:
    """Say how many programs are on each GPU.

    Raises:
        Unavailable: no driver answers, or it does not say for one of them.
    """
    with _open_driver() as nvml:
        return tuple(
            _read_use(nvml, index) for index in range(nvml.nvmlDeviceGetCount())
        )


def _read_use(nvml: ModuleType, index: int) -> GpuUse:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    computing = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    showing = nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)
    return GpuUse(
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        programs=len({program.pid for program in (*computing, *showing)}),
        screens=len(showing),
    )


def find_gpu_files(uuids: Sequence[str]) -> GpuFiles:
    """Find the device nodes and libraries for these GPUs.

    Raises:
        Unavailable: a GPU is not there any more, or its driver does not answer.
    """
    if not uuids:
        return GpuFiles((), (), {})
    with _open_driver() as nvml:
        minors = [
            nvml.nvmlDeviceGetMinorNumber(nvml.nvmlDeviceGetHandleByUUID(uuid))
            for uuid in uuids
        ]
    nodes = (*_CONTROL_NODES, *(f"/dev/nvidia{minor}" for minor in minors))
    libraries = find_libraries(_read_loader_cache())
    env = {"CUDA_VISIBLE_DEVICES": ",".join(uuids)}
    if not any("/libcuda.so" in path for path in libraries) and _UNLISTED.is_dir():
        env["LD_LIBRARY_PATH"] = str(_UNLISTED)
    outside = [path for path in libraries if not path.startswith("/usr/")]
    binds = tuple(Bind(path, path) for path in outside)
    return GpuFiles(tuple(node for node in nodes if Path(node).exists()), binds, env)


def find_libraries(loader_cache: str) -> tuple[str, ...]:
    """Pick the driver's libraries from the text of ``ldconfig -p``.

    Where /lib is a link into /usr, the paths say so.
    """
    found = (_LIBRARY.search(line) for line in loader_cache.splitlines())
    paths = (Path(match.group(2)) for match in found if match)
    merged = Path("/lib").is_symlink()
    return tuple(
        f"/usr{path}" if merged and path.parts[1].startswith("lib") else str(path)
        for path in dict.fromkeys(paths)
    )


def _read_loader_cache() -> str:
    try:
        answer = subprocess.run(
            ["/sbin/ldconfig", "-p"],
            capture_output=True,
            text=True,
            timeout=_LDCONFIG_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"the loader's cache cannot be read ({error})") from error
    return answer.stdout
