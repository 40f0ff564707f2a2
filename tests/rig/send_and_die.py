"""A process that sends one transaction, and kills itself at a named step of it."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.journal_sqlite import SqliteJournal
from sublet.core.rail.sending import Sending
from sublet.core.rail.transaction import Call
from sublet.wire.signature import Key
from tests.fakes.chain_memory import CHAIN_ID
from tests.rig.sender_house import make_sender

KEY = Key.generate(b"\x01" * 32)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly:
    """A journal and a chain that kill the process once a step is done."""

    def __init__(self, inner: Any, step: str) -> None:
        self._inner = inner
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def add(self, sending: Sending) -> Sending:
        kept: Sending = self._inner.add(sending)
        if self._step == "intended":
            die()
        return kept

    def put(self, sending: Sending) -> None:
        self._inner.put(sending)
        if sending.phase == self._step:
            die()

    async def send(self, raw: bytes) -> str:
        name: str = await self._inner.send(raw)
        if self._step == "handed":
            die()
        return name


async def main(url: str, path: str, echo: str, step: str) -> None:
    async with RpcChain([url], chain_id=CHAIN_ID) as chain:
        journal = SqliteJournal(Path(path))
        sender = make_sender(Deadly(chain, step), Deadly(journal, step), KEY)
        await sender.submit("say", Call(echo, b"\x07" * 32))
        await sender.run(poll_s=0.01)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
