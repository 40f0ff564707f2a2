"""A tenant's shell or command beside its job: a second sandbox over the same folder.

The sandbox port gives a process no standard input. So the program inside begins with
a few lines of Python that fetch three descriptors (or one terminal) through a unix
socket that is bound into the sandbox, and then become what the tenant asked for.

It may use a quarter of the lease's memory, so that a look at a job does not kill it.
"""

import asyncio
import contextlib
import fcntl
import itertools
import os
import re
import secrets
import shutil
import socket
import struct
import termios
from collections.abc import Callable, Coroutine, Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import asyncssh

from sublet.adapter.job_python import find_job_python
from sublet.base.errors import SubletError
from sublet.provider.desk import Desk
from sublet.provider.lease_state import Stage
from sublet.provider.preparation import (
    BASE_ENV,
    FILE_BYTES_MIN,
    WORK,
    list_watched,
)
from sublet.service.ports import Bind, SandboxSpec

Process = asyncssh.SSHServerProcess[bytes]
Stop = Callable[[int], Coroutine[Any, Any, None]]  # after so many seconds of grace

SHELLS_MAX = 4  # of one lease at a time
ARGV_MAX = 256
MEMORY_SHARE = 4
MEMORY_BYTES_MIN = 128 << 20
PROCESSES_MAX = 256
CALL_S = 15  # for the program inside to call
_DOOR = "/run/sublet/shell.sock"
_READ_BYTES = 65_536
_END_OF_TRANSMISSION = b"\x04"  # what Ctrl-D types
_TERMINAL = re.compile(r"\A[A-Za-z0-9.+_-]{1,32}\Z")
_SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null && exec bash; exec sh")
_COMMAND = 'command -v bash >/dev/null && exec bash -c "$0"; exec sh -c "$0"'
_VARIABLE = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]{0,63}\Z")
_VARIABLES_MAX = 64
_VALUE_LENGTH_MAX = 4_096
_SIGNAL_GRACE_S = 10  # from the SIGTERM that a tenant sends to SIGKILL
_ENDING = {"TERM": _SIGNAL_GRACE_S, "HUP": _SIGNAL_GRACE_S, "INT": _SIGNAL_GRACE_S}
_ENDING |= {"QUIT": _SIGNAL_GRACE_S, "KILL": 0}
_INTERRUPT = b"\x03"  # what Ctrl-C types
_LAUNCHER = f"""
import fcntl, os, socket, sys, termios
door = socket.socket(socket.AF_UNIX)
door.connect({_DOOR!r})
_, handles, _, _ = socket.recv_fds(door, 1, 3)
door.close()
for number in range(3):
    os.dup2(handles[min(number, len(handles) - 1)], number)
os.closerange(3, 64)
if os.isatty(0):
    if os.getsid(0) != os.getpid() == os.getpgid(0):
        child = os.fork()  # who leads a group can lead no session
        if child:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            os._exit(code if code >= 0 else 128 - code)
    if os.getsid(0) != os.getpid():
        os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def shell_command(command: str) -> tuple[str, ...]:
    """Give the program that reads a command line, as sshd(8) would have it read."""
    return ("/bin/sh", "-c", _COMMAND, command)


async def serve_shell(process: Process, desk: Desk, argv: Sequence[str]) -> None:
    """Run a command, or with no ``argv`` a shell, until it ends or the tenant goes."""
    shells = desk.folder.path / "shells"
    is_full = shells.is_dir() and len(list(shells.iterdir())) >= SHELLS_MAX
    if desk.record.stage not in (Stage.RUNNING, Stage.STOPPING):
        await _refuse(process, "the job does not run; there is nothing to look into")
        return
    if is_full or len(argv) > ARGV_MAX:
        await _refuse(process, f"at most {SHELLS_MAX} shells, {ARGV_MAX} arguments")
        return
    place = shells / secrets.token_hex(4)
    place.mkdir(mode=0o700, parents=True)
    try:
        process.exit(await _run(process, desk, tuple(argv) or _SHELL, place))
    except SubletError as fault:
        await _refuse(process, fault.message)
    finally:
        with contextlib.suppress(SubletError):
            await desk.sandbox.stop(place / "sandbox", grace_s=0)
        shutil.rmtree(place, ignore_errors=True)  # holds only what the warden wrote


async def _refuse(process: Process, text: str) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        process.stderr.write(f"sublet: {text}\n".encode())
        await process.stderr.drain()
        process.exit(1)


async def _run(process: Process, desk: Desk, argv: tuple[str, ...], place: Path) -> int:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack, _listen(place / "door") as door:
        ours, theirs = _open_ends(process, stack)
        spec = _make_spec(process, desk, argv, place)
        await desk.sandbox.start(spec, folder=place / "sandbox")
        async with asyncio.timeout(CALL_S):
            caller, _ = await loop.sock_accept(door)
        with caller:
            socket.send_fds(caller, [b"!"], [end.fileno() for end in theirs])
        for end in theirs:
            end.close()
        return await _carry(process, desk, ours, place)


async def _carry(process: Process, desk: Desk, ours: list[FileIO], place: Path) -> int:
    """Carry bytes until the program has ended; give its exit code."""

    async def stop(grace_s: int) -> None:
        with contextlib.suppress(SubletError):
            await desk.sandbox.stop(place / "sandbox", grace_s=grace_s)

    reading = [asyncio.create_task(_carry_in(process, ours[0], stop))]
    writing = [asyncio.create_task(_carry_out(ours[1], process.stdout))]
    if len(ours) > 2:  # a terminal has no stderr of its own
        writing.append(asyncio.create_task(_carry_out(ours[2], process.stderr)))
    gone = asyncio.create_task(process.wait_closed())
    ended = asyncio.create_task(desk.sandbox.wait_ended(place / "sandbox"))
    try:
        await asyncio.wait((gone, ended), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            return 255  # the tenant has gone; the sandbox is stopped by our caller
        # Nobody writes any more. What was written is carried, however slowly it is
        # taken: the end of a large file must not get lost.
        rest = asyncio.gather(*writing)
        await asyncio.wait((gone, rest), return_when=asyncio.FIRST_COMPLETED)
        return min(ended.result().exit_code, 255)
    finally:
        for task in (*reading, *writing, gone, ended):
            task.cancel()
        await asyncio.gather(*reading, *writing, return_exceptions=True)


def _make_spec(
    process: Process, desk: Desk, argv: tuple[str, ...], place: Path
) -> SandboxSpec:
    lease, terminal = desk.record.lease, process.term_type or ""
    env = _read_env(process) | BASE_ENV
    if _TERMINAL.match(terminal):
        env["TERM"] = terminal
    memory_bytes = max(lease.memory_bytes // MEMORY_SHARE, MEMORY_BYTES_MIN)
    folder, manifest = desk.folder, desk.find_manifest()
    watched: tuple[str, ...] = (str(folder.work),)
    volumes: list[Bind] = []
    if manifest is not None:
        watched = list_watched(manifest, folder)
        # Its system is the host's, in which the image's paths are not.
        volumes = [
            Bind(str(folder.volumes / one.name), f"/volumes/{one.name}", True)
            for one in manifest.volumes
        ]
    return SandboxSpec(
        argv=(find_job_python().inside, "-I", "-S", "-c", _LAUNCHER, *argv),
        env=env,
        directory=WORK,
        binds=(
            Bind(str(desk.folder.work), WORK, True),
            Bind(str(place / "door"), _DOOR),
            *volumes,
        ),
        uid=desk.record.uid,
        memory_bytes=memory_bytes,
        cpus_milli=lease.cpus_milli,
        processes_max=PROCESSES_MAX,
        tmp_bytes=memory_bytes // MEMORY_SHARE,
        file_bytes_max=max(FILE_BYTES_MIN, lease.disk_bytes),
        disk_bytes=max(lease.disk_bytes, FILE_BYTES_MIN),
        watched=watched,
        gpu_uuids=lease.gpu_uuids,
        stdout=str(place / "stdout"),
        stderr=str(place / "stderr"),
        beside=str(desk.folder.job),
        log_bytes_max=_READ_BYTES,
        timeout_s=lease.duration_s,
        orphan_s=60,
    )


def _read_env(process: Process) -> dict[str, str]:
    """Take the variables that the tenant's tools send, but for its locale.

    What they set is seen by the tenant's own commands only; the names of its locale
    (``SendEnv LANG LC_*``) mean nothing on this machine.
    """
    asked = itertools.islice(process.env.items(), _VARIABLES_MAX)
    return {
        name: value
        for name, value in asked
        if _VARIABLE.match(name)
        and not name.startswith("LC_")
        and len(value) <= _VALUE_LENGTH_MAX
        and "\0" not in value
    }


# ---- ends -------------------------------------------------------------------------


@contextlib.contextmanager
def _listen(path: Path) -> Iterator[socket.socket]:
    """Listen where the program inside will call; the path may be any length."""
    with socket.socket(socket.AF_UNIX) as door:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            door.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
        path.chmod(0o666)  # the folder around it is private; the job's uid must call
        door.listen(1)
        door.setblocking(False)
        yield door


def _open_ends(
    process: Process, stack: contextlib.ExitStack
) -> tuple[list[FileIO], list[FileIO]]:
    """Open a terminal or three pipes; give our ends and the program's."""
    if process.term_type:
        master, slave = os.openpty()
        ours = [FileIO(master, "wb"), FileIO(os.dup(master), "rb")]
        theirs = [FileIO(slave, "rb")]
        width, height, *_ = process.term_size
        _resize(master, width=width, height=height)
    else:
        (in_r, in_w), (out_r, out_w), (err_r, err_w) = os.pipe(), os.pipe(), os.pipe()
        ours = [FileIO(in_w, "wb"), FileIO(out_r, "rb"), FileIO(err_r, "rb")]
        theirs = [FileIO(in_r, "rb"), FileIO(out_w, "wb"), FileIO(err_w, "wb")]
    for end in (*ours, *theirs):
        stack.callback(end.close)  # twice is harmless
    return ours, theirs


def _resize(fd: int, *, width: int, height: int) -> None:
    size = struct.pack("HHHH", min(height, 1_000), min(width, 1_000), 0, 0)
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, size)


class _Flow(asyncio.BaseProtocol):
    """A program that reads nothing stops its tenant, and fills no memory."""

    def __init__(self) -> None:
        self.may_write = asyncio.Event()
        self.may_write.set()

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.may_write.set()


async def _carry_in(process: Process, end: FileIO, stop: Stop) -> None:
    """Carry what the tenant types; follow the size of its window and its signals."""
    stopping: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    transport, flow = await loop.connect_write_pipe(_Flow, end)
    try:
        while True:
            try:
                content = await process.stdin.read(_READ_BYTES)
            except asyncssh.TerminalSizeChanged as change:
                _resize(end.fileno(), width=change.width, height=change.height)
                continue
            except asyncssh.BreakReceived:
                continue
            except asyncssh.SignalReceived as received:
                if process.term_type and received.signal == "INT":
                    transport.write(_INTERRUPT)
                elif received.signal in _ENDING:
                    stopping.add(asyncio.create_task(stop(_ENDING[received.signal])))
                continue
            except (asyncssh.Error, OSError):
                return
            if not content:
                if process.term_type:
                    transport.write(_END_OF_TRANSMISSION)
                return
            transport.write(content)
            await flow.may_write.wait()
    finally:
        transport.close()
        for task in stopping:
            task.cancel()


async def _carry_out(end: FileIO, writer: asyncssh.SSHWriter[bytes]) -> None:
    """Carry what the program says."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, end)
    try:
        while content := await reader.read(_READ_BYTES):
            writer.write(content)
            await writer.drain()
    except (asyncssh.Error, OSError):
        pass  # a terminal ends with EIO; a tenant goes without a word
    finally:
        transport.close()
