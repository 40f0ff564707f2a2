"""The control link to a node, and the relayed connections that it asks for.

The provider only dials out: one WebSocket for control, one more for each connection
that a tenant wants. Whatever a broken link swallowed comes again with the next
welcome. Foreign exceptions end here.

Not here: what lease changes mean (``agent``), SSH (``ssh_server``).
"""

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp

from sublet.base import limits
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.provider.journal import Journal
from sublet.sdk.tunnel import Tunnel
from sublet.service.ports import Clock
from sublet.wire import codec
from sublet.wire.message import Challenge, Hello, NodeSays, Welcome
from sublet.wire.request import authorize
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain

PAUSE_S = 0.25  # after the first break; doubled each time
PAUSE_S_MAX = 15.0
HELLO_S = 10  # for challenge and welcome
CONNECT_S = 10
SILENT_PINGS = 3  # a node that misses so many pings is gone
FRAME_BYTES_MAX = 4 * 1024 * 1024  # a welcome lists all open leases
NONCE_BITS = 62
REPLACED_CLOSE = 4_409  # as a node closes a link whose place a newer one took
IN_USE_CLOSE = 4_423  # the node: another process with this key is linked


class LinkLost(Unavailable):
    """The control link to the node is gone; it is dialled again."""

    code = "link_lost"


class LinkReplaced(LinkLost):
    """Another link with this key took this one's place at the same node."""

    code = "link_replaced"


class KeyInUse(Refused):
    """Another process offers with this provider's key, and its link stands."""

    code = "key_in_use"


class MarketLink:
    """Dials one node with one key. Use it as an async context."""

    def __init__(
        self, url: str, *, key: Key, domain: Domain, clock: Clock, instance: str
    ) -> None:
        """Take the address; nothing is opened yet.

        ``instance`` is drawn once by each process: all its links have the same.
        """
        self._url = url
        self._key = key
        self._domain = domain
        self._clock = clock
        self._instance = instance
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "MarketLink":
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()

    async def listen(self) -> AsyncGenerator[Any, None]:
        """Say hello; give the welcome and then each message, until the link breaks.

        Raises:
            LinkLost: it broke, or never stood.
            KeyInUse: another process with this key is linked.
            PeerFault: what came is not of this protocol, or of another market.
        """
        socket = await self._connect("/v1/link", headers={})
        try:
            welcome = await self._greet(socket)
            yield welcome
            silent_s = max(welcome.ping_s, 1) * SILENT_PINGS
            while True:
                yield await _hear(socket, timeout_s=silent_s)
        finally:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(socket.close(), 1)

    async def _greet(self, socket: aiohttp.ClientWebSocketResponse) -> Welcome:
        challenge = await _hear(socket, timeout_s=HELLO_S)
        if not isinstance(challenge, Challenge):
            raise PeerFault("the node did not challenge", code="bad_link")
        if challenge.market != self._domain.market:
            raise PeerFault(
                f"this node serves market {challenge.market[:18]}…, not "
                f"{self._domain.market[:18]}…; if that is meant, run sublet provider "
                "init again",
                code="market_changed",
            )
        hello = Hello(
            provider=self._key.address,
            authorization=self._authorize(f"/v1/link?nonce={challenge.nonce}"),
            instance=self._instance,
        )
        await socket.send_str(codec.encode(hello).decode())
        welcome = await _hear(socket, timeout_s=HELLO_S)
        if not isinstance(welcome, Welcome):
            raise PeerFault("the node did not welcome", code="bad_link")
        return welcome

    async def join(self, session: str) -> Tunnel:
        """Open this end of a relayed connection.

        Raises:
            LinkLost: nobody waits for it any more, or the node is gone.
        """
        path = f"/v1/relay/{session}"
        headers = {"Authorization": self._authorize(path)}
        return Tunnel(await self._connect(path, headers=headers))

    def _authorize(self, path: str) -> str:
        return authorize(
            key=self._key,
            domain=self._domain,
            method="GET",
            path=path,
            body=b"",
            at_s=self._clock.now_s(),
            nonce=secrets.randbits(NONCE_BITS),
        )

    async def _connect(
        self, path: str, *, headers: dict[str, str]
    ) -> aiohttp.ClientWebSocketResponse:
        if self._http is None:
            raise AssertionError("use the link as an async context")
        is_relay = path.startswith("/v1/relay/")
        size_max = limits.RELAY_BYTES_PER_MESSAGE_MAX + 1
        try:
            async with asyncio.timeout(CONNECT_S):
                return await self._http.ws_connect(
                    self._url + path,
                    headers=headers,
                    compress=0,
                    autoping=is_relay,  # on the link, pings are what is listened for
                    max_msg_size=size_max if is_relay else FRAME_BYTES_MAX,
                )
        except aiohttp.ClientConnectorDNSError as exc:
            raise LinkLost(
                f"no name server tells where {self._url} is", code="name_not_found"
            ) from exc
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise LinkLost(f"no node at {self._url}: {_brief(exc)}") from exc


async def _hear(socket: aiohttp.ClientWebSocketResponse, *, timeout_s: float) -> Any:
    """Wait for the next message; pings keep the link, and are answered.

    Raises:
        LinkLost: it was closed, or silent for too long.
        PeerFault: it is no message.
    """
    while True:
        try:
            frame = await socket.receive(timeout=timeout_s)
        except TimeoutError:
            raise LinkLost("the node is silent") from None
        if frame.type is aiohttp.WSMsgType.PING:
            with contextlib.suppress(ConnectionError):
                await socket.pong(frame.data)
        elif frame.type is aiohttp.WSMsgType.TEXT:
            return codec.decode(frame.data.encode(), NodeSays, size_max=FRAME_BYTES_MAX)
        elif frame.type is aiohttp.WSMsgType.CLOSE and frame.data == IN_USE_CLOSE:
            raise KeyInUse(
                "another agent offers with this provider's key, and its link stands; a "
                "key is for one machine: stop the other agent, or give this machine a "
                "home and key of its own with: sublet provider init --home FOLDER"
            )
        elif frame.type is not aiohttp.WSMsgType.PONG:
            why = frame.extra if isinstance(frame.extra, str) else ""
            if frame.data == REPLACED_CLOSE:
                raise LinkReplaced("another link with this key stands at that node")
            raise LinkLost(f"the node closed the link: {frame.data} {why}".strip())


async def listen_for_ever(
    link: MarketLink, *, journal: Journal
) -> AsyncGenerator[Any, None]:
    """Give welcomes and messages; dial again, with jitter, whenever the link breaks.

    A None stands for each break.

    Raises:
        LinkReplaced: another link with this key took its place.
        KeyInUse: another process with this key is linked.
    """
    pause_s = PAUSE_S
    while True:
        try:
            async with contextlib.aclosing(link.listen()) as messages:
                async for message in messages:
                    pause_s = PAUSE_S
                    yield message
        except LinkReplaced as fault:
            journal.warn("link_down", code=fault.code, why=fault.message)
            yield None
            raise
        except (Unavailable, PeerFault) as fault:
            journal.warn("link_down", code=fault.code, why=fault.message)
        yield None
        # Jitter, so that a node that comes back is not met by all at once.
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311
        pause_s = min(2 * pause_s, PAUSE_S_MAX)


def _brief(exc: BaseException) -> str:
    text = str(exc) or type(exc).__name__
    return "".join(char for char in text if char.isprintable())[:200]
