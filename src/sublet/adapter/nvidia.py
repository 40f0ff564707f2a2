"""NVIDIA GPUs through NVML: what there is, and which files of theirs a job needs.

``pynvml`` is imported late and may be missing; without a driver there are no GPUs.
Device nodes and driver libraries are bound one by one: no container hook, none of
the vendor's toolkit stands in the path of trust. Libraries lie in one folder for every
kind of sandbox, for scripts and images, and are found by ``LD_LIBRARY_PATH``.
"""

import contextlib
import itertools
import logging
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from msgspec import Struct

from sublet.adapter.cdi import (
    CDI_FOLDERS,
    GpuEdits,
    GpuName,
    find_aliases,
    find_edits,
    read_cdi,
)
from sublet.base.errors import Refused, Unavailable
from sublet.core.gpu_level import parse_driver
from sublet.core.gpu_model import normalize_model
from sublet.core.gpu_part import MIG_PREFIX, find_devices
from sublet.service.ports import Bind, Gpu

_log = logging.getLogger(__name__)

GPU_FOLDER = "/run/nvidia"  # where a job finds the driver's libraries
_CONTROL_NODES = ("/dev/nvidiactl", "/dev/nvidia-uvm")
_DRIVER = r"lib(?:cuda|cudadebugger|nvidia-[\w-]+|nvcuvid|nvoptix)\.so[^ /]*"
# Of a machine's own kind: 32-bit ones are listed without a word on it.
_LISTED = re.compile(rf"\s({_DRIVER}) \([^)]*,(?:x86-64|AArch64).*=> (/\S+)$")
_UNLISTED = Path("/usr/local/nvidia/lib64")  # clouds keep the driver here, unlisted
_LDCONFIG_TIMEOUT_S = 10
_CAPABILITIES = Path("/proc/driver/nvidia/capabilities")
_CAPABILITY = re.compile(r"(?m)^DeviceFileMinor: *([0-9]{1,6})$")
_ON_CARD = re.compile(
    r"PCIe|NVL|GeForce|RTX|GTX|Quadro|TITAN|\b(?:T4|L4|L20|L40S?|A2|A10G?|A16|A30|A40)\b"
)
_ON_BOARD = re.compile(r"SXM|HBM3|\b(?:H200|B200|B300)\b")


class GpuFiles(Struct, frozen=True):
    """What a job must be given to use some GPUs, and only those."""

    devices: tuple[str, ...]  # device nodes
    binds: tuple[Bind, ...]  # libraries, in GPU_FOLDER
    env: dict[str, str]


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
    name = str(nvml.nvmlDeviceGetName(handle))
    return Gpu(
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        model=normalize_model(name),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        power_limit_w=int(power_mw) // 1_000,
        index=index,
        vendor="nvidia",
        interface=find_interface(name),
        compute=_read_compute(nvml, handle),
        driver=_read_driver(nvml),
        cuda=_read_cuda(nvml),
        instances=tuple(_list_instances(nvml, handle)),
    )


def _read_compute(nvml: ModuleType, handle: object) -> int:
    try:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    except nvml.NVMLError:
        return 0
    return int(major) * 10 + int(minor)


def _read_driver(nvml: ModuleType) -> int:
    try:
        version = str(nvml.nvmlSystemGetDriverVersion())
        return parse_driver(version, field="the driver's version")
    except (nvml.NVMLError, Refused):  # one that is written in a new way is unknown
        return 0


def _read_cuda(nvml: ModuleType) -> int:
    try:
        return int(nvml.nvmlSystemGetCudaDriverVersion())
    except nvml.NVMLError:
        return 0


def _list_instances(nvml: ModuleType, handle: object) -> Iterator[str]:
    """List the MIG instances of a GPU; none where it cannot have any."""
    try:
        count = int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    except nvml.NVMLError:
        return
    for number in range(count):
        with contextlib.suppress(nvml.NVMLError):  # there is none of this number
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            yield str(nvml.nvmlDeviceGetUUID(instance))


def find_interface(name: str) -> str:
    """Say how a GPU of this product name is built in: NVML tells it nowhere else. Pure.

    >>> find_interface("NVIDIA H100 80GB HBM3"), find_interface("NVIDIA H100 PCIe")
    ('sxm', 'pcie')
    """
    if _ON_CARD.search(name):
        return "pcie"
    return "sxm" if _ON_BOARD.search(name) else ""


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


def find_gpu_files(parts: Sequence[str]) -> GpuFiles:
    """Find the device nodes and libraries for these GPUs, or parts of GPUs.

    Raises:
        Refused: a CDI file of this machine cannot be used.
        Unavailable: a GPU is not there any more, or its driver does not answer.
    """
    if not parts:
        return GpuFiles((), (), {})
    uuids = find_devices(parts)
    with _open_driver() as nvml:
        gpus = find_names(nvml, uuids)
    edits = None
    if cdi := read_cdi(CDI_FOLDERS):
        edits = find_edits(cdi, gpus)
    return make_gpu_files(uuids, gpus=gpus, edits=edits, libraries=_find_libraries())


def find_names(
    nvml: ModuleType, uuids: Sequence[str], *, capabilities: Path = _CAPABILITIES
) -> tuple[GpuName, ...]:
    """Ask the driver which device nodes belong to these GPUs and MIG instances.

    Raises:
        Unavailable: an instance may not be opened, or is not there any more.
    """
    return tuple(
        _name_instance(nvml, uuid, capabilities)
        if uuid.startswith(MIG_PREFIX)
        else _name(nvml, uuid)
        for uuid in uuids
    )


def _name(nvml: ModuleType, uuid: str) -> GpuName:
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    index = str(nvml.nvmlDeviceGetIndex(handle))
    return GpuName((uuid, index), int(nvml.nvmlDeviceGetMinorNumber(handle)))


def _name_instance(nvml: ModuleType, uuid: str, capabilities: Path) -> GpuName:
    """Name a MIG instance: the nodes of its GPU, and two that let it alone be opened."""
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    gpu = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    whole = _name(nvml, str(nvml.nvmlDeviceGetUUID(gpu)))
    folder = capabilities / f"gpu{whole.minor}/mig"
    folder /= f"gi{int(nvml.nvmlDeviceGetGpuInstanceId(handle))}"
    inner = folder / f"ci{int(nvml.nvmlDeviceGetComputeInstanceId(handle))}"
    nodes = (_read_capability(folder / "access"), _read_capability(inner / "access"))
    return GpuName((uuid, *whole.names), whole.minor, nodes)


def _read_capability(path: Path) -> str:
    try:
        found = _CAPABILITY.search(path.read_text())
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from error
    if found is None:
        raise Unavailable(f"{path} names no device node")
    return f"/dev/nvidia-caps/nvidia-cap{found[1]}"


def make_gpu_files(
    uuids: Sequence[str],
    *,
    gpus: Sequence[GpuName],
    edits: GpuEdits | None,
    libraries: Mapping[str, str],
) -> GpuFiles:
    """Put together what a job gets.

    Args:
        uuids: of the leased GPUs or MIG instances.
        gpus: the same, as the driver knows them.
        edits: what CDI files say of them; None where there are none.
        libraries: of the driver, paths by names, as the loader would find them; what
            CDI files say comes first.

    Raises:
        Unavailable: the driver's library is nowhere.
    """
    controls = [*_CONTROL_NODES, *(edits.controls if edits else ())]
    own = [(f"/dev/nvidia{gpu.minor}", *gpu.nodes) for gpu in gpus]
    nodes = dict.fromkeys([*controls, *itertools.chain.from_iterable(own)])
    paths: dict[str, str] = {}
    for path in edits.libraries if edits else ():
        paths |= dict.fromkeys(find_aliases(path), path)
    paths = {**libraries, **paths}
    if not any(name.startswith("libcuda.so") for name in paths):
        raise Unavailable("the driver's libcuda.so is not found; see ldconfig -p")
    env = {**(edits.env if edits else {}), "CUDA_VISIBLE_DEVICES": ",".join(uuids)}
    return GpuFiles(
        tuple(node for node in nodes if Path(node).exists()),
        tuple(Bind(path, f"{GPU_FOLDER}/{name}") for name, path in paths.items()),
        env,
    )


def _find_libraries() -> dict[str, str]:
    """Find the driver's libraries where the loader does, or where clouds keep them."""
    found = find_listed(_read_loader_cache())
    if "libcuda.so.1" not in found and _UNLISTED.is_dir():
        found |= {
            path.name: str(path)
            for path in _UNLISTED.iterdir()
            if re.fullmatch(_DRIVER, path.name)
        }
    return found


def find_listed(loader_cache: str) -> dict[str, str]:
    """Pick the driver's libraries from the text of ``ldconfig -p``: paths by names."""
    found = (_LISTED.search(line) for line in reversed(loader_cache.splitlines()))
    return {match.group(1): match.group(2) for match in found if match}


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
