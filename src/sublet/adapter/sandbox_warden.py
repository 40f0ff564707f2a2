"""What the sandboxes of all kinds share: folders, control groups, wardens, waiting.

Each sandbox has a warden (``warden.py``), a process of its own that outlives this
one; here sandboxes are started, found again by their folder, awaited and stopped.
Whether all this works on a machine is tried out in ``sandbox_probe``. How a program
is launched is the matter of each kind: ``sandbox_bubblewrap``, ``sandbox_oci``.

Who does what: the caller fills the folders and touches ``FOLDER/alive`` at least every
``orphan_s`` (reading the state and waiting for the end do it too); ``start`` gives
every writable folder to the job's uid, with all that is in it, unless its top is the
job's already. The log files must lie where the job cannot write.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import marshal
import os
import resource
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import cache
from pathlib import Path, PurePath

import msgspec

from sublet.adapter import cgroup
from sublet.adapter.job_network import connect_inside, open_network
from sublet.adapter.job_python import find_job_python
from sublet.adapter.nvidia import GpuFiles, find_gpu_files
from sublet.adapter.sandbox_probe import probe_sandbox
from sublet.base.errors import Broken, Refused, SubletError, Unavailable
from sublet.service.ports import Probe, SandboxSpec, SandboxState

HERE = Path(__file__).parent
_ROOT_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_OPEN_FILES_MAX = 65_536  # per process of a job; less where the agent has less
START_TIMEOUT_S = 30
_KILL_TIMEOUT_S = 30  # a warden that takes longer than this after the grace is broken
_LOOK_S = 0.5  # between two touches of ``alive`` by someone who waits
_POLL_S = 0.05  # between two looks where the kernel cannot tell us
_WARDEN = (
    "warden_meter",
    "warden_child",
    "warden_keeper",
    "warden",
)  # in the order of imports
# Takes the warden's modules from stdin, as if they had been imported; the last one is
# the program.
_BOOT = """import marshal, sys
for name, code in marshal.load(sys.stdin.buffer):
    module = sys.modules.setdefault(name, type(sys)(name))
    exec(code, module.__dict__)
"""
_OWN_FILES = ("lock", "alive", "cgroup.json", "warden.log")


class WardenSandbox:
    """Sandboxes with a warden each; kinds of it implement ``service.ports.Sandbox``."""

    name = ""
    has_gpu = True
    _program_name = ""  # what is looked for on PATH
    _package = ""  # of the distribution, for the cure
    _own_processes = 0  # of the sandbox itself, on top of the job's

    def __init__(
        self,
        *,
        program: str = "",
        start_timeout_s: float = START_TIMEOUT_S,
        find_gpu_files: Callable[[Sequence[str]], GpuFiles] = find_gpu_files,
    ) -> None:
        """Take the path of the program; by default the one on PATH, looked for at use.

        Args:
            program: that launches; "" for the one on PATH.
            start_timeout_s: for it to start a job; then it is killed.
            find_gpu_files: says what a job needs to use GPUs, by their UUIDs.
        """
        self._program = program
        self._find_gpu_files = find_gpu_files
        self._start_timeout_s = start_timeout_s
        self._home: cgroup.Home | None = None
        self._wardens: dict[Path, subprocess.Popen[bytes]] = {}

    def probe(self, *, gpu_uuids: Sequence[str] = ()) -> Probe:
        """Try it for real: start a process, reach for what is forbidden."""
        try:
            self._find_gpu_files(gpu_uuids)
        except SubletError as error:
            return Probe(False, f"no job would reach the GPUs: {error.message}")
        return probe_sandbox(self, python=find_job_python().inside)

    def find_program(self) -> str:
        """Give the path of the program that launches jobs.

        Raises:
            Unavailable: it is not installed.
        """
        program = self._program or shutil.which(self._program_name)
        if program is None or not Path(program).is_file():
            raise Unavailable(
                f"{self._package} is not installed; apt install {self._package}"
            )
        return program

    def _write_launch(
        self, spec: SandboxSpec, *, uid: int, shares_network: bool
    ) -> dict[str, object]:
        """Say how this kind launches a job, for ``warden_child``.

        Args:
            spec: what the job is given.
            uid: the host's that it runs under; -1 for this process's own.
            shares_network: it is put into the network of another sandbox.
        """
        raise NotImplementedError

    async def start(self, spec: SandboxSpec, *, folder: PurePath) -> None:
        """Start the process under a warden of its own; return once it is spawned.

        Raises:
            Refused: the spec cannot be carried out, or the folder was used before.
            Unavailable: the sandbox could not be set up; nothing is left behind.
        """
        place = Path(folder)
        _prepare_folder(place)
        try:
            # Its interpreter starts up while the rest is being prepared.
            with _network_of(spec.beside) as network:
                async with self._spawn(place, network) as (orders, answers):
                    await self._instruct(spec, place, orders, network)
                    answer = await _read_answer(answers, self._start_timeout_s)
            if answer != "running":
                reason = answer.removeprefix("failed: ") or "its warden died"
                raise Unavailable(f"the sandbox did not start: {reason}")
        except BaseException:
            self._clean_up(place)
            raise

    @contextlib.asynccontextmanager
    async def _spawn(self, place: Path, network: int) -> AsyncIterator[tuple[int, int]]:
        """Start a warden; give the ends for its orders and its one answer."""
        stdin, orders = os.pipe2(os.O_CLOEXEC)
        answers, stdout = os.pipe2(os.O_CLOEXEC)
        python = find_job_python().outside
        argv = [python, "-I", "-S", "-c", _BOOT, os.path.realpath(place)]  # noqa: ASYNC240
        try:
            with (place / "warden.log").open("ab") as log:
                # A child closes what we have open: that hangs with a scratch that does.
                self._wardens[place] = await asyncio.to_thread(
                    subprocess.Popen,
                    argv,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=log,
                    env={},
                    cwd="/",
                    pass_fds=(network,) if network >= 0 else (),
                )
            os.close(stdout)  # so that its end is heard when the warden closes its own
            stdout = -1
            yield orders, answers
        except OSError as error:
            raise Unavailable(f"the sandbox's warden failed: {error}") from error
        finally:
            for handle in (stdin, orders, answers, stdout):
                if handle >= 0:
                    os.close(handle)

    async def _instruct(
        self, spec: SandboxSpec, place: Path, handle: int, network: int
    ) -> None:
        """Prepare what the sandbox needs and tell the warden, through a pipe alone."""
        orders = self._write_orders(spec, shares_network=network >= 0)
        orders["network"] = network
        if os.geteuid() == 0:
            for bind in spec.binds:
                if bind.is_writable:
                    await asyncio.to_thread(give_to, Path(bind.source), spec.uid)
        orders["cgroup"] = msgspec.to_builtins(self._create_group(spec, place))
        content = _compile_warden() + marshal.dumps(orders)
        await asyncio.to_thread(_write_all, handle, content)

    def _write_orders(
        self, spec: SandboxSpec, *, shares_network: bool
    ) -> dict[str, object]:
        uid = spec.uid if os.geteuid() == 0 else -1
        return {
            "launch": self._write_launch(spec, uid=uid, shares_network=shares_network),
            "uid": uid,
            "stdout": spec.stdout,
            "stderr": spec.stderr,
            "log_bytes_max": spec.log_bytes_max,
            "timeout_s": spec.timeout_s,
            "orphan_s": spec.orphan_s,
            "disk_bytes": spec.disk_bytes,
            "watched": spec.watched,
        }

    def _create_group(self, spec: SandboxSpec, place: Path) -> cgroup.Group:
        if self._home is None:
            self._home = cgroup.find_home()
        name = hashlib.blake2b(os.fsencode(place.resolve()), digest_size=10).hexdigest()
        # For whoever finds the warden dead: what to kill, what to remove.
        group = cgroup.group_of(self._home, name=name)
        (place / "cgroup.json").write_bytes(msgspec.json.encode(group))
        cgroup.create_group(
            self._home,
            name=name,
            memory_bytes=spec.memory_bytes,
            cpus_milli=spec.cpus_milli,
            processes_max=spec.processes_max + self._own_processes,
        )
        return group

    def _clean_up(self, place: Path) -> None:
        warden = self._wardens.pop(place, None)
        if warden is not None:
            warden.kill()
            warden.wait()
        _sweep(place)
        for name in _OWN_FILES:
            (place / name).unlink(missing_ok=True)

    def read_state(self, folder: PurePath) -> SandboxState:
        """Say how the process in ``folder`` is doing, and keep it alive by asking.

        Raises:
            Refused: nothing was ever started there.
        """
        place = Path(folder)
        is_dead = _is_warden_dead(place)  # before the state: it may end in between
        state = _read_state_file(place)
        if state.phase == "ended":
            self._reap(place)
            return state
        if is_dead:
            return _bury(place, state)
        with contextlib.suppress(FileNotFoundError):
            os.utime(place / "alive")
        return state

    async def wait_ended(self, folder: PurePath) -> SandboxState:
        """Wait until the process has ended and all of its kin are gone.

        Raises:
            Refused: nothing was ever started there.
        """
        place = Path(folder)
        while True:
            state = self.read_state(place)
            if state.phase == "ended":
                return state
            handle = _open_warden(place, state.pid)
            if handle is None:
                await asyncio.sleep(_POLL_S)  # dying, or its kin refuse to
                continue
            try:
                # Looked at now and then meanwhile: who waits for a job still wants it.
                async with asyncio.timeout(_LOOK_S):
                    await _wait_readable(handle)
            except TimeoutError:
                continue
            finally:
                os.close(handle)

    async def stop(self, folder: PurePath, *, grace_s: int) -> SandboxState:
        """Send SIGTERM, after ``grace_s`` kill everything; twice is harmless.

        Raises:
            Refused: nothing was ever started there.
        """
        place = Path(folder)
        state = self.read_state(place)
        if state.phase == "ended":
            return state
        handle = _open_warden(place, state.pid)
        if handle is not None:
            try:
                draft = place / "stop.part"
                draft.write_text(str(grace_s))
                draft.rename(place / "stop")
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGTERM)
            finally:
                os.close(handle)
        try:
            async with asyncio.timeout(grace_s + _KILL_TIMEOUT_S):
                return await self.wait_ended(place)
        except TimeoutError as error:
            raise Unavailable(
                f"sandbox {place.name} does not die; a driver may hang, look at dmesg"
            ) from error

    async def connect(self, folder: PurePath, *, port: int) -> socket.socket:
        """Connect to a port that something inside listens on, at its loopback.

        Raises:
            Refused: nothing runs, or nothing listens there.
            Unavailable: this agent may not enter the networks of its jobs.
        """
        network = open_network(_read_group(Path(folder)))
        try:
            return await connect_inside(network, port=port)
        finally:
            os.close(network)

    def _reap(self, place: Path) -> None:
        warden = self._wardens.get(place)
        if warden is not None and warden.poll() is not None:
            del self._wardens[place]


# ---- for the kinds ----------------------------------------------------------------


def find_root_links() -> dict[str, str]:
    """Say where /bin, /lib … of this host point to; "" for folders of their own."""
    return {
        path: str(Path(path).readlink()) if Path(path).is_symlink() else ""
        for path in _ROOT_FOLDERS
        if Path(path).exists()
    }


def find_files_max() -> int:
    """Say how many files a process of a job may have open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return min(hard, _OPEN_FILES_MAX) if hard > 0 else _OPEN_FILES_MAX


# ---- the folder -------------------------------------------------------------------


@cache
def _compile_warden() -> bytes:
    codes = []
    for name in _WARDEN:
        path = HERE / f"{name}.py"
        module = "__main__" if name == _WARDEN[-1] else f"{__package__}.{name}"
        codes.append((module, compile(path.read_bytes(), str(path), "exec")))
    return marshal.dumps(codes)


def _write_all(handle: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def _prepare_folder(place: Path) -> None:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        (place / "alive").touch(exist_ok=False)
    except FileExistsError as error:
        raise Refused(
            f"{place} has been used by a sandbox; give each its own folder",
            code="sandbox_exists",
        ) from error
    except OSError as error:
        raise Unavailable(f"{place} cannot be made: {error.strerror}") from error


def give_to(folder: Path, uid: int) -> None:
    """Make a folder and all in it the property of a uid; follows no symlink.

    Its top comes last: a top that is the uid's already means that all of it is.

    Raises:
        Unavailable: the folder is not there, or the file system refuses.
    """
    try:
        if folder.lstat().st_uid == uid:
            return
        for _, names, files, handle in os.fwalk(folder):
            for name in (*names, *files):
                os.chown(name, uid, uid, dir_fd=handle, follow_symlinks=False)
        os.chown(folder, uid, uid, follow_symlinks=False)
    except OSError as error:
        raise Unavailable(f"{folder} cannot be given to the job: {error}") from error


def _read_state_file(place: Path) -> SandboxState:
    try:
        raw = (place / "state.json").read_bytes()
    except OSError as error:
        raise Refused(
            f"no sandbox was ever started in {place}", code="no_such_sandbox"
        ) from error
    try:
        return msgspec.json.decode(raw, type=SandboxState)
    except msgspec.DecodeError as error:
        raise Broken(f"{place}/state.json is not what a warden writes") from error


def _is_warden_dead(place: Path) -> bool:
    """Say whether nobody holds the lock that a warden holds while it lives."""
    try:
        with (place / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True


def _open_warden(place: Path, pid: int) -> int | None:
    """Give a handle of the living warden, or None; never of a stranger's process."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Its pid can have gone to someone else, but not while the warden holds the lock.
    if _is_warden_dead(place):
        os.close(handle)
        return None
    return handle


def _read_group(place: Path) -> cgroup.Group:
    try:
        raw = (place / "cgroup.json").read_bytes()
        return msgspec.json.decode(raw, type=cgroup.Group)
    except (OSError, msgspec.DecodeError) as error:
        raise Refused(
            f"no sandbox was ever started in {place}", code="no_such_sandbox"
        ) from error


@contextlib.contextmanager
def _network_of(beside: str) -> Iterator[int]:
    """Open the network that another sandbox has; -1 for one of its own."""
    if not beside or os.geteuid() != 0:  # only root can put a process into one
        yield -1
        return
    network = open_network(_read_group(Path(beside)))
    try:
        yield network
    finally:
        os.close(network)


def _sweep(place: Path) -> bool:
    """Kill and remove what a dead warden left; say whether nothing is left."""
    try:
        raw = (place / "cgroup.json").read_bytes()
        return cgroup.sweep(msgspec.json.decode(raw, type=cgroup.Group))
    except (FileNotFoundError, msgspec.DecodeError):
        return True  # it had not come so far


def _bury(place: Path, state: SandboxState) -> SandboxState:
    """End for a warden that was killed: nothing of its sandbox may stay."""
    if not _sweep(place):
        return state
    ended = msgspec.structs.replace(
        state, phase="ended", reason="failed", exit_code=128 + signal.SIGKILL
    )
    draft = place / "state.json.part"
    draft.write_bytes(msgspec.json.encode(ended))
    draft.rename(place / "state.json")
    return ended


# ---- waiting ----------------------------------------------------------------------


async def _wait_readable(handle: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(handle, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(handle)


async def _read_answer(source: int, timeout_s: float) -> str:
    """Read what the warden says until it closes its end; "" if it dies silently."""
    content = b""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                await _wait_readable(source)
                part = os.read(source, 4_096)
                content += part
                if not part:
                    return content.decode(errors="replace")
    except TimeoutError as error:
        raise Unavailable(
            f"the sandbox did not start within {timeout_s:g} s"
        ) from error
