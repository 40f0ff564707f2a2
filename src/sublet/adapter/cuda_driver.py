"""The dozen calls of NVIDIA's CUDA driver that scrubbing needs, through ``ctypes``.

Only the program that scrubs opens this (``vram_program``): a driver can hang, and who
has opened a GPU holds some of its memory. No toolkit is needed, the driver alone.
"""

import contextlib
import ctypes
from collections.abc import Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any
from uuid import UUID

from sublet.base.errors import Unavailable

LIBRARY = "libcuda.so.1"
OUT_OF_MEMORY = 2
_Uuid = ctypes.c_ubyte * 16
_CALLS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetUuid_v2": (POINTER(_Uuid), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxSynchronize": (),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemsetD32_v2": (c_uint64, c_uint, c_size_t),
    "cuMemcpyDtoH_v2": (c_void_p, c_uint64, c_size_t),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
}
# Older drivers have these under the first name, with the same arguments. Those of
# memory took 32 bits then: where their second version is missing, nothing is called.
_SAME_AT_FIRST = ("cuDeviceGetUuid_v2", "cuDevicePrimaryCtxRelease_v2")


class CudaDriver:
    """The driver, as far as it is needed here."""

    def __init__(self) -> None:
        """Load and start it.

        Raises:
            Unavailable: there is none, it is too old, or it does not start.
        """
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise Unavailable(
                f"{LIBRARY} cannot be loaded ({error}); install NVIDIA's driver"
            ) from error
        self._calls = {name: _find_call(library, name) for name in _CALLS}
        self.call("cuInit", 0)

    def call(self, name: str, *arguments: object) -> None:
        """Make one call.

        Raises:
            Unavailable: the driver refuses; says by which of its names.
        """
        self._check(name, self._calls[name](*arguments))

    def _check(self, name: str, code: int) -> None:
        if code == 0:
            return
        word = c_char_p()
        self._calls["cuGetErrorName"](code, byref(word))
        said = word.value.decode("ascii", "replace") if word.value else "unknown error"
        raise Unavailable(
            f"CUDA's {name} failed: {said} ({code})",
            code="cuda_failed",
            detail={"call": name, "code": code},
        )

    def list_uuids(self) -> tuple[str, ...]:
        """Name the GPUs that programs can open, in the driver's order."""
        count, device, raw = c_int(), c_int(), _Uuid()
        self.call("cuDeviceGetCount", byref(count))
        found = []
        for index in range(count.value):
            self.call("cuDeviceGet", byref(device), index)
            self.call("cuDeviceGetUuid_v2", byref(raw), device)
            found.append(f"GPU-{UUID(bytes=bytes(raw))}")
        return tuple(found)

    @contextlib.contextmanager
    def open(self, uuid: str) -> Iterator["CudaGpu"]:
        """Open one GPU; what was allocated there is given back at the end.

        Raises:
            Unavailable: it is not there, or the driver refuses.
        """
        uuids = self.list_uuids()
        if uuid not in uuids:
            raise Unavailable(
                f"CUDA does not show {uuid}; it shows: {', '.join(uuids) or 'no GPU'}. "
                "Switch MIG off to rent it out as a whole",
                code="cuda_failed",
            )
        device, context = c_int(), c_void_p()
        self.call("cuDeviceGet", byref(device), uuids.index(uuid))
        self.call("cuDevicePrimaryCtxRetain", byref(context), device)
        try:
            self.call("cuCtxSetCurrent", context)
            yield CudaGpu(self)
        finally:
            with contextlib.suppress(Unavailable):  # the process ends in a moment
                self.call("cuDevicePrimaryCtxRelease_v2", device)


class CudaGpu:
    """The memory of one open GPU."""

    def __init__(self, driver: CudaDriver) -> None:
        """Take the driver, whose current context is that of the GPU."""
        self._driver = driver

    def measure(self) -> tuple[int, int]:
        """Give the bytes that are free, and all that there are."""
        free, total = c_size_t(), c_size_t()
        self._driver.call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def allocate(self, size: int) -> int | None:
        """Give the address of so many bytes, or None where they cannot be had."""
        address = c_uint64()
        try:
            self._driver.call("cuMemAlloc_v2", byref(address), size)
        except Unavailable as fault:
            if fault.detail.get("code") == OUT_OF_MEMORY:
                return None
            raise
        return address.value

    def free(self, address: int) -> None:
        """Give back what was allocated."""
        self._driver.call("cuMemFree_v2", address)

    def fill(self, address: int, *, word: int, size: int) -> None:
        """Begin to write a word of four bytes over so many bytes, a multiple of 4."""
        self._driver.call("cuMemsetD32_v2", address, word, size // 4)

    def wait_done(self) -> None:
        """Wait until all that was begun is done."""
        self._driver.call("cuCtxSynchronize")

    def read(self, address: int, size: int) -> bytes:
        """Copy bytes from the GPU."""
        buffer = ctypes.create_string_buffer(size)
        self._driver.call("cuMemcpyDtoH_v2", buffer, address, size)
        return buffer.raw


def _find_call(library: ctypes.CDLL, name: str) -> Any:
    names = (name, name.removesuffix("_v2")) if name in _SAME_AT_FIRST else (name,)
    for each in names:
        with contextlib.suppress(AttributeError):
            call = getattr(library, each)
            call.argtypes, call.restype = _CALLS[name], c_int
            return call
    raise Unavailable(f"NVIDIA's driver is too old: it has no {name}; renew it")
