"""A provider in this process: a real link, real SSH, real programs, no sandbox.

It speaks the whole protocol to a real node, and can be told to lie (``Temper``): that
is what the real agent cannot do. For tests alone: it runs what it is given.
"""

import asyncio
import contextlib
import json
import secrets
import shlex
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh

from sublet.base.ids import Digest
from sublet.core.document import (
    Bid,
    LeaseTerms,
    Offer,
)
from sublet.core.lease.phase import Lease, Phase
from sublet.sdk.tunnel import Tunnel
from sublet.wire import codec
from sublet.wire.message import (
    Appended,
    Appendix,
    Challenge,
    Dial,
    Hello,
    LeaseChanged,
    NodeSays,
    OrderOpened,
    Signed,
    Submission,
    Welcome,
)
from sublet.wire.request import authorize
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain, digest
from tests.fakes.provider_job import (
    ChunkServer,
    FakeWork,
    Job,
    Temper,
    send_log,
    stamp,
)

SIZE_MAX = 1 << 24


class FakeProvider:
    """Use as an async context; ``jobs`` says what it did."""

    def __init__(
        self, url: str, *, key: Key, domain: Domain, folder: Path, temper: Temper
    ) -> None:
        self.url = url
        self.key = key
        self.domain = domain
        self.folder = folder
        self.temper = temper
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.jobs: dict[Digest, Job] = {}
        self.heard: list[Digest] = []  # orders that it was asked to bid for
        self.dials = 0
        self.is_dead = False
        self._http: aiohttp.ClientSession
        self._link: aiohttp.ClientWebSocketResponse
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self.programs: set[asyncio.subprocess.Process] = set()
        self.work = FakeWork(self)

    async def __aenter__(self) -> "FakeProvider":
        self._http = aiohttp.ClientSession()
        self._link = await self._http.ws_connect(self.url + "/v1/link", max_msg_size=0)
        challenge = await self._hear()
        assert isinstance(challenge, Challenge)
        path = f"/v1/link?nonce={challenge.nonce}"
        hello = Hello(
            provider=self.key.address,
            authorization=self._authorize("GET", path),
            instance=secrets.token_hex(16),
        )
        await self._link.send_str(codec.encode(hello).decode())
        assert isinstance(await self._hear(), Welcome)
        await self.offer()
        self._spawn(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()
        await self._http.close()

    async def die(self) -> None:
        """Drop everything at once, as a machine does whose power goes."""
        self.is_dead = True
        for connection in list(self.connections):
            connection.abort()
        for job in self.jobs.values():
            if job.process is not None and job.process.returncode is None:
                job.process.kill()
        for program in self.programs:
            with contextlib.suppress(ProcessLookupError):
                program.kill()
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        await self._link.close()

    async def offer(self) -> None:
        """Offer four CPUs."""
        now_s = int(time.time())
        self.pledged = self.sign(
            Offer(
                machine="test",
                cpus_milli=4_000,
                memory_bytes=8 << 30,
                disk_bytes=64 << 30,
                gpu_model="",
                gpu_memory_bytes=0,
                gpu_uuids=(),
                region="DE",
                sandboxes=("none",),
                features=(),
                cpu_price_hour=self.temper.first_price,
                memory_price_hour=0,
                gpu_price_hour=0,
                cpu_score=1,
                disk_score=1,
                gpu_score=1,
                ssh_host_key=_line(self.host_key),
                seal_key="",
                endpoint="",
                leases_max=0,
                refuses=(),
                expires_at_s=now_s + 3_600,
                signed_at_s=now_s,
                salt=secrets.randbits(60),
            )
        )
        await self.submit(self.pledged)

    def sign(self, document: Any) -> Signed:
        """Sign, as itself."""
        return codec.sign(document, key=self.key, domain=self.domain)

    def make_terms(self, lease: Lease) -> Signed:
        """Sign what it understood the match to be."""
        return self.sign(
            LeaseTerms(
                lease_id=lease.id,
                offer_id=lease.offer_id,
                tenant=lease.tenant,
                provider=lease.provider,
                price_hour=lease.price_hour,
                duration_s=lease.duration_s,
                **stamp(),
            )
        )

    async def submit(self, *documents: Any) -> tuple[Appended, ...]:
        """Sign and append, as itself."""
        signed = tuple(
            one if isinstance(one, Signed) else self.sign(one) for one in documents
        )
        body = codec.encode(Submission(documents=signed))
        async with self._http.post(self.url + "/v1/documents", data=body) as answer:
            raw = await answer.read()
        if answer.status != 200:
            return ()  # refused: whoever lies goes on as if nothing were
        appendix = codec.decode(raw, Appendix, size_max=SIZE_MAX)
        return appendix.results

    # ---- the link -------------------------------------------------------------------

    async def _hear(self) -> Any:
        frame = await self._link.receive(timeout=20)
        assert frame.type is aiohttp.WSMsgType.TEXT, frame
        return codec.decode(frame.data.encode(), NodeSays, size_max=SIZE_MAX)

    def _authorize(self, method: str, path: str) -> str:
        return authorize(
            key=self.key,
            domain=self.domain,
            method=method,
            path=path,
            body=b"",
            at_s=int(time.time()),
            nonce=secrets.randbits(62),
        )

    async def _listen(self) -> None:
        async for frame in self._link:
            if frame.type is not aiohttp.WSMsgType.TEXT:
                return
            said = codec.decode(frame.data.encode(), NodeSays, size_max=SIZE_MAX)
            if isinstance(said, LeaseChanged):
                await self._take_lease(said.lease)
            elif isinstance(said, OrderOpened):
                self._spawn(self._bid(said.order.id))
            elif isinstance(said, Dial) and not self.temper.never_starts:
                self._spawn(self._serve(said.session))

    async def _bid(self, order_id: Digest) -> None:
        self.heard.append(order_id)
        if self.temper.bid:
            offer_id = digest(self.pledged.document, self.domain)
            await self.submit(Bid(order_id, offer_id, self.temper.bid, **stamp()))

    async def _take_lease(self, lease: Lease) -> None:
        if lease.id not in self.jobs:
            folder = self.folder / lease.id[2:14]
            (folder / "work").mkdir(parents=True)
            self.jobs[lease.id] = Job(lease=lease, folder=folder)
        job = self.jobs[lease.id]
        job.lease = lease
        if lease.phase is Phase.MATCHED and not self.temper.never_signs:
            terms = self.make_terms(lease)
            self._spawn(self._submit_quietly(terms))
        elif lease.phase is Phase.CLOSING and job.process is not None:
            job.reason = "stopped"
            with contextlib.suppress(ProcessLookupError):
                job.process.kill()

    async def _submit_quietly(self, document: Any) -> None:
        await self.submit(document)

    def keep(self, task: "asyncio.Task[None]") -> None:
        """End a task when the provider dies."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _spawn(self, work: Any) -> None:
        self.keep(asyncio.create_task(work))

    # ---- SSH --------------------------------------------------------------------------

    async def _serve(self, session: str) -> None:
        path = f"/v1/relay/{session}"
        far = await self._http.ws_connect(
            self.url + path,
            headers={"Authorization": self._authorize("GET", path)},
            max_msg_size=0,
        )
        self.dials += 1
        tunnel = Tunnel(far)
        provider = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                self.conn = conn
                provider.connections.add(conn)

            def connection_lost(self, exc: Exception | None) -> None:
                provider.connections.discard(self.conn)

            def begin_auth(self, username: str) -> bool:
                self.job = provider.jobs.get("0x" + username)
                return True

            def public_key_auth_supported(self) -> bool:
                return True

            def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
                return self.job is not None and _line(key) == self.job.lease.ssh_key

            def session_requested(self) -> Any:
                return asyncssh.SSHServerProcess(self.serve, self.files, 3, False)

            async def serve(self, process: Any) -> None:
                assert self.job is not None
                await provider._serve_command(self.job, process)

            def files(self, channel: Any) -> asyncssh.SFTPServer:
                assert self.job is not None
                return ChunkServer(channel, self.job, provider.temper)

        with contextlib.suppress(asyncssh.Error, OSError):
            connection = await asyncssh.run_server(
                tunnel.socket,
                server_factory=Server,
                server_host_keys=[self.temper.host_key or self.host_key],
                encoding=None,
                line_editor=False,
                config=None,
            )
            await connection.wait_closed()
        await tunnel.close()

    async def _execute(self, job: Job, process: Any, argv: list[str]) -> None:
        """Run a command beside the job, for as long as its tenant is there."""
        program = await asyncio.create_subprocess_exec(
            *argv, cwd=job.folder / "work", stdin=-1, stdout=-1
        )
        assert program.stdin is not None
        assert program.stdout is not None
        stdin = program.stdin

        async def carry_in() -> None:
            async for line in process.stdin:
                stdin.write(line)
            stdin.close()

        typing = asyncio.create_task(carry_in())
        self.keep(typing)
        self.programs.add(program)
        try:
            while line := await program.stdout.readline():
                lie = self.temper.clerk_lie
                process.stdout.write(_lie_line(line, lie) if lie else line)
                await process.stdout.drain()
            # What has said its last is not killed, for its code would be lost:
            # kill() reaps what has just ended, and the loop, whose child is then
            # gone, reports 255.
            code = await program.wait()
        finally:
            typing.cancel()
            with contextlib.suppress(ProcessLookupError):
                program.kill()
            self.programs.discard(program)
        process.exit(code)

    async def _serve_command(self, job: Job, process: Any) -> None:
        words = shlex.split(process.command or "")
        if words[:2] == ["sublet", "job"]:
            with contextlib.suppress(asyncssh.Error, OSError):
                await self.work.talk(job, process)
            process.exit(0)
        elif words[:2] == ["sublet", "logs"]:
            await send_log(job, process, words[2], int(words[3]))
        elif words[:2] == ["sublet", "exec"]:
            await self._execute(job, process, words[2:])
        else:
            process.exit(127)


def _lie_line(line: bytes, lie: str) -> bytes:
    """Say something else than the clerk: what a stranger could."""
    if b'"held"' in line:
        return line if lie != "held" else b'{"held":[7]}\n'
    said = json.loads(line)
    if lie == "foreign":
        said["task"] += 1_000
    elif lie == "twice":
        return line + line
    elif lie == "garbage":
        return b"[" * 100_000 + b"\n"
    elif lie == "endless":
        return b"x" * (5 << 20)
    elif lie in ("flood", "share"):
        said = {"task": said["task"], "progress": 0.5 if lie == "flood" else 7}
        line = json.dumps(said).encode() + b"\n"
        return line * (1_000 if lie == "flood" else 1)
    elif lie == "outcome":
        said["outcome"] = "splendid"
    elif lie == "cancelled":
        said["outcome"] = "cancelled"
    elif lie == "files":
        said["has_files"] = True
    return json.dumps(said).encode() + b"\n"


def _line(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key().decode().split()[:2])


@contextlib.asynccontextmanager
async def running_provider(
    url: str, *, key: Key, domain: Domain, folder: Path, temper: Temper | None = None
) -> AsyncIterator[FakeProvider]:
    """Run one for as long as the context lasts."""
    provider = FakeProvider(
        url, key=key, domain=domain, folder=folder, temper=temper or Temper()
    )
    async with provider:
        yield provider
