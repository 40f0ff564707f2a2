"""The port that scrubs GPUs, by NVIDIA's CUDA driver.

Nothing of the driver is loaded here: each step is a process of its own with a limit
of time (``vram_program``), so that a driver that hangs holds a process and not the
agent. A GPU is called scrubbed where nobody is left on it, before and after, at least
nine tenths of its memory were overwritten, and every sample read back as written.

What the driver keeps to itself is not reached: its reserve, and the context of the
process that scrubs. What NVML does not show, such as programs of another container
engine's namespace on some systems, shows in the share alone: they hold memory.
"""

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from sublet.adapter.nvidia import GpuUse
from sublet.adapter.vram_program import Said, Scrubbed
from sublet.base import limits
from sublet.base.errors import Unavailable
from sublet.service.erasure_ports import VramReport
from sublet.service.ports import Probe

PROGRAM = "sublet.adapter.vram_program"
TIMEOUT_S = 180  # for one step: a driver that starts cold takes many seconds
GONE_S = 15  # for whoever was killed to leave a GPU
REAP_S = 5  # for a killed process to end; one stuck in the driver never does
_LOOK_S = 0.5
_FAULT_MAX = 160  # characters
_PPM = 1_000_000


class CudaVram:
    """Overwrites the memory of NVIDIA GPUs."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S, gone_s: float = GONE_S) -> None:
        """Take how long scrubbing a GPU, and a killed program's leaving, may take."""
        self._timeout_s = timeout_s
        self._gone_s = gone_s

    def probe(self) -> Probe:
        """Ask both libraries of the driver; take no memory. Blocks for a moment."""
        with ThreadPoolExecutor(1) as pool:  # there may be an event loop around us
            return pool.submit(asyncio.run, self._probe()).result()

    async def _probe(self) -> Probe:
        try:
            uses, devices = await self._look(), (await self._run("devices")).devices
        except Unavailable as fault:
            return Probe(False, f"VRAM cannot be scrubbed: {fault.message}")
        for use in uses:
            if use.uuid not in (devices or ()):
                why = f"CUDA does not show {use.uuid}; switch MIG off"
                return Probe(False, f"VRAM cannot be scrubbed: {why}")
            if use.screens:  # it would never be free, and its slice stay bound
                why = f"a program shows graphics on {use.uuid}, such as a desktop"
                return Probe(False, f"VRAM cannot be scrubbed: {why}")
        if not uses:
            return Probe(False, "VRAM cannot be scrubbed: the driver shows no GPU")
        return Probe(True, "the CUDA driver and NVML answer")

    async def scrub(self, gpu_uuids: Sequence[str]) -> tuple[VramReport, ...]:
        """Overwrite what can be had of the memory of these GPUs, and look at samples.

        A GPU where it fails is reported so; the others are scrubbed all the same.

        Raises:
            Unavailable: the driver does not answer.
        """
        before = await self._wait_gone(gpu_uuids)
        done = await asyncio.gather(
            *(self._scrub_one(before.get(uuid), uuid) for uuid in gpu_uuids)
        )
        after = await self._wait_gone(gpu_uuids)
        return tuple(
            _judge(uuid, before.get(uuid), said, after.get(uuid))
            for uuid, said in zip(gpu_uuids, done, strict=True)
        )

    async def _scrub_one(self, use: GpuUse | None, uuid: str) -> Scrubbed | str:
        """Give what was done, or why nothing was."""
        if use is None:
            return "the driver does not show it any more"
        if use.programs:
            return f"{use.programs} programs were on it; it was left alone"
        try:
            said = (await self._run("scrub", uuid, timeout_s=self._timeout_s)).scrubbed
        except Unavailable as fault:
            return fault.message
        return said or "the program that scrubs said nothing"

    async def _wait_gone(self, uuids: Sequence[str]) -> dict[str, GpuUse]:
        """Look until nobody is on these GPUs, or no longer; give the last look."""
        deadline_s = asyncio.get_running_loop().time() + self._gone_s
        while True:
            uses = {use.uuid: use for use in await self._look()}
            busy = any(uuid in uses and uses[uuid].programs for uuid in uuids)
            if not busy or asyncio.get_running_loop().time() >= deadline_s:
                return uses
            await asyncio.sleep(_LOOK_S)

    async def _look(self) -> tuple[GpuUse, ...]:
        return (await self._run("look")).uses or ()

    async def _run(self, *arguments: str, timeout_s: float = TIMEOUT_S) -> Said:
        """Run the program; give what it says.

        Raises:
            Unavailable: it found a fault, crashed, or took too long and was killed.
        """
        process = await asyncio.create_subprocess_exec(
            # -P: the folder that we happen to be in has no say in what is imported.
            *(sys.executable, "-P", "-m", PROGRAM, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        verb = arguments[0]
        try:
            async with asyncio.timeout(timeout_s):
                raw, _ = await process.communicate()
        except TimeoutError:
            why = f"NVIDIA's driver hangs: {verb!r} took over {timeout_s:g} s"
            raise Unavailable(why, code="cuda_failed") from None
        finally:
            await _end(process)
        try:
            said = msgspec.json.decode(raw, type=Said)
        except msgspec.MsgspecError:
            why = f"{verb!r} ended with {process.returncode} and said nothing"
            raise Unavailable(f"NVIDIA's driver: {why}", code="cuda_failed") from None
        if said.fault:
            raise Unavailable(said.fault, code="cuda_failed")
        return said


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill it if it runs; leave behind what the driver does not let go."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REAP_S):
            await process.wait()


def _judge(
    uuid: str, before: GpuUse | None, said: Scrubbed | str, after: GpuUse | None
) -> VramReport:
    """Say what was done, and whether it may be called scrubbed. Pure."""
    total = before.memory_bytes if before else 0
    left = after.programs if after else 0
    if isinstance(said, str):
        return VramReport(uuid, total, 0, 0, left, False, said[:_FAULT_MAX])
    total = max(total, said.bytes_total)
    share_ppm = said.bytes_overwritten * _PPM // max(1, total)
    note = f"{share_ppm / 10_000:.2f} % of its memory were overwritten, then zeroed"
    wrongs = []
    if said.wrong:
        wrongs.append(said.wrong)
    elif share_ppm < limits.VRAM_COVERED_MIN_PPM:
        wrongs.append(f"{limits.VRAM_COVERED_MIN_PPM / 10_000:g} % are required")
    if after is None:
        wrongs.append("the driver does not show it any more")
    if left:
        wrongs.append(f"{left} programs are on it")
    return VramReport(
        uuid=uuid,
        bytes_total=total,
        bytes_overwritten=said.bytes_overwritten,
        bytes_sampled=said.bytes_sampled,
        processes_left=left,
        is_ok=not wrongs,
        note="; ".join([note, *wrongs])[:_FAULT_MAX],
    )
