"""Bytes between a tenant and a provider who cannot reach each other.

For each connection the provider is asked to dial back; then binary frames are
spliced both ways, with back-pressure, unread. What runs inside is end to end
encrypted (``docs/protocol.md`` section 6).
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import WSCloseCode, WSMsgType, web

from sublet.base import limits
from sublet.base.errors import Unavailable
from sublet.base.ids import Address, Digest
from sublet.node.race import race
from sublet.node.refusal import Forbidden, NotFound, TooMany

SESSION_BYTES = 16
CLOSE_S = 2  # for the other side to answer a close


class Session:
    """One dial: waits for the provider's end, then for the end of the splice."""

    def __init__(self, *, lease_id: Digest, provider: Address) -> None:
        """Begin unjoined, with a name that cannot be guessed."""
        self.id = secrets.token_hex(SESSION_BYTES)
        self.lease_id = lease_id
        self.provider = provider
        self.joined: asyncio.Future[web.WebSocketResponse] = (
            asyncio.get_running_loop().create_future()
        )
        self.ended = asyncio.Event()


class Relay:
    """The open sessions of a node."""

    def __init__(self, *, per_lease_max: int) -> None:
        """Begin with none."""
        self._per_lease_max = per_lease_max
        self._waiting: dict[str, Session] = {}
        self._open: Counter[Digest] = Counter()

    @contextmanager
    def open(self, *, lease_id: Digest, provider: Address) -> Iterator[Session]:
        """Hold a session for as long as the context lasts.

        Raises:
            TooMany: the lease has as many connections as it may.
        """
        if self._open[lease_id] >= self._per_lease_max:
            raise TooMany(
                f"lease {lease_id} has {self._per_lease_max} open connections, which "
                "is the most; close one first",
                code="too_many_connections",
            )
        session = Session(lease_id=lease_id, provider=provider)
        self._open[lease_id] += 1
        self._waiting[session.id] = session
        try:
            yield session
        finally:
            self._waiting.pop(session.id, None)
            session.joined.cancel()
            session.ended.set()
            self._open[lease_id] -= 1
            if not self._open[lease_id]:
                del self._open[lease_id]

    def take(self, session_id: str, *, provider: Address) -> Session:
        """Hand the session to its provider, once.

        Raises:
            NotFound: no such session, joined already, or nobody waits any more.
            Forbidden: it waits for another provider; it goes on waiting.
        """
        session = self._waiting.get(session_id)
        if session is None:
            raise NotFound(
                "no such relay session: it was used already, or nobody waits for it "
                "any more",
                code="unknown_session",
            )
        if session.provider != provider:
            raise Forbidden(
                "this relay session waits for another provider", code="not_yours"
            )
        del self._waiting[session_id]
        return session


async def wait_joined(session: Session, *, timeout_s: float) -> web.WebSocketResponse:
    """Wait for the provider's end.

    Raises:
        Unavailable: the provider did not dial back in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await session.joined
    except TimeoutError:
        raise Unavailable(
            "the provider did not dial back in time; try again, its machine may be "
            "overloaded or gone",
            code="provider_unreachable",
            retry_after_s=3,
        ) from None


async def splice(
    tenant: web.WebSocketResponse,
    provider: web.WebSocketResponse,
    *,
    idle_s: float,
    count: Callable[[int], None],
) -> None:
    """Carry binary frames both ways until one side ends or nothing moves."""
    loop = asyncio.get_running_loop()
    moved_at = loop.time()

    async def watch_idle() -> None:
        rest_s = idle_s
        while rest_s > 0:
            await asyncio.sleep(rest_s)
            rest_s = moved_at + idle_s - loop.time()

    def note(size_bytes: int) -> None:
        nonlocal moved_at
        moved_at = loop.time()
        count(size_bytes)

    try:
        await race(
            _pump(tenant, provider, note=note),
            _pump(provider, tenant, note=note),
            watch_idle(),
        )
    finally:
        # What was sent before is delivered: the close frame goes behind it.
        await asyncio.gather(
            tenant.close(code=WSCloseCode.GOING_AWAY, drain=False),
            provider.close(code=WSCloseCode.GOING_AWAY, drain=False),
        )


async def _pump(
    source: web.WebSocketResponse,
    target: web.WebSocketResponse,
    *,
    note: Callable[[int], None],
) -> None:
    # One frame at a time: the next is not taken before this one was accepted, so a
    # slow reader slows the writer and nothing piles up here.
    while True:
        message = await source.receive()
        if message.type is not WSMsgType.BINARY:
            return
        try:
            await target.send_bytes(message.data)
        except ConnectionError:
            return
        note(len(message.data))


def make_end() -> web.WebSocketResponse:
    """Make one end of a relay: uncompressed (it is ciphertext), bounded frames.

    No pings: behind a slow reader they would arrive late and cut a healthy stream.
    """
    return web.WebSocketResponse(
        compress=False,
        timeout=CLOSE_S,
        # aiohttp refuses frames of this size already.
        max_msg_size=limits.RELAY_BYTES_PER_MESSAGE_MAX + 1,
    )
