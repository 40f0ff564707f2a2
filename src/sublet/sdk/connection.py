"""One market over HTTP: questions, documents, and byte streams to its providers.

The market is pinned: its id, once seen, is part of everything that is signed, so a
market that changes under its address can do nothing with what it gets. Every call is
idempotent (documents are deduplicated by their id), so what did not answer is asked
again, a few times, at another node of the market where one is known. Foreign
exceptions end here.

Not here: what the bytes mean (``exchange``), the conversation with a provider
(``job_channel``).
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from sublet.base import limits
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Digest
from sublet.core.document import AnyDocument, Market, Order
from sublet.core.lease.phase import Lease, Phase
from sublet.sdk import exchange
from sublet.sdk.log_fetch import fetch_log
from sublet.sdk.nodes import Nodes
from sublet.sdk.tunnel import Tunnel
from sublet.service.ports import Clock
from sublet.wire import codec
from sublet.wire.message import (
    Account,
    Appended,
    MarketInfo,
    OfferRow,
    Quote,
    Signed,
)
from sublet.wire.request import authorize
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain, market_id

T = TypeVar("T")

TRIES_MAX = 4  # of one call that finds nobody there
PAUSE_S = 0.15  # before the second try; doubled each time
PAUSE_S_MAX = 5.0
TIMEOUT_S = 30.0  # of one answer
CONNECT_S = 5.0
HEARTBEAT_S = 20.0  # between two pings on a stream of events; half of it to answer
CLOSE_S = 2.0  # for the market to answer a close
NONCE_BITS = 62
_FAULT_HEADER = "Sublet-Fault"
_BUSY = frozenset({"too_many_requests", "market_busy"})  # no reason to go elsewhere
_OPEN_FRAME = '{"type":"open"}'


class MarketChanged(Refused):
    """The market at this address is another one than before."""

    code = "market_changed"


class Connection:
    """Talks to one market with one key. Use it as an async context."""

    def __init__(
        self,
        url: str,
        *others: str,
        key: Key,
        clock: Clock,
        market: Market | None = None,
    ) -> None:
        """Take the addresses and the pin; nothing is opened yet.

        Args:
            url: as ``parse_url`` gives it.
            others: more nodes of the same market, for when that one is gone.
            key: signs requests and documents.
            clock: for the time in them.
            market: the market's own document, where it was seen before.
        """
        self.url = url
        self.nodes = Nodes((url, *others))
        self.key = key
        self._checked = {url}  # nodes that need not show that they are of this market
        self._clock = clock
        self._http: aiohttp.ClientSession | None = None
        self._market = market
        self._domain = Domain.of(market, market_id(market)) if market else None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=CONNECT_S),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; twice is harmless."""
        if self._http is not None:
            await self._http.close()

    # ---- the market -------------------------------------------------------------

    async def learn_market(self) -> Market:
        """Give the pinned market document; ask for it and pin it the first time.

        Raises:
            PeerFault: the document is not the one that its id says.
            Unavailable: nobody answers at this address.
        """
        if self._market is None:
            info = await self.ask(exchange.ask_market())
            market = read_market(info)
            self.nodes.learn(info.nodes)
            self._market, self._domain = market, Domain.of(market, info.id)
        return self._market

    async def domain(self) -> Domain:
        """Give the domain in which documents of this market are signed."""
        await self.learn_market()
        if self._domain is None:
            raise AssertionError("a learnt market has a domain")
        return self._domain

    async def market(self) -> MarketInfo:
        """Ask for the state of the market.

        Raises:
            MarketChanged: it is not the one that was pinned.
        """
        info = await self.ask(exchange.ask_market())
        self._check_same(info, self.nodes.current)
        self.nodes.learn(info.nodes)
        return info

    def _check_same(self, info: MarketInfo, url: str) -> None:
        read_market(info)
        if self._domain is not None and info.id != self._domain.market:
            raise MarketChanged(
                f"{url} is now market {info.id[:18]}…, but it was "
                f"{self._domain.market[:18]}… before; nothing signed for one counts on "
                "the other. If you expected a new market there, accept it with: "
                "sublet wallet trust",
                detail={"was": self._domain.market, "now": info.id},
            )

    async def offers(self) -> tuple[OfferRow, ...]:
        """List what is offered now."""
        return (await self.ask(exchange.ask_offers())).offers

    async def quote(self, order: Order) -> Quote:
        """Ask what this order would get now; nothing is bought."""
        return await self.ask(exchange.ask_quote(order))

    # ---- documents --------------------------------------------------------------

    async def sign(self, document: AnyDocument) -> Signed:
        """Sign a document with the key of this connection."""
        return codec.sign(document, key=self.key, domain=await self.domain())

    async def submit(self, *documents: AnyDocument) -> tuple[Appended, ...]:
        """Sign documents and append them; each answer may carry a fault."""
        signed = [await self.sign(document) for document in documents]
        return await self.submit_signed(*signed)

    async def submit_signed(self, *documents: Signed) -> tuple[Appended, ...]:
        """Append documents that are signed already.

        Raises:
            Refused: the whole submission; ``MarketChanged`` where that is the cause.
            Unavailable: the market does not answer; the documents may be in the log.
        """
        try:
            appendix = await self.ask(exchange.submit(documents))
        except Refused as fault:
            # A single document is answered with its own status.
            appendix = exchange.refuse_one(fault, documents, await self.domain())
        results = exchange.check_answered(len(documents), appendix).results
        if any(result.fault is not None for result in results):
            await self._check_pin(results)
        return results

    async def _check_pin(self, results: tuple[Appended, ...]) -> None:
        # On a changed market every signature recovers to a stranger: say the cause.
        strange = {"wrong_signer", "bad_signature", "not_yours", "unknown_party"}
        codes = {result.fault.code for result in results if result.fault}
        if codes & strange:
            await self.market()

    # ---- the wallet and the leases ----------------------------------------------

    async def account(self) -> Account:
        """Ask for the wallet of this key."""
        return await self.ask(exchange.ask_account())

    async def leases(self, *, is_all: bool = False) -> tuple[Lease, ...]:
        """List the leases of this key: open ones, or all."""
        return (await self.ask(exchange.ask_leases(is_all=is_all))).leases

    async def lease(self, lease_id: Digest) -> Lease:
        """Ask for one lease of this key."""
        return await self.ask(exchange.ask_lease(lease_id))

    async def faucet(self) -> Account:
        """Ask for credits, where the operator gives them away."""
        return await self.ask(exchange.ask_faucet())

    async def watch_lease(self, lease_id: Digest) -> AsyncIterator[Lease]:
        """Give the lease now and after each change, until it is settled.

        Raises:
            Unavailable: the market is gone; watch again later.
        """
        path = f"/v1/leases/{lease_id}/events"
        socket = await self._upgrade(
            path, size_max=limits.DOCUMENT_BYTES_MAX, heartbeat_s=HEARTBEAT_S
        )
        try:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                lease = codec.decode(
                    message.data.encode(), Lease, size_max=limits.DOCUMENT_BYTES_MAX
                )
                yield lease
                if lease.phase is Phase.SETTLED:
                    return
        finally:
            await socket.close()
        raise Unavailable("the market stopped telling about the lease")

    async def fetch_log(self, path: str) -> bytes:
        """Fetch what the market shows of its log, as it is.

        Raises:
            Unavailable: nobody answers.
            Refused: what the market says it refuses.
        """
        return await self._try_nodes(lambda url: fetch_log(self._session(), url, path))

    async def dial(self, lease_id: Digest) -> Tunnel:
        """Open a byte stream to the provider of a lease, through the market's relay.

        Raises:
            Unavailable: the provider is not connected just now.
        """
        path = f"/v1/leases/{lease_id}/dial"
        size_max = limits.RELAY_BYTES_PER_MESSAGE_MAX + 1
        socket = await self._upgrade(path, size_max=size_max)
        try:
            first = await socket.receive(timeout=TIMEOUT_S)
        except TimeoutError as exc:
            raise Unavailable("the provider did not answer the dial") from exc
        if first.type is not aiohttp.WSMsgType.TEXT or first.data != _OPEN_FRAME:
            await socket.close()
            raise Unavailable("the provider did not answer the dial")
        return Tunnel(socket)

    # ---- moving bytes -----------------------------------------------------------

    async def ask(self, call: exchange.Call[T]) -> T:
        """Send one call; ask again, a few times, where nobody answers."""
        return await self._try_nodes(lambda url: self._ask_once(call, url))

    async def _try_nodes(self, work: Callable[[str], Awaitable[T]]) -> T:
        """Try with one node after the other; once all have failed, after a pause."""
        pause_s, tried = PAUSE_S, set[str]()
        for left in reversed(range(max(TRIES_MAX, 2 * len(self.nodes)))):
            url = self.nodes.current
            try:
                await self._check_node(url)
                return await work(url)
            except Unavailable as fault:
                if not left:
                    raise
                if fault.code not in _BUSY:
                    tried.add(url)
                    self.nodes.move(away_from=url)
                    if self.nodes.current not in tried:
                        continue
                tried.clear()
                pause_s = min(max(pause_s, fault.retry_after_s), PAUSE_S_MAX)
            await asyncio.sleep(pause_s)
            pause_s *= 2
        raise AssertionError("the last try returns or raises")

    async def _check_node(self, url: str) -> None:
        """Have a node that was not talked to before show that it is of this market."""
        if url not in self._checked:
            self._check_same(await self._ask_once(exchange.ask_market(), url), url)
            self._checked.add(url)

    async def _ask_once(self, call: exchange.Call[T], url: str) -> T:
        headers = {"Content-Type": "application/json"} if call.body else {}
        if call.is_signed:
            headers["Authorization"] = await self._authorize(
                call.method, call.path, call.body
            )
        try:
            async with self._session().request(
                call.method,
                url + call.path,
                data=call.body or None,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                body = await _read_body(answer)
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise _unreachable(url, exc) from exc
        return exchange.read_answer(call, status=answer.status, body=body)

    async def _upgrade(
        self, path: str, *, size_max: int, heartbeat_s: float | None = None
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket at one of the nodes; each is tried once.

        A provider may be linked to another node than the one that is asked.
        """
        for left in reversed(range(len(self.nodes))):
            url = self.nodes.current
            try:
                await self._check_node(url)
                return await _open_socket(
                    self._session(),
                    url + path,
                    headers={"Authorization": await self._authorize("GET", path)},
                    size_max=size_max,
                    heartbeat_s=heartbeat_s,
                )
            except Unavailable:
                self.nodes.move(away_from=url)
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _authorize(self, method: str, path: str, body: bytes = b"") -> str:
        return authorize(
            key=self.key,
            domain=await self.domain(),
            method=method,
            path=path,
            body=body,
            at_s=self._clock.now_s(),
            nonce=secrets.randbits(NONCE_BITS),
        )

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise AssertionError("use the connection as an async context")
        return self._http


async def _open_socket(
    session: aiohttp.ClientSession,
    url: str,
    *,
    headers: dict[str, str],
    size_max: int,
    heartbeat_s: float | None,
) -> aiohttp.ClientWebSocketResponse:
    try:
        return await session.ws_connect(
            url,
            headers=headers,
            max_msg_size=size_max,
            compress=0,
            heartbeat=heartbeat_s,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
        )
    except aiohttp.WSServerHandshakeError as exc:
        code = exc.headers.get(_FAULT_HEADER, "") if exc.headers else ""
        code = code[:64] or "refused"
        message = f"the market refuses the connection: {code} (HTTP {exc.status})"
        if exc.status // 100 == 5 or exc.status == 429:
            raise Unavailable(message, code=code) from exc
        raise Refused(message, code=code) from exc
    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
        raise _unreachable(url.partition("/v1/")[0], exc) from exc


def _unreachable(url: str, exc: BaseException) -> Unavailable:
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return Unavailable(
            f"no name server tells where {url} is: is this machine online? Name another "
            "node with --market, or this one by its address",
            code="name_not_found",
        )
    why = type(exc).__name__ if isinstance(exc, TimeoutError) else str(exc)
    return Unavailable(
        f"no market answers at {url} ({why[:200]}); is it running? Start a "
        "local one with: sublet up, or name another with --market",
        code="market_unreachable",
    )


async def _read_body(answer: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > exchange.ANSWER_BYTES_MAX:
            raise PeerFault("the market's answer is too long", code="bad_answer")
        parts.append(part)
    return b"".join(parts)


def read_market(info: MarketInfo) -> Market:
    """Give the document that a market shows of itself.

    Raises:
        PeerFault: the id is not this document's.
    """
    market: Any = info.market
    if not isinstance(market, Market) or market_id(market) != info.id:
        raise PeerFault(
            "the market's id is not the digest of its own document; do not use it",
            code="wrong_market_id",
        )
    return market
