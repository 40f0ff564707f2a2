"""The control link: one outbound WebSocket of each provider.

Challenge, hello, welcome; then the node pushes lease changes, orders to bid for, and dial requests.
Whatever a broken link swallowed comes again with the next welcome, so a link that
does not keep up is simply ended.

Not here: the admission (``auth``), when a provider counts as lost (``liveness``).
"""

import asyncio
from collections.abc import Callable

from aiohttp import WSCloseCode, WSMsgType, web

from sublet.base.errors import Unavailable
from sublet.base.ids import Address
from sublet.core.book.open_order import OpenOrder
from sublet.core.lease.phase import Lease
from sublet.node.fanout import FellBehind, Subscription
from sublet.node.race import race
from sublet.wire.codec import encode
from sublet.wire.message import (
    Dial,
    LeaseChanged,
    NodeSays,
    OrderOpened,
    Welcome,
)

FRAME_BYTES_MAX = 4_096  # of what a provider says here: a hello, nothing else
CLOSE_S = 2  # for the other side to answer a close
REPLACED_CLOSE = 4_409  # a newer link of the same provider took over
BEHIND_CLOSE = 4_429  # the provider did not keep up; come again
DENIED_CLOSE = 4_401  # the hello was not accepted
IN_USE_CLOSE = 4_423  # another process with the same key is linked, and answers
PROBE_S = 2.0  # for the older of two to show that it is there


class Link:
    """The link of one admitted provider."""

    def __init__(
        self, provider: Address, socket: web.WebSocketResponse, *, instance: str
    ) -> None:
        """Take a socket on which the hello was accepted."""
        self.provider = provider
        self.instance = instance  # of the provider's process
        self.is_broken_off = False  # by the other side, without a goodbye
        self._socket = socket
        self._heard = asyncio.Event()
        self._replaced = asyncio.Event()

    async def say(self, message: Welcome | LeaseChanged | OrderOpened | Dial) -> None:
        """Send one message.

        Raises:
            Unavailable: the link broke.
        """
        await send(self._socket, message)

    async def is_alive(self) -> bool:
        """Ask the peer whether it is there: a machine may have gone without a word."""
        self._heard.clear()
        try:
            async with asyncio.timeout(PROBE_S):
                await self._socket.ping()
                await self._heard.wait()
        except (TimeoutError, ConnectionError):
            return False
        return True

    def end_replaced(self) -> None:
        """End the link because a newer one stands; twice is harmless."""
        self._replaced.set()

    async def run(
        self,
        changes: Subscription[Lease],
        calls: Subscription[OpenOrder],
        *,
        heard: Callable[[], None],
        ping_s: float,
        silent_s: float,
    ) -> int:
        """Push changes until the link is closed, replaced, too slow or silent.

        The socket stays as it is: give the code to close it with.

        Args:
            changes: the lease changes of this provider.
            calls: the orders that it is asked to bid for.
            heard: called at each frame that comes in, pongs included.
            ping_s: seconds between two pings.
            silent_s: seconds without any frame after which the link is given up.
        """
        code: int = WSCloseCode.GOING_AWAY
        try:
            await race(
                self._listen(heard, silent_s),
                self._forward(changes),
                self._call(calls),
                self._ping(ping_s),
                self._wait_replaced(),
            )
        except FellBehind:
            code = BEHIND_CLOSE
        except Unavailable:
            self.is_broken_off = True  # the close below is for form
        except TimeoutError:
            pass  # the peer is silent: perhaps it is there all the same
        if self._replaced.is_set():
            code = REPLACED_CLOSE
        return code

    async def _listen(self, heard: Callable[[], None], silent_s: float) -> None:
        while True:
            frame = await self._socket.receive(timeout=silent_s)
            if frame.type is WSMsgType.PING:
                await self._socket.pong(frame.data)
            elif frame.type is not WSMsgType.PONG:
                # Closed in order, broken off, or words where none are foreseen.
                self.is_broken_off = frame.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
                return
            heard()
            self._heard.set()

    async def _forward(self, changes: Subscription[Lease]) -> None:
        while True:
            await self.say(LeaseChanged(lease=await changes.wait_change()))

    async def _call(self, calls: Subscription[OpenOrder]) -> None:
        while True:
            await self.say(OrderOpened(order=await calls.wait_change()))

    async def _ping(self, ping_s: float) -> None:
        while True:
            await asyncio.sleep(ping_s)
            try:
                await self._socket.ping()
            except ConnectionError:
                self.is_broken_off = True
                return

    async def _wait_replaced(self) -> None:
        await self._replaced.wait()


class Links:
    """The links of a node, one for each provider: the newest."""

    def __init__(self) -> None:
        """Begin with none."""
        self._links: dict[Address, Link] = {}

    def __len__(self) -> int:
        """Count the providers that are linked."""
        return len(self._links)

    def find(self, provider: Address) -> Link | None:
        """Give the provider's link, or None."""
        return self._links.get(provider)

    def put(self, link: Link) -> None:
        """Take a new link; an older one of the same provider is ended."""
        older = self._links.get(link.provider)
        self._links[link.provider] = link
        if older is not None:
            older.end_replaced()

    def remove(self, link: Link) -> bool:
        """Forget this link; False where a newer one has taken its place."""
        if self._links.get(link.provider) is not link:
            return False
        del self._links[link.provider]
        return True


def make_socket() -> web.WebSocketResponse:
    """Make the node's end of a control link; pongs are seen, not swallowed."""
    return web.WebSocketResponse(
        autoping=False,
        compress=False,
        timeout=CLOSE_S,
        max_msg_size=FRAME_BYTES_MAX,
    )


async def send(socket: web.WebSocketResponse, message: NodeSays) -> None:
    """Send a message as one text frame.

    Raises:
        Unavailable: the connection broke.
    """
    try:
        await socket.send_str(encode(message).decode())
    except ConnectionError:
        raise Unavailable(
            "the provider's control link broke; it will come again",
            code="provider_unreachable",
            retry_after_s=3,
        ) from None
