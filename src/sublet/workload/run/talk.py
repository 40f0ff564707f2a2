"""One attempt's conversation with its provider: messages in, facts out.

Survives the channels it runs over: a new one goes on where the last one broke, logs
at their offset, chunks at those that are missing. Each message is checked before it
becomes a fact; what the facts lead to is decided by ``core.job``.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Digest
from sublet.core.job import fact
from sublet.core.lease.phase import Lease
from sublet.sdk.connection import Connection
from sublet.sdk.job_channel import ChannelLost, ClientKey, JobChannel
from sublet.service.ports import Blobs
from sublet.wire.manifest import join_own, size_chunks, tree_id
from sublet.wire.message import (
    Checkpointed,
    Close,
    Deliver,
    Ended,
    JobSays,
    Manifest,
    Metered,
    Missing,
    Notice,
    Progress,
    Replaced,
    Sanitized,
    Signed,
    TenantSays,
    Tree,
    Trouble,
    Uploaded,
)
from sublet.wire.typed_data import Domain
from sublet.workload.run import event
from sublet.workload.run.change import Changes
from sublet.workload.run.checked import hear_terms
from sublet.workload.run.evidence import (
    check_ended,
    check_files,
    check_metered,
    check_missing,
    printable,
)
from sublet.workload.run.key_half import KeyHalf
from sublet.workload.run.line import Line, open_line
from sublet.workload.run.log_copy import Log

LOGS_S = 30.0  # for the rest of the logs, once the program is over

AddDeposit = Callable[[Lease, Deliver], Awaitable[Deliver]]
Say = Callable[[fact.Fact], None]
Show = Callable[[event.AnyEvent], Awaitable[None]]
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Talk:
    """The conversation about one lease."""

    def __init__(
        self,
        *,
        lease: Lease,
        word: Deliver,
        add_deposit: AddDeposit,
        domain: Domain,
        blobs: Blobs,
        folder: Path,
        logs: Sequence[Log],
        key: ClientKey,
        now_ms: Callable[[], int],
        say: Say,
        show: Show,
        spawn: Spawn,
    ) -> None:
        """Take what it is about; nothing is opened yet.

        ``word`` is what the provider is told, ``domain`` that in which it signs, ``blobs``
        syncs what it takes, ``spawn`` runs under the job's supervisor.
        """
        self.lease = lease
        self.outputs = Tree(files=())
        self.checkpoints: dict[Digest, Tree] = {}
        self.receipt: Signed | None = None  # as the provider showed it
        self.local_fault = ""  # why this machine cannot take the outputs
        self._hashed: dict[str, Digest] = {}  # by the receipt
        self._word = word
        self._manifest = join_own(word.manifest, word.own)
        self._folder = folder
        self._add_deposit = add_deposit
        self._domain = domain
        self._blobs = blobs
        self._key = key
        self._changes = Changes(lease=lease, domain=domain)
        self._half = KeyHalf(lease, salt=word.manifest.salt, folder=folder)
        self._now_ms = now_ms
        self._say = say
        self._show = show
        self._spawn = spawn
        self.logs = logs
        self._channel: JobChannel | None = None
        self._line: Line | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._note = ""
        self._is_closed = False

    # ---- opening and closing ----------------------------------------------------

    async def converse(self, connection: Connection) -> None:
        """Open a channel, once a dial; listen until it breaks, say so. Never raises."""
        try:
            await self._open(connection)
            self._say(fact.ChannelOpened(**self._here()))
            await self._listen()
        except PeerFault as fault:
            self._accuse(fault)  # what follows closes the channel, with the reason
        except (Unavailable, Refused) as fault:
            # Only once nothing of the old channel is left may a new one be dialled.
            await self._release()
            self._say(fact.ChannelBroken(**self._here(), message=fault.message))
            if not self._is_closed:
                await self._show(
                    event.Disconnected(at_ms=self._now_ms(), message=fault.message)
                )
        except asyncio.CancelledError:
            await self._release()
            raise

    async def _open(self, connection: Connection) -> None:
        self._line = await open_line(connection, lease=self.lease, key=self._key)
        self._channel = self._line.channel
        await self._channel.open_job()
        await hear_terms(
            self._channel,
            lease=self.lease,
            order=self._word.order,
            domain=self._domain,
            folder=self._folder,
        )

    async def _release(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        line, self._line, self._channel = self._line, None, None
        if line is not None:
            await line.close()

    async def replace(self, manifest: Manifest, replacement: Signed) -> None:
        """Have another program run in its place; Refused: why the old one goes on."""
        with contextlib.suppress(ChannelLost):  # the next channel begins with it
            await self.send(self._changes.ask(manifest, replacement))
        await self._changes.wait()

    async def finish(self, reason: str, message: str) -> None:
        """End it: with thanks once the logs are through, or in trouble. Never raises."""
        self._is_closed = True
        self._changes.drop()
        with contextlib.suppress(ChannelLost, TimeoutError):
            if reason == "done":
                await self._wait_logs()
                await self.send(Close(reason="done"))
                await self._half.wait_statement(warn=self._warn)
            else:
                await self.send(Trouble(code=reason, message=message))
        self._half.wipe()
        await self._release()

    async def _wait_logs(self) -> None:
        if self._channel is not None:
            async with asyncio.timeout(LOGS_S):
                for log in self.logs:
                    await log.done.wait()

    async def send(self, message: TenantSays) -> None:
        """Say something to the provider; ChannelLost: there is no channel just now."""
        await self._require().say(message)

    def _require(self) -> JobChannel:
        if self._channel is None:
            raise ChannelLost("there is no channel to the provider just now")
        return self._channel

    # ---- orders -----------------------------------------------------------------

    def deliver(self) -> None:
        """Send the manifest and what pays for it; the logs are followed on."""
        self._start(self._deliver())

    async def _deliver(self) -> None:
        word = await self._add_deposit(self.lease, self._half.deliver(self._word))
        channel = self._require()
        await channel.say(word)
        if self._changes.asked is not None:
            await channel.say(self._changes.asked)
        for log in self.logs:
            if not log.done.is_set():
                pieces = channel.follow_log(log.stream, offset=log.offset)
                self._start(log.follow(pieces, wrote=self._wrote, warn=self._warn))

    def fetch_outputs(self) -> None:
        """Begin to fetch what the receipt hashed; a fact says how it went."""
        self._start(self._collect())

    async def _collect(self) -> None:
        if files := self.outputs.files:
            size = sum(file.size for file in files)
            await self._show(
                event.Collecting(at_ms=self._now_ms(), files=len(files), bytes=size)
            )
            # Where the disk here fails, the provider did its part, and is paid for it.
            self.local_fault = await self._fetch(self.outputs)
        with contextlib.suppress(TimeoutError):  # a slow stream is no lie
            await self._wait_logs()
        for log in self.logs:
            log.check(self._hashed[log.stream])
        self._say(fact.OutputsStored(**self._here()))

    # ---- listening --------------------------------------------------------------

    async def _listen(self) -> None:
        channel = self._require()
        while True:
            await self._hear(await channel.hear())

    async def _hear(self, said: JobSays) -> None:
        match said:
            case Missing():
                self._start(self._upload(said))
            case Replaced():
                self._changes.hear(said)
            case Progress():
                await self._hear_progress(said)
            case Metered():
                record = check_metered(said, lease=self.lease, domain=self._domain)
                self._say(
                    fact.UsageClaimed(
                        **self._here(),
                        ran_ms=record.ran_ms,
                        owed=said.owed,
                        channel_total=said.channel_total,
                    )
                )
            case Checkpointed():
                self._start(self._store_checkpoint(said))
            case Ended():
                self._hear_end(said)
            case Sanitized():
                await self._show(self._half.hear(said, at_ms=self._now_ms()))
            case Notice():
                self._say(fact.NoticeGiven(**self._here(), stops_in_s=said.stops_in_s))
                await self._show(
                    event.Notified(at_ms=self._now_ms(), stops_in_s=said.stops_in_s)
                )
            case Trouble():
                raise PeerFault(
                    f"the provider cannot go on: {printable(said.message)}",
                    code=printable(said.code) or "trouble",
                )

    async def _hear_progress(self, said: Progress) -> None:
        self._note = printable(said.text)
        if said.phase == "running":
            self._say(fact.ProgramStarted(**self._here()))
            await self._show(event.Running(at_ms=self._now_ms()))
        elif said.phase == "preparing":
            await self._show(event.Preparing(at_ms=self._now_ms(), text=self._note))

    def _hear_end(self, said: Ended) -> None:
        receipt = check_ended(said, lease=self.lease, domain=self._domain)
        asked = self._manifest.outputs or ("",)
        check_files(said.outputs, asked=asked, bytes_max=self.lease.disk_bytes)
        self.outputs, self.receipt = said.outputs, said.receipt
        self._changes.drop()
        self._hashed = {"stdout": receipt.stdout, "stderr": receipt.stderr}
        self._say(
            fact.ReceiptShown(
                **self._here(),
                ran_ms=receipt.ran_ms,
                exit_code=receipt.exit_code,
                reason=receipt.reason,
                owed=said.owed,
                channel_total=said.channel_total,
                note=self._note,
                egress=said.egress,
            )
        )

    # ---- what takes its time ----------------------------------------------------

    async def _upload(self, said: Missing) -> None:
        channel = self._require()
        trees = (self._manifest.inputs, self._manifest.resume, *self._changes.trees())
        if size := check_missing(said, size_chunks(*trees)):
            await self._show(event.Uploading(at_ms=self._now_ms(), bytes=size))
            await channel.put_chunks(said.chunks, blobs=self._blobs)
        await channel.say(Uploaded())

    async def _store_checkpoint(self, said: Checkpointed) -> None:
        check_files(said.tree, asked=(), bytes_max=self.lease.disk_bytes)
        if fault := await self._fetch(said.tree):
            await self._warn(
                f"{fault}; a checkpoint could not be kept: if the machine "
                "fails now, what it did since the last one is lost"
            )
            return
        key = tree_id(said.tree)
        self.checkpoints[key] = said.tree
        self._say(
            fact.CheckpointStored(
                **self._here(), number=said.number, ran_ms=said.ran_ms, tree_id=key
            )
        )
        await self._show(event.Secured(at_ms=self._now_ms(), ran_ms=said.ran_ms))

    async def _fetch(self, tree: Tree) -> str:
        """Fetch a tree's chunks; say why this machine cannot take them, or nothing."""
        try:
            await self._require().get_chunks(size_chunks(tree), blobs=self._blobs)
        except Unavailable as fault:
            if isinstance(fault, ChannelLost):
                raise
            return fault.message
        return ""

    async def _wrote(self, stream: str, data: bytes) -> None:
        await self._show(event.Wrote(at_ms=self._now_ms(), stream=stream, data=data))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something run beside the listening; it ends with the channel."""
        task = self._spawn(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except PeerFault as fault:
            self._accuse(fault)
        except ChannelLost:
            pass  # whoever listens on the channel says so
        except Refused as fault:
            # What it announced is not there.
            self._accuse(PeerFault(fault.message, code=fault.code))

    async def _warn(self, message: str) -> None:
        await self._show(event.Unkept(at_ms=self._now_ms(), message=message))

    def _accuse(self, fault: PeerFault) -> None:
        self._say(
            fact.PeerMisbehaved(
                **self._here(), code=fault.code, message=printable(fault.message)
            )
        )

    def _here(self) -> dict[str, Any]:
        return {"at_ms": self._now_ms(), "lease_id": self.lease.id}
