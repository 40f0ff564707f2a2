"""The calls about detached jobs, one method each. What they carry is ciphertext."""

from sublet.base.ids import Digest
from sublet.sdk.connection import Connection
from sublet.sdk.exchange import Call
from sublet.wire import codec
from sublet.wire.detached import Delegate, DetachedPlan, JobView
from sublet.wire.message import LogEntry


class DetachedJobs:
    """One tenant's detached jobs in one market. Errors are those of a connection."""

    def __init__(self, connection: Connection) -> None:
        """Take an open connection."""
        self._connection = connection

    async def offer(self, offer_id: Digest) -> LogEntry:
        """Ask for an offer as its provider signed it; the caller checks that."""
        return await self._connection.ask(
            Call("GET", f"/v1/offers/{offer_id}", LogEntry)
        )

    async def delegate(self, job: str) -> Delegate:
        """Ask which key would order and pay for a job."""
        return await self._connection.ask(
            Call("GET", f"/v1/jobs/{job}/delegate", Delegate, is_signed=True)
        )

    async def put(self, plan: DetachedPlan) -> JobView:
        """Leave a plan."""
        path, body = f"/v1/jobs/{plan.id}", codec.encode(plan)
        return await self._connection.ask(
            Call("PUT", path, JobView, body, is_signed=True)
        )

    async def put_chunk(self, job: str, key: Digest, content: bytes) -> None:
        """Bring one chunk of its inputs."""
        path = f"/v1/jobs/{job}/chunks/{key}"
        await self._connection.ask(Call("PUT", path, bytes, content, is_signed=True))

    async def start(self, job: str) -> JobView:
        """Let it begin."""
        path = f"/v1/jobs/{job}/start"
        return await self._connection.ask(Call("POST", path, JobView, is_signed=True))

    async def view(self, job: str) -> JobView:
        """Ask how it stands."""
        return await self._connection.ask(
            Call("GET", f"/v1/jobs/{job}", JobView, is_signed=True)
        )

    async def stop(self, job: str) -> JobView:
        """Stop it; what it ran is paid."""
        path = f"/v1/jobs/{job}/stop"
        return await self._connection.ask(Call("POST", path, JobView, is_signed=True))

    async def forget(self, job: str) -> None:
        """Have everything of a job that is over deleted."""
        await self._connection.ask(
            Call("DELETE", f"/v1/jobs/{job}", bytes, is_signed=True)
        )

    async def chunk(self, job: str, key: Digest) -> bytes:
        """Fetch one chunk; the caller checks it."""
        return await self._fetch(f"/v1/jobs/{job}/chunks/{key}")

    async def log(self, job: str, lease: Digest, stream: str, *, offset: int) -> bytes:
        """Fetch a piece of a sealed stream from a byte on."""
        path = f"/v1/jobs/{job}/logs/{lease}/{stream}?offset={offset}"
        return await self._fetch(path)

    async def _fetch(self, path: str) -> bytes:
        return await self._connection.ask(Call("GET", path, bytes, is_signed=True))
