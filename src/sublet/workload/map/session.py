"""What is said to one worker: tasks go, results come; over any number of channels.

A clerk beside the worker's program carries them (``clerk``). Whatever it says comes
from a stranger: lines are bounded and strict, a result is taken once, and whether the
task was this worker's at all is for ``core.task`` to say.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncssh
import msgspec
from msgspec import structs

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.adapter.tree_writing import write_tree
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.sdk.job_channel import ChannelLost, JobChannel, translate
from sublet.sdk.work_folder import read_work
from sublet.wire.message import Tree
from sublet.workload.map.result import WorkerSaid
from sublet.workload.run.line import Line

LINE_BYTES_MAX = 4 * 1024 * 1024  # a result with its output
HELD_MAX = 64  # tasks that a worker may say it holds
# Lines of progress on one connection: an honest clerk says one a second, and what piled
# up on the way comes at once.
PROGRESS_FREE = 30
PROGRESS_PER_S = 2
PROGRESS_TEXT_MAX = 200  # characters
REDIAL_S = 0.2
REDIAL_S_MAX = 5.0
UNREACHABLE_S = 60.0  # without a word from the clerk: then the worker is given up
BOX = ".sublet"
CLERK = (
    "sh",
    "-c",
    f'while [ ! -s {BOX}/python ]; do sleep 0.05; done; exec "$(cat {BOX}/python)" '
    f"-I -S {BOX}/clerk.py",
)

Open = Callable[[], Awaitable[Line]]
Hear = Callable[[WorkerSaid, Path | None], None]
HearProgress = Callable[[WorkerSaid], None]


class TaskSession:
    """The conversation with one worker's clerk."""

    def __init__(
        self,
        *,
        open_line: Open,
        scratch: Path,
        disk_bytes: int,
        ready: Callable[[], None],
        hear: Hear,
        hear_progress: HearProgress,
    ) -> None:
        """Take how to reach it, and who hears; nothing is opened yet.

        Args:
            open_line: gives a new connection to the provider.
            scratch: a folder of its own, for files on their way.
            disk_bytes: what was rented; more than that is not fetched.
            ready: told once, when the worker takes tasks.
            hear: told of each result, with the folder of its files, if there are any.
            hear_progress: told how far a task is, at most twice a second in the long run.
        """
        self._open_line = open_line
        self._scratch = scratch
        self._disk_bytes = disk_bytes
        self._ready = ready
        self._hear = hear
        self._hear_progress = hear_progress
        self._is_ready = False
        # On the wire each attempt has a number of its own, never used twice, so that an
        # answer to an earlier one is not taken for an answer to this.
        self._attempts: list[int] = []  # the task of each attempt
        self._current: dict[int, int] = {}  # task -> its newest attempt
        self._given: dict[int, dict[str, Any]] = {}  # attempts without a result
        self._cancelled: set[int] = set()
        self._acked: set[int] = set()
        self._heard_here: set[int] = set()  # on this channel
        self._progress_here = 0
        self._opened_s = 0.0
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    # ---- what the map says ------------------------------------------------------------

    def send(self, number: int, task: dict[str, Any]) -> None:
        """Give it a task."""
        attempt = len(self._attempts)
        self._attempts.append(number)
        self._current[number] = attempt
        self._given[attempt] = {**task, "task": attempt}
        self._outbox.put_nowait({"send": self._given[attempt]})

    def cancel(self, number: int) -> None:
        """Tell it that a task is not wanted any more."""
        attempt = self._current[number]
        self._cancelled.add(attempt)
        self._outbox.put_nowait({"cancel": attempt})

    def ack(self, number: int) -> None:
        """Tell it that it may forget a result."""
        attempt = self._current.pop(number)
        self._acked.add(attempt)
        self._outbox.put_nowait({"ack": attempt})

    # ---- the conversation -------------------------------------------------------------

    async def run(self) -> None:
        """Talk until cancelled; a channel that breaks is opened again.

        Raises:
            PeerFault: it talks nonsense, or does not talk at all.
            Unavailable: this machine cannot keep what it sends.
        """
        pause_s, silent_s = REDIAL_S, 0.0
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            has_spoken = False
            try:
                async for _ in self._converse():
                    has_spoken, silent_s, pause_s = True, 0.0, REDIAL_S
            except (ChannelLost, Refused):
                pass
            except Unavailable as fault:
                if fault.code == "disk_failed":
                    raise
            if not has_spoken:
                silent_s += loop.time() - began_s + pause_s
            if silent_s > UNREACHABLE_S:
                raise PeerFault(
                    "the worker's machine runs, and cannot be talked to",
                    code="unreachable",
                )
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, REDIAL_S_MAX)

    async def _converse(self) -> AsyncIterator[None]:
        """One connection; gives something each time that the clerk has spoken."""
        line = await self._open_line()
        try:
            writer, lines = await line.channel.open_command(
                CLERK, line_bytes_max=LINE_BYTES_MAX
            )
            with translate():
                first = await anext(lines, None)
            if first is None:
                raise ChannelLost("the clerk did not start")
            self._take_up(_parse(first))
            yield
            writing = asyncio.create_task(self._write(writer))
            try:
                with translate():
                    async for one in lines:
                        await self._take(_parse(one), line.channel)
                        yield
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
        finally:
            await line.close()

    def _take_up(self, said: WorkerSaid) -> None:
        """Send what got lost with the last channel, and nothing that arrived."""
        if said.held is None or len(said.held) > HELD_MAX:
            raise PeerFault("the clerk does not say what it holds", code="nonsense")
        held = set(said.held)
        if not all(0 <= attempt < len(self._attempts) for attempt in held):
            raise PeerFault(
                "the clerk holds a task that it was never given", code="foreign_result"
            )
        while not self._outbox.empty():
            self._outbox.get_nowait()
        for attempt, task in self._given.items():
            if attempt not in held:
                self._outbox.put_nowait({"send": task})
        for attempt in self._cancelled & self._given.keys():
            self._outbox.put_nowait({"cancel": attempt})
        for attempt in held & self._acked:
            self._outbox.put_nowait({"ack": attempt})
        self._heard_here = set()
        self._progress_here = 0
        self._opened_s = asyncio.get_running_loop().time()
        if not self._is_ready:
            self._is_ready = True
            self._ready()

    async def _write(self, writer: "asyncssh.SSHWriter[bytes]") -> None:
        with contextlib.suppress(ChannelLost), translate():
            while True:
                message = await self._outbox.get()
                writer.write(msgspec.json.encode(message) + b"\n")
                await writer.drain()

    async def _take(self, said: WorkerSaid, channel: JobChannel) -> None:
        if said.held is not None or said.ran_ms < 0 or said.stdout_bytes < 0:
            raise PeerFault("the clerk speaks out of turn", code="nonsense")
        attempt = said.task
        if not 0 <= attempt < len(self._attempts):
            raise PeerFault(
                "an answer to a task that it was never given", code="foreign_result"
            )
        if said.progress is not None:
            self._take_progress(said, said.progress)
            return
        if attempt in self._heard_here:
            raise PeerFault("a task was answered twice", code="answered_twice")
        self._heard_here.add(attempt)
        if attempt not in self._given:
            return  # told on an earlier channel
        files = None
        if said.has_files and said.outcome != "cancelled":
            files = await self._fetch(attempt, channel)
        del self._given[attempt]
        self._hear(structs.replace(said, task=self._attempts[attempt]), files)

    def _take_progress(self, said: WorkerSaid, share: float) -> None:
        self._progress_here += 1
        passed_s = asyncio.get_running_loop().time() - self._opened_s
        if self._progress_here > PROGRESS_FREE + PROGRESS_PER_S * passed_s:
            raise PeerFault("the clerk speaks without a pause", code="floods")
        if not 0 <= share <= 1 or len(said.text) > PROGRESS_TEXT_MAX:
            raise PeerFault("the clerk speaks nonsense of a task", code="nonsense")
        task = self._attempts[said.task]
        # What is said of an earlier attempt, or after its result, is merely late.
        if said.task in self._given and self._current.get(task) == said.task:
            self._hear_progress(structs.replace(said, task=task))

    async def _fetch(self, attempt: int, channel: JobChannel) -> Path:
        """Fetch what a task left behind; give a folder with it."""
        target = self._scratch / f"{attempt}"
        chunks = self._scratch / f"{attempt}.chunks"
        shutil.rmtree(target, ignore_errors=True)
        blobs = FolderBlobs(chunks, is_durable=False)
        folder = f"{BOX}/out/{attempt}"
        try:
            tree = await read_work(
                channel, folder, blobs=blobs, bytes_max=self._disk_bytes
            )
            rest = len(folder) + 1
            files = tuple(structs.replace(x, path=x.path[rest:]) for x in tree.files)
            await asyncio.to_thread(write_tree, Tree(files=files), target, blobs=blobs)
        except Refused as fault:
            raise PeerFault(fault.message, code="bad_output") from fault
        finally:
            shutil.rmtree(chunks, ignore_errors=True)
        return target


def _parse(line: bytes) -> WorkerSaid:
    try:
        return msgspec.json.decode(line, type=WorkerSaid)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise PeerFault("the clerk talks nonsense", code="nonsense") from exc
