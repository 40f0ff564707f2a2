"""anvil, Foundry's local EVM chain, as a child process: for development and tests.

It comes inside an npm package and is never needed by a market on credits. It listens
on the loopback alone. Not here: what is deployed on it (``devchain``).
"""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from sublet.base.errors import Refused, Unavailable

PACKAGE = "@foundry-rs/anvil@1.7.1"
_OF_TESTS = Path(".cache/anvil/node_modules")  # where `make test` puts it
START_S = 60.0
STOP_S = 20.0  # for anvil to write its state
_LOOK_S = 0.03
_LOG_BYTES_SHOWN = 400


def find_anvil(root: Path | None = None) -> Path:
    """Find the program: on PATH, or where npm or ``make test`` put it.

    Args:
        root: below which to look for ``node_modules`` and ``.cache``; by default the
            working folder and those above it.

    Raises:
        Refused: ``no_anvil``, with the way to get it.
    """
    if on_path := shutil.which("anvil"):
        return Path(on_path)
    here = root or Path.cwd()
    for folder in (here, *here.parents):
        for modules in (folder / "node_modules", folder / _OF_TESTS):
            # The binary itself first: the wrapper in JavaScript leaves it behind.
            found = sorted(modules.glob("@foundry-rs/anvil-*/bin/anvil"))
            for program in (*found, modules / ".bin" / "anvil"):
                if os.access(program, os.X_OK):
                    return program
    raise Refused(
        "there is no anvil here, which runs a chain for development; get it with: "
        f"npm install {PACKAGE}",
        code="no_anvil",
    )


class Anvil:
    """A running anvil. Use it as an async context; it ends with it."""

    def __init__(
        self,
        program: Path,
        *,
        chain_id: int,
        port: int = 0,
        state: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Take what it is started with.

        Args:
            program: as ``find_anvil`` gives it.
            chain_id: of its chain.
            port: of the loopback; 0: a free one.
            state: a file that it goes on from, and leaves its state in.
            options: more of its own.
        """
        self._program = program
        self._options = ["--chain-id", str(chain_id), "--port", str(port), *options]
        self._options += ["--host", "127.0.0.1", "--accounts", "0"]
        if state is not None:
            self._options += ["--state", str(state)]
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self.rpc_url = ""

    async def __aenter__(self) -> Self:
        try:
            self._process = await asyncio.create_subprocess_exec(
                self._program,
                *self._options,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours: it ends after its users
            )
        except OSError as exc:
            raise Unavailable(
                f"anvil could not be started: {exc.strerror}", code="anvil_failed"
            ) from exc
        try:
            async with asyncio.timeout(START_S):
                self.rpc_url = await self._wait_listening()
        except BaseException as exc:
            await self.__aexit__(None, None, None)
            if isinstance(exc, TimeoutError):
                raise Unavailable("anvil did not start", code="anvil_failed") from exc
            raise
        self._reader = asyncio.create_task(self._drain())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)  # it writes its state
            try:
                await asyncio.wait_for(process.wait(), STOP_S)
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._reader is not None:
            await self._reader

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None, "use it as an async context"
        return self._process.pid

    async def _wait_listening(self) -> str:
        """Read what it prints until it says where it listens."""
        assert self._process is not None and self._process.stdout is not None
        said = b""
        async for line in self._process.stdout:
            said += line
            if line.startswith(b"Listening on "):
                return "http://" + line.removeprefix(b"Listening on ").decode().strip()
        shown = said[-_LOG_BYTES_SHOWN:].decode(errors="replace").strip()
        raise Unavailable(f"anvil ended at once: {shown}", code="anvil_failed")

    async def _drain(self) -> None:
        """Read on, so that it never waits for a reader."""
        assert self._process is not None and self._process.stdout is not None
        stdout = self._process.stdout  # the process is let go of while it still prints
        while await stdout.read(65_536):
            pass
