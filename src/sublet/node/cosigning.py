"""Collects witnesses' cosignatures on the newest checkpoint, and keeps them.

Each witness is told each new checkpoint, with a proof that it goes on from the last
one that it knows. What comes back is checked and kept beside the log: a witness that
is away, or refuses, holds nothing up.

Not here: what a witness decides (``witness``).
"""

import asyncio
import re
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

import aiohttp

from sublet.base.errors import PeerFault, Unavailable
from sublet.core.merkle import consistency_proof
from sublet.node.journal import Journal
from sublet.service.market import MarketService
from sublet.wire.cosignature import (
    AddCheckpoint,
    add_signatures,
    read_cosignature,
    write_request,
)
from sublet.wire.note import NOTE_BYTES_MAX, BadNote, read_text, split_note

LOOK_S = 1.0  # between two looks for a newer checkpoint
PAUSE_S_MAX = 60.0  # after a witness that did not answer
TIMEOUT_S = 20.0
COSIGNED_FILE = "cosigned"

_SIZE = re.compile(rb"[0-9]{1,19}")  # a witness may say anything


class Cosigning:
    """The node's dealings with its witnesses."""

    def __init__(
        self,
        market: MarketService,
        *,
        witnesses: Sequence[tuple[str, str]],
        folder: Path,
        journal: Journal,
        proofs: asyncio.Lock,
    ) -> None:
        """Take the market and who cosigns; nothing is read yet."""
        self._market = market
        self._witnesses = witnesses
        self._place = folder / COSIGNED_FILE
        self._journal = journal
        self._proofs = proofs
        self._lines: dict[str, str] = {}  # by the witness's key, of ``size``
        self.size = 0  # entries that ``note`` covers
        self.note: bytes | None = None  # the newest that somebody cosigned
        self.refused = 0  # times that a witness would not sign: look into it

    async def run(self) -> None:
        """Tell the witnesses what is new, until cancelled."""
        await asyncio.to_thread(self._load)
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
            ) as http,
            asyncio.TaskGroup() as group,
        ):
            for url, key in self._witnesses:
                group.create_task(self._keep_told(http, url, key))
            await asyncio.Event().wait()

    def _load(self) -> None:
        try:
            note = self._place.read_bytes()
            self.note, self.size = note, read_text(split_note(note)[0]).size
        except FileNotFoundError:
            return
        except (OSError, BadNote) as error:
            self._journal.warning("cosigned_not_read", why=str(error)[:200])

    async def _keep_told(self, http: aiohttp.ClientSession, url: str, key: str) -> None:
        known = told = 0
        pause_s = LOOK_S
        while True:
            newest = self._market.checkpoint
            if newest is not None and newest[0] > told:
                try:
                    known, is_signed = await self._tell(
                        http, url, key, newest, known=known
                    )
                    told = known if is_signed else told
                    pause_s = LOOK_S
                except (Unavailable, PeerFault) as fault:
                    self._journal.warning(
                        "not_cosigned", witness=url, code=fault.code, why=fault.message
                    )
                    pause_s = min(2 * pause_s, PAUSE_S_MAX)
            await asyncio.sleep(pause_s)

    async def _tell(
        self,
        http: aiohttp.ClientSession,
        url: str,
        key: str,
        newest: tuple[int, bytes],
        *,
        known: int,
    ) -> tuple[int, bool]:
        """Submit; give the size that the witness knows now, and whether it signed."""
        size, note = newest
        proof: list[bytes] = []
        if 0 < known < size:
            async with self._proofs:
                proof = await asyncio.to_thread(
                    lambda: consistency_proof(self._market.leaves[:size], old=known)
                )
        body = write_request(AddCheckpoint(known, tuple(proof), note))
        status, answer = await _post(http, url, body)
        if status == HTTPStatus.CONFLICT and _SIZE.fullmatch(answer.strip()):
            if int(answer) > size or int(answer) == known:
                raise PeerFault(
                    f"the witness knows {int(answer)} entries of this log, and here "
                    f"are {size} others: this log was cut or forked",
                    code="witness_knows_more",
                )
            return int(answer), False
        if status != HTTPStatus.OK:
            self.refused += 1
            raise PeerFault(
                f"HTTP {status}: {answer[:200].decode(errors='replace')}",
                code="not_cosigned",
            )
        await self._take(size, note, key, answer)
        return size, True

    async def _take(self, size: int, note: bytes, key: str, answer: bytes) -> None:
        lines = answer.decode(errors="replace").splitlines(keepends=True)
        line = "".join(lines[:1])
        read_cosignature(add_signatures(note, [line]), verifier_key=key)
        if size < self.size:
            return
        if size > self.size:
            self.size, self._lines = size, {}
        self._lines[key] = line
        self.note = add_signatures(note, self._lines.values())
        await asyncio.to_thread(self._write, self.note)

    def _write(self, note: bytes) -> None:
        # It can be had again from the witnesses: a lost one costs nothing.
        draft = self._place.with_suffix(".part")
        try:
            draft.write_bytes(note)
            draft.replace(self._place)
        except OSError as error:
            self._journal.warning("cosigned_not_kept", why=error.strerror or "")


async def _post(
    http: aiohttp.ClientSession, url: str, body: bytes
) -> tuple[int, bytes]:
    try:
        async with http.post(
            f"{url.rstrip('/')}/add-checkpoint", data=body, allow_redirects=False
        ) as answer:
            content = await answer.content.read(NOTE_BYTES_MAX)
            return answer.status, content
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"the witness at {url} does not answer ({str(error)[:200]})",
            code="witness_away",
        ) from error
