"""A sandbox that isolates nothing: a plain subprocess, for tests without bubblewrap.

Never for strangers' work: the job sees the whole host, with the rights of the test. It
keeps the port's promises about starting, stopping, output, state and reasons
(``tests/ports/test_sandbox.py`` holds it to them), but not about limits of memory,
CPU and processes. Paths of the inside are rewritten to those outside, in the
arguments, the environment and the working directory.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path, PurePath

import msgspec

from sublet.base.errors import Refused, Unavailable
from sublet.service.ports import Probe, SandboxSpec, SandboxState

_TICK_S = 0.05
_BLOCK_BYTES = 65_536


class FakeSandbox:
    """Plain subprocesses with the manners of a sandbox."""

    name = "fake"
    has_gpu = True

    def __init__(self) -> None:
        """Know nothing yet; what is found again is found in the folders."""
        self._tasks: dict[Path, asyncio.Task[None]] = {}

    def probe(self, *, gpu_uuids: Sequence[str] = ()) -> Probe:
        """Say that it starts things, and that it protects nobody."""
        return Probe(is_ok=True, reason="starts processes, isolates nothing")

    async def start(self, spec: SandboxSpec, *, folder: PurePath) -> None:
        """Start the process; a task of this event loop is its warden."""
        place = Path(folder)
        if (place / "state.json").exists():
            raise Refused(f"{place} has been used", code="sandbox_exists")
        if not spec.argv:
            raise Refused("a job needs a program", code="bad_command", field="argv")
        place.mkdir(parents=True, exist_ok=True)
        argv = [_outside(spec, word) for word in spec.argv]
        env = {name: _outside(spec, value) for name, value in spec.env.items()}
        begun = time.monotonic()
        try:
            process = await _spawn(
                *argv,
                env={"PATH": "/usr/local/bin:/usr/bin:/bin"} | env,
                cwd=_outside(spec, spec.directory),
            )
        except (OSError, ValueError) as error:
            raise Unavailable(f"cannot start {argv[0]}: {error}") from error
        state = SandboxState(
            phase="running",
            pid=process.pid,
            started_at_s=int(time.time()),
            ran_ms=0,
            cpu_ms=0,
            memory_bytes_max=0,
            exit_code=0,
            reason="",
        )
        (place / "alive").touch()
        _write_state(place, state)
        self._tasks[place] = asyncio.create_task(
            _watch(spec, place, process, state, begun=begun)
        )

    def read_state(self, folder: PurePath) -> SandboxState:
        """Read the state file, and touch ``alive``."""
        place = Path(folder)
        try:
            raw = (place / "state.json").read_bytes()
        except OSError as error:
            raise Refused(f"nothing in {place}", code="no_such_sandbox") from error
        (place / "alive").touch()
        return msgspec.json.decode(raw, type=SandboxState)

    async def wait_ended(self, folder: PurePath) -> SandboxState:
        """Look again and again."""
        while (state := self.read_state(folder)).phase != "ended":  # noqa: ASYNC110
            await asyncio.sleep(_TICK_S / 5)
        return state

    async def stop(self, folder: PurePath, *, grace_s: int) -> SandboxState:
        """Leave the request for whoever watches the process."""
        if self.read_state(folder).phase != "ended":
            (Path(folder) / "stop").write_text(str(grace_s))
        return await self.wait_ended(folder)

    async def connect(self, folder: PurePath, *, port: int) -> socket.socket:
        """Connect to the host's port: here a job has no network of its own."""
        if self.read_state(folder).phase == "ended":
            raise Refused("nothing runs in this sandbox", code="not_running")
        made = socket.socket()
        made.setblocking(False)
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(made, ("127.0.0.1", port))
        except OSError as error:
            made.close()
            raise Refused(f"nothing listens on {port}", code="port_closed") from error
        return made


async def _spawn(
    *argv: str, env: dict[str, str], cwd: str
) -> asyncio.subprocess.Process:
    """Start a process; one whose start is cancelled dies with all of its kin.

    Left alone, asyncio would kill the first process only and wait for the others to
    let go of its pipes.
    """
    spawn = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *argv,
            env=env,
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(spawn)
    except asyncio.CancelledError:
        process = await spawn
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise


def _outside(spec: SandboxSpec, text: str) -> str:
    for bind in spec.binds:
        if text == bind.target or text.startswith(bind.target + "/"):
            found = bind.source + text[len(bind.target) :]
            # A host may have a /work of its own, with the interpreter in it.
            is_of_host = not os.path.exists(found) and os.path.exists(text)  # noqa: PTH110
            return text if is_of_host else found
    return text


def _write_state(place: Path, state: SandboxState) -> None:
    draft = place / "state.json.part"
    draft.write_bytes(msgspec.json.encode(state))
    draft.rename(place / "state.json")


async def _watch(
    spec: SandboxSpec,
    place: Path,
    process: asyncio.subprocess.Process,
    state: SandboxState,
    *,
    begun: float,
) -> None:
    streams = [
        asyncio.create_task(_keep(reader, Path(path), spec.log_bytes_max))
        for reader, path in (
            (process.stdout, spec.stdout),
            (process.stderr, spec.stderr),
        )
    ]
    reason, kill_at = "", 0.0
    while process.returncode is None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _TICK_S)
        wish, grace_s = _find_wish(spec, place, ran_s=time.monotonic() - begun)
        if wish and process.returncode is None:
            at = time.monotonic() + grace_s
            if not reason:
                reason, kill_at = wish, at
                _signal(process.pid, signal.SIGTERM)
            kill_at = min(kill_at, at)
        if kill_at and time.monotonic() >= kill_at:
            _signal(process.pid, signal.SIGKILL)
        ran_ms = int((time.monotonic() - begun) * 1_000)
        state = msgspec.structs.replace(state, ran_ms=ran_ms)
        _write_state(place, state)
    _signal(process.pid, signal.SIGKILL)  # its kin
    await asyncio.gather(*streams)
    code = process.returncode
    ended = msgspec.structs.replace(
        state,
        phase="ended",
        exit_code=code if code >= 0 else 128 - code,
        reason=reason or "exited",
    )
    _write_state(place, ended)


def _find_wish(spec: SandboxSpec, place: Path, *, ran_s: float) -> tuple[str, float]:
    with contextlib.suppress(OSError, ValueError):
        return "stopped", float((place / "stop").read_text())
    if spec.timeout_s and ran_s >= spec.timeout_s:
        return "timeout", 5.0
    with contextlib.suppress(OSError):
        if time.time() - (place / "alive").stat().st_mtime > spec.orphan_s:
            return "stopped", 5.0
    if sum(_measure(Path(path)) for path in spec.watched) > spec.disk_bytes:
        return "disk_full", 0.0
    return "", 0.0


def _measure(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


async def _keep(
    reader: asyncio.StreamReader | None, path: Path, bytes_max: int
) -> None:
    assert reader is not None
    with path.open("ab", buffering=0) as file:
        left = bytes_max - os.fstat(file.fileno()).st_size
        while content := await reader.read(_BLOCK_BYTES):
            if left < 0:
                continue
            kept, left = content[:left], left - len(content)
            if left < 0:
                kept += b"\n[sublet: cut here, after %d bytes]\n" % bytes_max
            file.write(kept)
