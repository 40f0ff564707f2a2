"""JSON-RPC over HTTP, with one or several servers, none of which is trusted.

A server that does not answer, answers too much, too late, or something else than was
asked is left for the next one; when all have failed, after a pause. Addresses of RPCs
hold API keys: no log, ``repr`` or error shows more than the host, and what a server
says is shown without them. Foreign exceptions end here.

Not here: what is asked and what the answers mean (``chain_rpc``).
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import msgspec

from sublet.base import limits
from sublet.base.errors import PeerFault, Refused, SubletError, Unavailable
from sublet.service.chain_port import ChainLied

T = TypeVar("T")
Read = Callable[[Any], T]  # makes of an answer what was asked for, or raises ChainLied

ROUNDS_MAX = 4  # over all servers, until a question counts as not answered
PAUSE_S = 0.25  # after the first round; doubled each time
TIMEOUT_S = 10.0  # of one answer
CONNECT_S = 5.0
_SHOWN_MAX = 200  # characters of what a server says
_SECRET_LENGTH_MIN = 6  # shorter parts of a path, such as "v2", are no secrets
_BUSY_CODES = frozenset({-32005, -32029, -32097, 429})  # "limit exceeded", by vendors


class Objection(Exception):
    """A server understood the question and says no."""

    def __init__(self, code: int, message: str, data: Any) -> None:
        """Take JSON-RPC's own ``code``, what may be shown, and raw ``data``."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class RpcUrl:
    """The address of an RPC. Shows its host and nothing else."""

    __slots__ = ("_secrets", "_url", "host")

    def __init__(self, url: str) -> None:
        """Take an address.

        Raises:
            Refused: ``bad_rpc_url``; the text is not shown.
        """
        try:
            parts = urlsplit(url)
            port, host = parts.port, parts.hostname
        except ValueError:
            parts, port, host = urlsplit(""), None, None
        if not host or parts.scheme not in ("http", "https"):
            raise Refused(
                "the address of an RPC is written like https://host/path; what was "
                "given is not shown, since it may hold a key",
                code="bad_rpc_url",
                field="rpc",
            )
        self._url = url
        self.host = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
        words = [url, parts.path, parts.query, parts.username, parts.password]
        words += parts.path.split("/") + [value for _, value in parse_qsl(parts.query)]
        found = {word for word in words if word and len(word) >= _SECRET_LENGTH_MIN}
        self._secrets = sorted(found, key=len, reverse=True)

    def reveal(self) -> str:
        """Give the address, for the one request."""
        return self._url

    def mask(self, text: str) -> str:
        """Make what a server said fit to be shown."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return "".join(c if c.isprintable() else " " for c in text)[:_SHOWN_MAX]

    def __repr__(self) -> str:
        return f"RpcUrl({self.host})"


class JsonRpc:
    """Asks servers until one answers. Use it as an async context."""

    def __init__(self, urls: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> None:
        """Take the addresses, best first; nothing is opened yet."""
        if not urls:
            raise Refused("name at least one RPC", code="bad_rpc_url", field="rpc")
        self._urls = [RpcUrl(url) for url in urls]
        self._timeout_s = timeout_s
        self._at = 0
        self._numbers = itertools.count(1)
        self._http: aiohttp.ClientSession | None = None
        self._sound: set[RpcUrl] = set()

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(
                total=self._timeout_s, sock_connect=CONNECT_S
            ),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "Content-Type": "application/json"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._http is not None:
            await self._http.close()

    def __repr__(self) -> str:
        return f"JsonRpc({', '.join(url.host for url in self._urls)})"

    def move(self) -> None:
        """Ask the next server from now on; it has to show anew what it is."""
        self._sound.discard(self._urls[self._at])
        self._at = (self._at + 1) % len(self._urls)

    async def ask(
        self, method: str, params: Sequence[Any], read: Read[T], *, examine: Read[None]
    ) -> T:
        """Ask until there is an answer that makes sense.

        Args:
            method: as JSON-RPC names it.
            params: its arguments.
            read: of the result.
            examine: of the answer to ``eth_chainId``, once for each server; it raises
                what is wrong with it.

        Raises:
            Objection: a server says no.
            Unavailable: nobody answers.
            ChainLied: the last server that answered makes no sense.
            Refused: whatever ``examine`` raises.
        """
        pause_s = PAUSE_S
        for left in reversed(range(ROUNDS_MAX)):
            for _ in self._urls:
                try:
                    url = self._urls[self._at]
                    if url not in self._sound:
                        examine(await self._ask_once(url, "eth_chainId", ()))
                        self._sound.add(url)
                    return read(await self._ask_once(url, method, params))
                except (Unavailable, PeerFault) as fault:
                    self.move()
                    last: SubletError = fault
            if left:
                await asyncio.sleep(pause_s)
                pause_s *= 2
        raise last

    async def _ask_once(self, url: RpcUrl, method: str, params: Sequence[Any]) -> Any:
        number = next(self._numbers)
        question = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        status, body = await self._post(url, msgspec.json.encode(question))
        try:
            answer = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError):
            # Proxies say in HTML that what is behind them is gone.
            raise _silent(url, f"says HTTP {status} and no JSON") from None
        if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
            raise _object(url, status, answer["error"])
        if status != 200:
            raise _silent(url, f"says HTTP {status}")
        if not isinstance(answer, dict) or "result" not in answer:
            raise ChainLied(f"the RPC {url.host} answers {method} with no result")
        if answer.get("id") != number:
            raise ChainLied(f"the RPC {url.host} answers a question nobody asked it")
        return answer["result"]

    async def _post(self, url: RpcUrl, question: bytes) -> tuple[int, bytes]:
        assert self._http is not None, "use it as an async context"
        body = bytearray()
        try:
            async with self._http.post(
                url.reveal(), data=question, allow_redirects=False
            ) as answer:
                async for piece in answer.content.iter_any():
                    body += piece
                    if len(body) > limits.RPC_BYTES_MAX:
                        raise ChainLied(
                            f"the RPC {url.host} answers with more than "
                            f"{limits.RPC_BYTES_MAX} bytes"
                        )
                return answer.status, bytes(body)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            # Without the cause, which shows the whole address.
            raise _silent(url, f"does not answer ({type(exc).__name__})") from None


def _silent(url: RpcUrl, what: str) -> Unavailable:
    return Unavailable(
        f"the RPC {url.host} {what}; it is asked again, and nothing is lost meanwhile",
        code="rpc_unavailable",
    )


def _object(url: RpcUrl, status: int, error: dict[str, Any]) -> Exception:
    code, message = error.get("code"), error.get("message")
    if not isinstance(code, int) or not isinstance(message, str):
        return ChainLied(f"the RPC {url.host} says no in words that nobody knows")
    if status == 429 or code in _BUSY_CODES:
        return _silent(url, "wants to be asked less often")
    if code == -32603 and status // 100 == 5:
        return _silent(url, "has a fault of its own")
    return Objection(code, url.mask(message), error.get("data"))
