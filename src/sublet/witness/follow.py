"""Asks each market for news: the witness that nobody has to submit to."""

import asyncio
import logging
from contextlib import suppress
from functools import partial
from http import HTTPStatus

import aiohttp

from sublet.base.errors import SubletError, Unavailable
from sublet.sdk.log_fetch import fetch_log
from sublet.sdk.log_watch import LogLie, LogWatch, Memory
from sublet.wire.codec import origin_of
from sublet.wire.cosignature import AddCheckpoint, write_request
from sublet.wire.note import read_text, split_note
from sublet.witness.config import Pin
from sublet.witness.cosigner import Cosigner, Declined

TIMEOUT_S = 60.0
CONNECT_S = 10.0

_LOGGER = logging.getLogger("sublet.witness")


class _Sight:
    """A memory for one look: what the witness cosigned stands, nothing is replaced."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.find = memory.find
        self.keep_evidence = memory.keep_evidence

    def update(self, market: str, change: object) -> None:
        """Leave it: only the cosigner replaces what was cosigned."""


class Follower:
    """Looks at markets, cosigns what goes on, keeps evidence of what does not."""

    def __init__(self, cosigner: Cosigner, memory: Memory) -> None:
        """Take the witness; use it as an async context."""
        self._cosigner = cosigner
        self._memory = memory
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Follower":
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=CONNECT_S),
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()

    async def look(self, pin: Pin) -> int:
        """Cosign a market's newest checkpoint; give its size.

        Raises:
            LogLie: the market contradicts itself; the evidence is kept.
            Unavailable: it does not answer.
        """
        watch = LogWatch(
            partial(self._fetch, pin.url),
            _Sight(self._memory),
            market=pin.market,
            verifier_key=pin.verifier_key,
        )
        try:
            new, note = await watch.look()
        except LogLie as lie:
            self._cosigner.accuse(pin, lie)
            _LOGGER.error(
                "log_lies",
                extra={
                    "values": {
                        "market": pin.market,
                        "code": lie.code,
                        "why": lie.message,
                        "evidence": str(lie.place or ""),
                    }
                },
            )
            raise
        kept = self._memory.find(pin.market)
        old = read_text(split_note(kept)[0]).size if kept is not None else 0
        if kept is not None and old == new.size:
            return new.size  # cosigned already, and nothing has happened since
        proof = await watch.prove(old, new.size)
        request = AddCheckpoint(old, tuple(proof), note)
        try:
            await asyncio.to_thread(self._cosigner.add, write_request(request))
        except Declined as declined:
            # Somebody submitted meanwhile: the next look begins from there.
            if declined.status is not HTTPStatus.CONFLICT:
                raise
        _LOGGER.info(
            "cosigned",
            extra={"values": {"log": origin_of(pin.market), "size": new.size}},
        )
        return new.size

    async def run(self, pin: Pin, *, poll_s: int) -> None:
        """Look again and again, for ever."""
        while True:
            try:
                await self.look(pin)
            except LogLie:
                pass  # told and kept; whether it goes on lying is worth knowing
            except SubletError as fault:
                _LOGGER.warning(
                    "market_not_seen",
                    extra={"values": {"market": pin.market, "why": fault.message}},
                )
            await asyncio.sleep(poll_s)

    async def _fetch(self, urls: str, path: str) -> bytes:
        """Ask one node of a market after the other, until one answers."""
        if self._http is None:
            raise AssertionError("use the follower as an async context")
        *others, last = urls.split(",")
        for url in others:
            with suppress(Unavailable):
                return await fetch_log(self._http, url, path)
        return await fetch_log(self._http, last, path)
