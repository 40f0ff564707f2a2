"""Runs an owner's pricing program: a question on its input, a price on its output.

Any executable. It has a time limit, an environment of its own (no secret of the agent's
is in it), nothing open but its three streams, and a cap on how many of it run at one
time. Where the agent is root it runs as somebody who is not. When it is over, or its
time is, whatever it has started is killed with it: its process group, and those of its
children that made one of their own.

Not here: what the question says (``core.pricing.question``).
"""

import asyncio
import os
import pwd
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from sublet.base.errors import Refused, Unavailable

OUTPUT_BYTES_MAX = 4_096  # that are kept of each stream; a price is shorter
REAP_S = 2.0  # for what was killed to be gone; only a runaway daemon takes longer
_CHUNK_BYTES = 65_536
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/",
}


class NoPrice(Unavailable):
    """A pricing program named no price; the order gets no bid from this provider."""

    code = "no_price"


class PricingProgram:
    """One executable, asked again and again."""

    def __init__(
        self,
        path: Path,
        *,
        timeout_s: float,
        processes_max: int,
        env: Mapping[str, str],
        user: str,
    ) -> None:
        """Take the program; nothing is run yet.

        Args:
            path: of the executable.
            timeout_s: that one run may take.
            processes_max: runs at one time; others wait for their turn.
            env: what it is told besides; it sees nothing else of this process's own.
            user: whose rights it has where this process is root.

        Raises:
            Refused: it is no executable file, or there is no such user.
        """
        if not path.is_absolute() or not path.is_file() or not os.access(path, os.X_OK):
            raise Refused(
                f"bids.program: {path} is no executable file; name one by its full path, "
                "and allow its execution with chmod +x",
                code="bad_program",
                field="bids.program",
            )
        self._path = path
        self._timeout_s = timeout_s
        self._env = {**_ENVIRONMENT, **env}
        self._rights = _find_rights(user)
        self._turns = asyncio.Semaphore(processes_max)

    async def ask(self, question: bytes, *, env: Mapping[str, str]) -> str:
        """Run it once; give what it printed.

        Raises:
            NoPrice: it could not be started, took too long, failed, or printed more
                than a price.
        """
        async with self._turns:
            process = await self._start(env)
            try:
                async with asyncio.timeout(self._timeout_s):
                    output, errors = await _talk(process, question)
            except TimeoutError:
                raise NoPrice(
                    f"{self._path} took more than {self._timeout_s:g}s and was killed; make "
                    "it quicker, or raise bids.timeout"
                ) from None
            finally:
                await _kill(process)
        if process.returncode:
            raise NoPrice(
                f"{self._path} ended with {process.returncode}, which says: no bid"
                + (f" ({_last_line(errors)})" if errors.strip() else "")
            )
        if len(output) > OUTPUT_BYTES_MAX:
            raise NoPrice(
                f"{self._path} printed more than {OUTPUT_BYTES_MAX} bytes; let it print "
                "the price alone, and the rest to standard error"
            )
        return output.decode(errors="replace")

    async def _start(self, env: Mapping[str, str]) -> asyncio.subprocess.Process:
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(
                self._path,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**self._env, **env},
                cwd="/",
                umask=0o077,
                start_new_session=True,
                **self._rights,
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await _kill(await starting)  # a start that is broken off never returns
            raise
        except OSError as exc:
            raise NoPrice(
                f"{self._path} could not be started: {exc.strerror}; where the provider "
                "runs as root, the user of bids.user has to be able to read and execute it"
            ) from exc


async def _talk(
    process: asyncio.subprocess.Process, question: bytes
) -> tuple[bytes, bytes]:
    assert process.stdin and process.stdout and process.stderr
    _, output, errors, _ = await asyncio.gather(
        _feed(process.stdin, question),
        _read(process.stdout),
        _read(process.stderr),
        process.wait(),
    )
    return output, errors


async def _feed(stream: asyncio.StreamWriter, question: bytes) -> None:
    """Write the question; a program need not read it."""
    with suppress(BrokenPipeError, ConnectionResetError):
        stream.write(question)
        await stream.drain()
        stream.close()
        await stream.wait_closed()


async def _read(stream: asyncio.StreamReader) -> bytes:
    """Read to the end; what is more than one byte too many is not kept."""
    kept = b""
    while chunk := await stream.read(_CHUNK_BYTES):
        kept = (kept + chunk)[: OUTPUT_BYTES_MAX + 1]
    return kept


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill it, if it runs, with whatever it has started."""
    family: list[psutil.Process] = []
    with suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for each in family:
        with suppress(psutil.Error):
            each.kill()
    assert process.stdout and process.stderr
    with suppress(TimeoutError):
        async with asyncio.timeout(REAP_S):
            # Its end is only seen once its streams were read to theirs.
            await asyncio.gather(
                _read(process.stdout), _read(process.stderr), process.wait()
            )
    process._transport.close()  # type: ignore[attr-defined] # no other way


def _find_rights(user: str) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise Refused(
            f"bids.user: there is no user {user!r} on this machine; name one that may "
            "read and execute the program, and nothing of value",
            code="bad_user",
            field="bids.user",
        ) from None
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def _last_line(errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()
    return "".join(c if c.isprintable() else "?" for c in lines[-1][:200])
