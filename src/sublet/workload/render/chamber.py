"""Runs our Blender programs on the tenant's own machine: always in a sandbox.

A scene is a stranger's program: it is opened without network, with its files
read-only, with memory, time and disk bounded. There is no way round it: where no
sandbox works, nothing is opened. The programs are in ``box``; what they write is
theirs, and read here without following where it leads.
"""

import contextlib
import importlib.util
import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec
from msgspec import Struct

from sublet.adapter.job_python import find_job_python
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.base.errors import Refused, Unavailable
from sublet.service.ports import Bind, Sandbox, SandboxSpec, SandboxState

ANSWER_BYTES_MAX = 1 << 26  # of one program's JSON
LOG_BYTES_MAX = 1 << 20
TIMEOUT_S = 900  # of one program, where the caller does not say
_TMP_BYTES = 1 << 30
_PROCESSES_MAX = 1_024
_UID = 64_998  # of what opens scenes, where this process is root
_MEMORY_PARTS = (3, 4)  # of the machine's, that a scene may take
_SAID_LENGTH = 400  # characters of the program's last words that are shown
_PLACE = "/opt/blender"
_OUT = "/job/out"
_PACKAGES = ("bpy", "numpy", "numpy.libs", "zstandard", "requests")
_BOX = "sublet.workload.render.box"
_FOLDER = Path(__file__).parent / "box"
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OTHERS_LOOK = stat.S_IROTH | stat.S_IXOTH

T = TypeVar("T")


class Limits(Struct, frozen=True):
    """What one program may take of this machine."""

    memory_bytes: int = 0  # 0: three quarters of the machine's
    timeout_s: int = TIMEOUT_S
    disk_bytes: int = 1 << 37  # 128 GiB: what it writes
    cpus: int = 0  # 0: all


class Chamber:
    """A program's place while it runs, and what it has written."""

    def __init__(self, folder: Path) -> None:
        """Take the folder that it can write to."""
        self.folder = folder

    @contextlib.contextmanager
    def open_file(self, name: str, *, bytes_max: int) -> Iterator[BinaryIO]:
        """Open a file that the program has written; ``name`` is ours, not its.

        Raises:
            Refused: there is none, it is no regular file, or it is too large.
        """
        try:
            handle = os.open(self.folder / name, _FLAGS)
        except OSError as error:
            raise _refuse(f"it has written no {name}: {error.strerror}") from error
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise _refuse(f"its {name} is no file")
            if status.st_size > bytes_max:
                raise _refuse(f"its {name} has more than {bytes_max} bytes")
            yield file

    def take_file(self, name: str, target: Path, *, bytes_max: int) -> Path:
        """Copy a file that the program has written to a place of ours.

        Raises:
            Refused: as ``open_file``.
            Unavailable: the disk does not take it.
        """
        draft = target.with_name(target.name + ".part")
        try:
            with (
                self.open_file(name, bytes_max=bytes_max) as file,
                draft.open("wb") as copy,
            ):
                shutil.copyfileobj(file, copy)
            return draft.replace(target)
        except OSError as error:
            raise Unavailable(
                f"{target} cannot be written: {error.strerror}", code="disk_failed"
            ) from error

    def read_answer(self, kind: type[T]) -> T:
        """Read what the program says, strictly.

        Raises:
            Refused: it says nothing, too much, or something else.
        """
        with self.open_file("answer.json", bytes_max=ANSWER_BYTES_MAX) as file:
            raw = file.read(ANSWER_BYTES_MAX)
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise _refuse(f"its answer is not one: {str(error)[:200]}") from error


@contextlib.asynccontextmanager
async def run_program(
    name: str,
    request: Mapping[str, Any],
    *,
    reads: tuple[Bind, ...],
    limits: Limits,
    sandbox: Sandbox | None = None,
) -> AsyncIterator[Chamber]:
    """Run a program of ``box`` to its end; give its place, which is gone afterwards.

    Args:
        name: of the module.
        request: for it, as JSON.
        reads: what it sees beside the system, read-only.
        limits: of this machine's.
        sandbox: bubblewrap by default.

    Raises:
        Unavailable: no Blender or no sandbox here; says how to get it.
        Refused: the scene took more than it may, or broke Blender.
    """
    packages = find_packages()
    _check_readable(reads)
    with tempfile.TemporaryDirectory(prefix="sublet-render-") as made:
        base = Path(made)
        out = base / "out"
        out.mkdir()
        request_path, said = base / "request.json", base / "said.log"
        request_path.write_bytes(msgspec.json.encode(request))
        binds = (
            *packages,
            Bind(str(_FOLDER), f"{_PLACE}/box/{_BOX.replace('.', '/')}"),
            *reads,
            Bind(str(request_path), "/job/request.json"),
            Bind(str(out), _OUT, is_writable=True),
        )
        spec = _write_spec(name, binds=binds, limits=limits, out=out, said=said)
        state = await _run(sandbox or BubblewrapSandbox(), spec, folder=base / "box")
        _check_end(state, limits=limits, said=said)
        yield Chamber(out)


def find_packages() -> tuple[Bind, ...]:
    """Find Blender as a Python module, and what it needs beside it.

    Raises:
        Unavailable: it is not installed here.
    """
    found = importlib.util.find_spec("bpy")
    if found is None or found.origin is None:
        raise Unavailable(
            "Blender's Python module is not installed here; with Python 3.11: "
            "pip install 'sublet[render]'",
            code="no_blender",
        )
    site = Path(found.origin).parent.parent
    return tuple(
        Bind(str(site / name), f"{_PLACE}/site/{name}")
        for name in _PACKAGES
        if (site / name).is_dir()
    )


def _check_readable(reads: tuple[Bind, ...]) -> None:
    """Make sure that the sandbox's own user can look into what it is shown.

    Raises:
        Refused: it cannot; only where this process is root is it another user.
    """
    for bind in reads if os.geteuid() == 0 else ():
        mode = Path(bind.source).stat().st_mode
        wanted = _OTHERS_LOOK if stat.S_ISDIR(mode) else stat.S_IROTH
        if mode & wanted != wanted:
            raise Refused(
                f"{bind.source} is for root alone, and a scene is not opened as root; "
                f"chmod -R o+rX {shlex.quote(bind.source)}, or do this as another user",
                code="not_readable",
            )


def _write_spec(
    name: str, *, binds: tuple[Bind, ...], limits: Limits, out: Path, said: Path
) -> SandboxSpec:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    share, whole = _MEMORY_PARTS
    cpus = limits.cpus or os.cpu_count() or 1
    return SandboxSpec(
        argv=(
            *(*find_job_python().command, "-s", "-m", f"{_BOX}.{name}"),
            *("/job/request.json", f"{_OUT}/answer.json"),
        ),
        env={
            "PYTHONPATH": f"{_PLACE}/site:{_PLACE}/box",
            "PYTHONSAFEPATH": "1",  # what a scene leaves in its folder is no module
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        directory=_OUT,
        binds=binds,
        uid=_UID,
        memory_bytes=limits.memory_bytes or memory * share // whole,
        cpus_milli=cpus * 1_000,
        processes_max=_PROCESSES_MAX,
        tmp_bytes=_TMP_BYTES,
        file_bytes_max=limits.disk_bytes,
        disk_bytes=limits.disk_bytes,
        watched=(str(out),),
        stdout=str(said),
        stderr=str(said),
        log_bytes_max=LOG_BYTES_MAX,
        timeout_s=limits.timeout_s,
    )


async def _run(sandbox: Sandbox, spec: SandboxSpec, *, folder: Path) -> SandboxState:
    try:
        await sandbox.start(spec, folder=folder)
    except Unavailable as error:
        raise Unavailable(
            f"a scene is opened in a sandbox only, and none works here: {error.message}."
            " On Debian and Ubuntu: apt install bubblewrap libseccomp2; as an ordinary "
            "user put systemd-run --user --scope -p Delegate=yes before the command",
            code="no_sandbox",
        ) from error
    try:
        return await sandbox.wait_ended(folder)
    finally:
        await sandbox.stop(folder, grace_s=0)  # Ctrl-C; twice is harmless


def _check_end(state: SandboxState, *, limits: Limits, said: Path) -> None:
    """Make sure that a program came to its end.

    Raises:
        Refused: it did not; says why and what to do.
    """
    if state.reason == "exited" and state.exit_code == 0:
        return
    if state.reason == "out_of_memory":
        raise Refused(
            "opening the scene takes more memory than this machine has for it; simplify "
            "it, or open it on a larger one",
            code="scene_too_large",
        )
    if state.reason == "timeout":
        raise Refused(
            f"the scene took more than {limits.timeout_s} s here; simplify it, or look "
            "for a script or a simulation that never ends",
            code="scene_too_slow",
        )
    if state.reason == "disk_full":
        raise Refused(
            f"the scene wrote more than {limits.disk_bytes} bytes; give it fewer frames "
            "at a time",
            code="scene_too_large",
        )
    raise _refuse(f"code {state.exit_code}: {_read_tail(said)}")


def _read_tail(said: Path) -> str:
    try:
        text = said.read_bytes()[-4_096:].decode(errors="replace")
    except OSError:
        return ""
    words = " ".join(each for each in text.split() if each.isprintable())
    return words[-_SAID_LENGTH:]


def _refuse(text: str) -> Refused:
    return Refused(
        f"Blender broke off over the scene ({text}); open it in Blender, save it again "
        "and try that",
        code="bad_scene",
    )
