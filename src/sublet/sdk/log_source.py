"""The log of a market over HTTP, as an audit reads it: entries, leaves, notes.

Blocking, for a program whose only work this is. Nothing that comes is believed here;
sizes are limited before anything is read.
"""

import asyncio
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

from sublet.base import limits
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Digest
from sublet.core.document import Market
from sublet.sdk.connection import read_market
from sublet.sdk.exchange import Call, ask_market, read_answer
from sublet.sdk.nodes import Nodes
from sublet.service.ports import Row, Snapshot
from sublet.wire.codec import ENTRY_BYTES_MAX, decode
from sublet.wire.message import LogSnapshot

ANSWER_BYTES_MAX = 512 * 1024 * 1024  # a snapshot of a large market
TRIES_MAX = 5  # of one page, where the node is busy or asks to go slower
PAUSE_S = 0.1  # before the second try; doubled each time
TIMEOUT_S = 120.0  # of one answer

_LEAF_BYTES = 32
_NOTES = msgspec.json.Decoder(list[tuple[int, str]])


class HttpLogSource:
    """One market's log. Use it as a context."""

    def __init__(self, url: str, *others: str) -> None:
        """Take the addresses of the market's nodes, as ``nodes.parse_urls`` gives them.

        The others are asked where one does not answer: all nodes have one log.
        """
        self._nodes = Nodes((url, *others))
        self._runner = asyncio.Runner()
        self._http: aiohttp.ClientSession | None = None

    def __enter__(self) -> Self:
        self._http = self._runner.run(_open_session())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._http is not None:
            self._runner.run(self._http.close())
        self._runner.close()

    def read(self, *, first: int, limit: int) -> list[Row]:
        """Give up to ``limit`` rows from index ``first`` on; ids are not told.

        Raises:
            PeerFault: an entry is larger than entries can be.
        """
        limit = min(limit, limits.PAGE_ENTRIES_MAX)
        return self._runner.run(self._read(first, limit))

    def size(self) -> int:
        """Count the entries that the node has now."""
        call = ask_market()
        body = self._runner.run(self._get(call.path))
        return read_answer(call, status=200, body=body).size

    def read_market(self) -> tuple[Digest, Market]:
        """Ask which market this is; its id is checked against its document.

        Raises:
            PeerFault: the id is another one's.
        """
        call = ask_market()
        info = read_answer(
            call, status=200, body=self._runner.run(self._get(call.path))
        )
        return info.id, read_market(info)

    def find_cosigned(self) -> bytes | None:
        """Give the newest note that witnesses have cosigned, or None."""
        try:
            return self._runner.run(self._get("/v1/log/cosigned"))
        except Refused as refusal:
            if refusal.code in ("no_cosignature", "no_such_endpoint"):
                return None
            raise

    def read_checkpoints(self, *, first: int, limit: int) -> list[tuple[int, bytes]]:
        """Give (size, note) of sizes from ``first`` on, in order."""
        limit = min(limit, limits.PAGE_ENTRIES_MAX)
        path = f"/v1/log/checkpoints?first={first}&limit={limit}"
        try:
            pairs = _NOTES.decode(self._runner.run(self._get(path)))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise PeerFault(
                "the market's checkpoints are not a list of sizes and notes",
                code="bad_answer",
            ) from error
        return [(size, note.encode()) for size, note in pairs]

    def find_snapshot(self, *, size_max: int | None = None) -> Snapshot | None:
        """Give the newest snapshot, or None; a node shows no older ones."""
        call = Call("GET", "/v1/log/snapshot", LogSnapshot)
        try:
            body = self._runner.run(self._get(call.path))
        except Refused as refusal:
            if refusal.code == "no_snapshot":
                return None
            raise
        found = decode(body, LogSnapshot, size_max=ANSWER_BYTES_MAX)
        if size_max is not None and found.size > size_max:
            return None
        return Snapshot(
            found.size, found.book, bytes.fromhex(found.book_hash[2:]), found.tree
        )

    async def _read(self, first: int, limit: int) -> list[Row]:
        page = f"?first={first}&limit={limit}"
        lines, leaves = await asyncio.gather(
            self._get(f"/v1/log/entries{page}"), self._get(f"/v1/log/leaves{page}")
        )
        bodies = lines.split(b"\n")[:-1][:limit]
        if any(len(body) > ENTRY_BYTES_MAX for body in bodies):
            raise PeerFault("an entry of the log is too large", code="too_large")
        # A node that is at work may have grown between the two answers.
        count = min(len(bodies), len(leaves) // _LEAF_BYTES)
        return [
            Row(
                first + n,
                "",
                bodies[n],
                leaves[n * _LEAF_BYTES : (n + 1) * _LEAF_BYTES],
            )
            for n in range(count)
        ]

    async def _get(self, path: str) -> bytes:
        """Fetch one page; ask again, or another node, where one is busy or gone."""
        pause_s = PAUSE_S
        for left in reversed(range(TRIES_MAX + len(self._nodes) - 1)):
            url = self._nodes.current
            try:
                return await self._get_once(url, path)
            except Unavailable as fault:
                self._nodes.move(away_from=url)
                if not left:
                    raise
                pause_s = max(pause_s, fault.retry_after_s)
            await asyncio.sleep(pause_s)
            pause_s *= 2
        raise AssertionError("the last try returns or raises")

    async def _get_once(self, url: str, path: str) -> bytes:
        if self._http is None:
            raise AssertionError("use the source as a context")
        try:
            async with self._http.get(url + path, allow_redirects=False) as answer:
                parts, size = [], 0
                async for part in answer.content.iter_any():
                    size += len(part)
                    if size > ANSWER_BYTES_MAX:
                        raise PeerFault(
                            "the market's answer is too long", code="bad_answer"
                        )
                    parts.append(part)
                status, body = answer.status, b"".join(parts)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(
                f"no market answers at {url} ({str(error)[:200]}); is it running? "
                "Name another with --market, or a log file with --log",
                code="market_unreachable",
            ) from error
        if status != 200:
            read_answer(ask_market(), status=status, body=body)  # raises what it says
        return body


async def _open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=5.0),
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
    )
