"""The scratch port on gocryptfs: what reaches the disk is ciphertext, names included.

The key opens one short-lived file, in memory, that holds the master key which gocryptfs
drew; once the daemon has read it, it is gone. From then on the one place where the
data can be read with is the memory of the daemon, and its end is the end of the data.
The passphrase goes through a pipe: no argument, environment, file or log ever has it.

The daemon is in a session of its own, so that it outlives the agent, as jobs do; where
nobody comes back, a shell beside it ends it. While this process lives, two threads for each
mount make sure that a daemon which answers no more holds nobody for long.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import msgspec
from msgspec import Struct

from sublet.adapter.mount_point import (
    abort_fuse,
    find_mount,
    find_swap,
    mount_fuse,
    unmount,
)
from sublet.adapter.remains import list_remains, remove_folder
from sublet.adapter.scratch_probe import probe_scratch
from sublet.base.errors import Refused, Unavailable
from sublet.service.erasure_ports import ScratchEnd
from sublet.service.ports import Probe

START_S = 30.0
CLOSE_S = 5.0  # for a mount to come loose by itself, then for its daemon to end
KILL_S = 10.0
HANG_S = 10  # a daemon that answers nothing for so many looks, a second each, is killed
LOOK_S = 30.0  # between two looks whether anybody watches a daemon
_LOOKS_MAX = 30  # without a sign of life; its data is then as good as lost
_TOUCH_S = 15.0  # between two signs
_POLL_S = 0.005
_HEX = b"0123456789abcdef"
_RECORD = "scratch.json"
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a private folder is made in it


class _Daemon(Struct, frozen=True):
    """Who holds the key: enough to find it again, nothing to find the key by."""

    pid: int
    born: int  # clock ticks since boot: another process of that pid has another one


class GocryptfsScratch:
    """Scratch folders by gocryptfs; implements ``service.ports.Scratch``."""

    name = "gocryptfs"
    cipher = "AES-256-GCM"

    def __init__(self, *, program: str = "", look_s: float = LOOK_S) -> None:
        """Take the path of ``gocryptfs`` (by default the one on PATH).

        Args:
            program: the path.
            look_s: between two looks whether anybody comes back for a daemon.
        """
        self._program = program
        self._look_s = look_s
        self._children: dict[Path, subprocess.Popen[bytes]] = {}
        self._watches: dict[Path, _Watch] = {}

    def probe(self) -> Probe:
        """Try it for real: open one, write, close it, look what is left."""
        if self._find_program() is None:
            return Probe(False, "gocryptfs is not installed; apt install gocryptfs")
        if not Path("/dev/fuse").exists():
            return Probe(
                False, "there is no /dev/fuse; apt install fuse3, modprobe fuse"
            )
        if swap := find_swap():
            return Probe(
                False,
                f"memory may be swapped out to {swap[0]}, and a key with it; "
                "turn swap off (swapoff -a)",
            )
        return probe_scratch(self)

    def _find_program(self) -> str | None:
        return self._program or shutil.which("gocryptfs")

    async def open(
        self, folder: PurePath, *, key: bytearray, bytes_max: int, uid: int
    ) -> None:
        """Make it, empty. The key (32 bytes) is not kept; wiping it is the caller's.

        As root, whatever is made in it belongs to ``uid``, whoever makes it.

        Raises:
            Refused: there is one in this folder already.
            Unavailable: it cannot be made; nothing is left behind.
        """
        place = Path(folder)
        if (place / "cipher").exists():
            raise Refused(f"{place} has a scratch already", code="scratch_exists")
        try:
            for name in ("cipher", "data"):
                (place / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=_find_memory()) as memory:
                await self._mount(place, conf=f"{memory}/conf", key=key, uid=uid)
        except BaseException as fault:
            await self.close(place)
            shutil.rmtree(place / "cipher", ignore_errors=True)
            if isinstance(fault, OSError):
                raise Unavailable(f"the scratch cannot be made: {fault}") from fault
            raise
        self._watch(place)

    async def _mount(self, place: Path, *, conf: str, key: bytearray, uid: int) -> None:
        program = self._find_program()
        if program is None:
            raise Unavailable("gocryptfs is not installed; apt install gocryptfs")
        cipher, data = str(place / "cipher"), str(place / "data")
        common = [program, "-q", "-config", conf]
        # The key is random: there is nothing for a slow scrypt to protect.
        argv = [*common, "-init", "-scryptn", "10", cipher]
        code, said = await _finish(await _spawn_aside(argv, key=key))
        if code != 0:
            raise Unavailable(f"gocryptfs cannot begin: {said}")
        argv = [*common, "-fg", "-nosyslog"]
        # It signals when it is ready. Who touches the mount before can lock it up for
        # good: it touches it itself, to try out what the kernel asks of it.
        is_root = os.geteuid() == 0
        bell = await asyncio.to_thread(_hang_bell, uid if is_root else None)
        argv += ["-notifypid", str(bell.pid)]
        try:
            if is_root:
                started = await _spawn_as(uid, [*argv, cipher], place=place, key=key)
            else:
                argv += ["-fsname", "scratch", cipher, data]
                started = await _spawn_aside(argv, key=key)
        except BaseException:
            bell.kill()
            bell.wait()
            raise
        self._children[place], log = started
        child = started[0]
        try:
            record = _Daemon(pid=child.pid, born=_find_born(child.pid))
            (place / _RECORD).write_bytes(msgspec.json.encode(record))
            await asyncio.to_thread(_post_ender, record, place, self._look_s)
            while (rung := bell.poll()) is None and child.poll() is None:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
            if rung != -signal.SIGUSR1:
                raise Unavailable(f"gocryptfs cannot mount: {_read_log(log)}")
        finally:
            os.close(log)
            bell.kill()
            bell.wait()

    # ---- finding it again -----------------------------------------------------------

    def is_open(self, folder: PurePath) -> bool:
        """Say whether ``folder/data`` shows what was written. Never waits for it."""
        place = Path(folder)
        if find_mount(place / "data") is None or _find_daemon(place) is None:
            return False
        self._watch(place)
        return True

    def _watch(self, place: Path) -> None:
        if place not in self._watches:
            self._watches[place] = _Watch(place)

    # ---- the end --------------------------------------------------------------------

    async def close(self, folder: PurePath) -> ScratchEnd:
        """Unmount it and destroy the key; again is harmless.

        Whoever still uses it gets errors. Never waits long for what hangs.
        """
        place = Path(folder)
        daemon = _find_daemon(place)
        watch = self._watches.pop(place, None)
        is_loose = await _come_loose(place) and await _wait_gone(daemon, CLOSE_S)
        if not is_loose:
            force(place)
            await _wait_gone(daemon, KILL_S)
            with contextlib.suppress(OSError):
                unmount(place / "data", is_lazy=True)
        if watch is not None:
            watch.stop()
        child = self._children.pop(place, None)
        if child is not None:
            child.poll()
        is_gone = daemon is None or not _is_alive(daemon)
        is_hidden = find_mount(place / "data") is None
        remains, files, size = await asyncio.to_thread(list_remains, place / "cipher")
        return ScratchEnd(
            is_key_gone=is_gone and is_hidden,
            was_forced=not is_loose or (watch is not None and watch.was_forced),
            note=_describe(is_loose=is_loose, is_gone=is_gone and is_hidden),
            remains=remains,
            files=files,
            bytes=size,
        )

    async def remove(self, folder: PurePath) -> None:
        """Take away what lies on the disk; again is harmless.

        Raises:
            Unavailable: something of it cannot be removed.
        """
        place = Path(folder)
        for name in ("cipher", "data"):
            await remove_folder(place / name)
        (place / _RECORD).unlink(missing_ok=True)


def force(place: Path) -> None:
    """Kill the daemon and answer all who wait for it: nobody can read any more."""
    mount, daemon = find_mount(place / "data"), _find_daemon(place)
    if daemon is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon.pid, signal.SIGKILL)
    if mount is not None:
        abort_fuse(mount)


def _describe(*, is_loose: bool, is_gone: bool) -> str:
    if not is_gone:
        return "the daemon that holds the key does not end; the kernel holds it"
    if is_loose:
        return "unmounted; the daemon that held the key has ended"
    return "it hung: its daemon was killed, its mount detached"


class _Watch:
    """Two threads for one mount: one asks it something, one looks whether it answers.

    It must not be the event loop that looks: that one may be held by the very mount.
    """

    def __init__(self, place: Path) -> None:
        """Begin to watch."""
        self.was_forced = False
        self._place = place
        self._asked = 0  # questions so far
        self._answered = 0
        self._stopped = threading.Event()
        for work in (self._ask, self._look):
            threading.Thread(target=work, name="scratch", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def _ask(self) -> None:
        path = self._place / "data"
        while not self._stopped.wait(1.0):
            self._asked += 1
            with contextlib.suppress(OSError):
                (path / f".{self._asked}").stat()  # never there; the daemon must look
            self._answered += 1

    def _look(self) -> None:
        # Looks are counted, not seconds: after a pause of this whole process nobody
        # may be blamed for what only slept along.
        asked, looks, due = 0, 0, 0.0
        while not self._stopped.wait(1.0):
            if time.monotonic() >= due:  # a sign of life, for what would end the daemon
                due = time.monotonic() + _TOUCH_S
                with contextlib.suppress(OSError):
                    os.utime(self._place / _RECORD)
            is_late = self._asked == asked and self._answered < asked
            asked, looks = self._asked, looks + 1 if is_late else 0
            if looks >= HANG_S:
                self.was_forced = True
                force(self._place)
                return


# ---- processes ----------------------------------------------------------------------


def _find_memory() -> str | None:
    """Give a folder that is in memory; None (the usual one) where there is none."""
    shared = find_mount(_SHARED_MEMORY)
    is_there = shared is not None and shared.kind == "tmpfs"
    return str(_SHARED_MEMORY) if is_there else None


def _hang_bell(uid: int | None) -> subprocess.Popen[bytes]:
    """Start a process that does nothing, until gocryptfs ends it by a signal."""
    argv = ["/bin/sleep", str(START_S)]
    return subprocess.Popen(argv, env={}, cwd="/", user=uid, group=uid)


# Looks are counted, not seconds: while the whole machine sleeps nobody is late.
_ENDER = """
{ looks=0 last=
while [ "$(cut -d ' ' -f 22 "/proc/$1/stat" 2>/dev/null)" = "$2" ]; do
    sign=$(stat -c %y "$3" 2>/dev/null)
    if [ "$sign" = "$last" ]; then looks=$((looks + 1)); else looks=0; fi
    [ "$looks" -lt "$4" ] || kill -s KILL "$1"
    last=$sign
    sleep "$5"
done; } &
"""


def _post_ender(daemon: _Daemon, place: Path, look_s: float) -> None:
    """Start what ends a daemon, and with it the key, when nobody comes back for it."""
    about = (daemon.pid, daemon.born, place / _RECORD, _LOOKS_MAX, look_s)
    subprocess.run(
        ["/bin/sh", "-c", _ENDER, "sublet-scratch", *map(str, about)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        cwd="/",
        start_new_session=True,
        check=True,
    )


async def _spawn_as(
    uid: int, argv: list[str], *, place: Path, key: bytearray
) -> tuple[subprocess.Popen[bytes], int]:
    """Start it as the job's user, on a mount that is made here, by root.

    With ``-allow_other`` it would make each file as whoever asks for it, and for that
    moment *all* its threads would be that one: what others ask fails at random (2.3,
    as Debian 12 has it). So it is that one for good, with the rights of root over
    files alone.
    """
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        mount_fuse(place / "data", device=device, kind="fuse.gocryptfs")
        rights = "-all,+chown,+dac_override,+dac_read_search,+fowner,+fsetid"
        become = ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={uid}"]
        become += ["--clear-groups", f"--bounding-set={rights}"]
        become += [f"--inh-caps={rights}", f"--ambient-caps={rights}"]
        argv = [*become, *argv, f"/dev/fd/{device}"]
        return await _spawn_aside(argv, key=key, device=device)
    finally:
        os.close(device)


def _spawn(
    argv: list[str], *, key: bytearray, device: int | None
) -> tuple[subprocess.Popen[bytes], int]:
    """Start gocryptfs and hand it the key; give it with a file of what it says."""
    log = os.memfd_create("scratch", os.MFD_CLOEXEC)
    source, sink = os.pipe2(os.O_CLOEXEC)
    line = bytearray(2 * len(key) + 1)
    try:
        child = subprocess.Popen(
            ["/usr/bin/prlimit", "--core=0:0", *argv],
            stdin=source,
            stdout=log,
            stderr=log,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
            pass_fds=() if device is None else (device,),
            cwd="/",
            start_new_session=True,  # Ctrl-C at the agent is no business of it
        )
        for place, byte in enumerate(key):  # no copy that nobody could wipe
            line[2 * place], line[2 * place + 1] = _HEX[byte >> 4], _HEX[byte & 15]
        line[-1] = ord("\n")
        os.write(sink, line)  # a pipe takes so little at once
    except BaseException:
        os.close(log)
        raise
    finally:
        line[:] = bytes(len(line))
        os.close(source)
        os.close(sink)
    return child, log


async def _spawn_aside(
    argv: list[str], *, key: bytearray, device: int | None = None
) -> tuple[subprocess.Popen[bytes], int]:
    """Start it in a thread: a child first closes what this process has open.

    Where that lies on a scratch that hangs, it takes until that one is killed.
    """
    work = asyncio.create_task(asyncio.to_thread(_spawn, argv, key=key, device=device))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        child, log = await work
        child.kill()
        child.wait()
        os.close(log)
        raise


async def _finish(started: tuple[subprocess.Popen[bytes], int]) -> tuple[int, str]:
    child, log = started
    try:
        async with asyncio.timeout(START_S):
            while child.poll() is None:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        child.kill()
    finally:
        said = _read_log(log)
        os.close(log)
    return child.wait(), said


def _read_log(log: int) -> str:
    text = os.pread(log, 2_000, 0).decode(errors="replace").strip()
    return " ".join(text.split())[:300] or "it says nothing"


def _find_born(pid: int) -> int:
    """Say when a process began, in clock ticks since boot; 0 where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    state, *words = stat.rpartition(")")[2].split()
    return 0 if state in ("Z", "X") else int(words[18])  # a zombie's memory is gone


def _find_daemon(place: Path) -> _Daemon | None:
    try:
        daemon = msgspec.json.decode((place / _RECORD).read_bytes(), type=_Daemon)
    except (OSError, msgspec.MsgspecError):
        return None
    return daemon if _is_alive(daemon) else None


def _is_alive(daemon: _Daemon) -> bool:
    return daemon.born != 0 and _find_born(daemon.pid) == daemon.born


async def _wait_gone(daemon: _Daemon | None, timeout_s: float) -> bool:
    until = time.monotonic() + timeout_s
    while daemon is not None and _is_alive(daemon):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def _come_loose(place: Path) -> bool:
    """Unmount it the orderly way; False where it is in use or hangs."""
    if find_mount(place / "data") is None:
        return True
    # A thread of its own: it may never come back, and others need theirs.
    pool = ThreadPoolExecutor(1)
    try:
        work = asyncio.wrap_future(pool.submit(unmount, place / "data"))
        async with asyncio.timeout(CLOSE_S):
            await asyncio.shield(work)
    except (OSError, TimeoutError):
        return False
    finally:
        pool.shutdown(wait=False)
    return True
