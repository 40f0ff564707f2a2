"""A real node for tests: real keys, SQLite, a socket on this machine."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from sublet.adapter.clock_system import SystemClock
from sublet.node.config import NodeConfig, parse_config
from sublet.node.serve import Running, serve
from sublet.service.ports import Clock
from sublet.service.submission import Candidate
from sublet.wire.codec import decode, encode
from sublet.wire.message import (
    Account,
    Appended,
    Appendix,
    Challenge,
    Dial,
    Hello,
    LeaseChanged,
    MarketInfo,
    Signed,
    Submission,
    Welcome,
)
from sublet.wire.request import authorize
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain
from tests.fakes.world import World, make_key

ANSWER_MAX = 1 << 24
START_WAIT_S = 20


class RunningClock:
    """The machine's time, as ``World`` asks for it."""

    @property
    def at_s(self) -> int:
        return int(time.time())


class JumpingClock(SystemClock):
    """A node's time that a test sets forward; half a minute is let pass by others."""

    ahead_s = 0

    def now_s(self) -> int:
        return super().now_s() + self.ahead_s


def make_home(home: Path, world: World) -> None:
    """Lay out a node's home with the world's keys."""
    if home.exists():
        return  # a node was here before: it goes on
    home.mkdir()
    for name, text in (
        ("key", world.operator.to_hex()),
        ("note_key", world.note_key.to_text()),
    ):
        path = home / name
        path.touch(mode=0o600)
        path.write_text(text + "\n")


def make_config(home: Path, **settings: Any) -> NodeConfig:
    return parse_config({"listen": "127.0.0.1:0", **settings}, home=home)


class Guest:
    """Speaks HTTP to one node, as any party would."""

    def __init__(self, url: str, http: aiohttp.ClientSession, world: World) -> None:
        self.url = url
        self.http = http
        self.world = world
        self.held: list[ProviderLink] = []  # one that nobody holds is closed

    async def learn(self) -> MarketInfo:
        """Ask for the market, and have the world sign for it from now on."""
        async with self.http.get(self.url + "/v1/market") as answer:
            info = decode(await answer.read(), MarketInfo, size_max=ANSWER_MAX)
        self.world.market = info.market
        self.world.market_id = info.id
        self.world.domain = Domain.of(info.market, info.id)
        return info

    def authorize(
        self, key: Key, path: str, *, method: str = "GET", body: bytes = b""
    ) -> dict[str, str]:
        value = authorize(
            key=key,
            domain=self.world.domain,
            method=method,
            path=path,
            body=body,
            at_s=int(time.time()),
            nonce=secrets.randbits(62),
        )
        return {"Authorization": value}

    async def get(self, path: str, *, key: Key | None = None) -> tuple[int, bytes]:
        headers = self.authorize(key, path) if key else {}
        async with self.http.get(self.url + path, headers=headers) as answer:
            return answer.status, await answer.read()

    async def post(
        self, path: str, body: bytes, *, key: Key | None = None
    ) -> tuple[int, bytes]:
        headers = self.authorize(key, path, method="POST", body=body) if key else {}
        async with self.http.post(
            self.url + path, data=body, headers=headers
        ) as answer:
            return answer.status, await answer.read()

    async def submit(self, *candidates: Candidate) -> tuple[Appended, ...]:
        """Submit; the whole must be answered with 200."""
        status, body = await self.post("/v1/documents", submission(*candidates))
        assert status == 200, body
        return decode(body, Appendix, size_max=ANSWER_MAX).results

    async def accept(self, *candidates: Candidate) -> tuple[Appended, ...]:
        """Submit, and have all of it accepted."""
        results = await self.submit(*candidates)
        assert not [each.fault for each in results if each.fault]
        return results

    async def account(self, key: Key) -> Account:
        _, body = await self.get("/v1/account", key=key)
        return decode(body, Account, size_max=ANSWER_MAX)

    async def link(self, provider: Key, *, instance: str = "0" * 32) -> "ProviderLink":
        """Connect a provider's control link, up to the welcome."""
        socket = await self.http.ws_connect(self.url + "/v1/link", max_msg_size=0)
        challenge = await read_message(socket, Challenge)
        assert challenge.market == self.world.domain.market
        path = f"/v1/link?nonce={challenge.nonce}"
        header = self.authorize(provider, path)["Authorization"]
        hello = Hello(
            provider=provider.address,
            authorization=header,
            instance=instance,
        )
        await socket.send_str(encode(hello).decode())
        return ProviderLink(socket, await read_message(socket, Welcome))

    async def open_socket(
        self, path: str, *, key: Key
    ) -> aiohttp.ClientWebSocketResponse:
        return await self.http.ws_connect(
            self.url + path, headers=self.authorize(key, path), max_msg_size=0
        )


class ProviderLink:
    """A provider's end of its control link."""

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse, welcome: Welcome
    ) -> None:
        self.socket = socket
        self.welcome = welcome

    async def next_message(self) -> LeaseChanged | Dial:
        message: LeaseChanged | Dial = await read_message(
            self.socket, LeaseChanged | Dial
        )
        return message

    async def wait_dial(self) -> Dial:
        """Skip lease changes up to the next dial request."""
        while True:
            message = await self.next_message()
            if isinstance(message, Dial):
                return message


async def read_message(socket: aiohttp.ClientWebSocketResponse, kind: Any) -> Any:
    frame = await socket.receive(timeout=START_WAIT_S)
    assert frame.type is aiohttp.WSMsgType.TEXT, frame
    return decode(frame.data.encode(), kind, size_max=ANSWER_MAX)


def signed(candidate: Candidate) -> Signed:
    signature = "0x" + candidate.signature.hex()
    return Signed(v=1, document=candidate.document, signature=signature)


def submission(*candidates: Candidate) -> bytes:
    return encode(Submission(documents=tuple(signed(each) for each in candidates)))


def fault_code(body: bytes) -> str:
    code: str = msgspec.json.decode(body)["code"]
    return code


@asynccontextmanager
async def running_node(
    home: Path,
    world: World,
    *,
    connector: aiohttp.BaseConnector | None = None,
    clock: Clock | None = None,
    **settings: Any,
) -> AsyncIterator[Guest]:
    """Run a node in this process for as long as the context lasts."""
    world.clock = RunningClock()  # type: ignore[assignment] # only at_s is asked for
    make_home(home, world)
    started: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(make_config(home, **settings), clock=clock, ready=started.set_result)
    )
    try:
        await asyncio.wait(
            [task, started], timeout=START_WAIT_S, return_when=asyncio.FIRST_COMPLETED
        )
        if task.done():
            task.result()
        async with aiohttp.ClientSession(connector=connector) as http:
            guest = Guest(started.result().url, http, world)
            await guest.learn()
            yield guest
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def stock(guest: Guest, *, gpus: int = 0) -> list[ProviderLink]:
    """Fill the tenant's wallet; bring every provider up, with an offer."""
    world = guest.world
    await guest.accept(world.credit(world.tenant.address, 50_000_000))
    links = [await guest.link(provider) for provider in world.providers]
    guest.held += links
    for number, provider in enumerate(world.providers):
        price = 400_000 + 10_000 * number
        await guest.accept(world.offer(provider, gpus=gpus, gpu_price=price))
    return links


STRANGER = make_key("stranger")
