"""Carries a person's calls to a chain, and waits for what came of them.

Every transaction is in a journal first: Ctrl-C and another try send it once.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from sublet.adapter.chain_place import ChainPlace
from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.chain_sender import open_sender
from sublet.base.errors import Refused
from sublet.base.ids import Address
from sublet.core.rail.sending import Phase, Sending
from sublet.core.rail.transaction import Call
from sublet.service.sender import Sender
from sublet.wire.signature import Key

LOOK_S = 0.5


class Courier(Protocol):
    """Sends with one key."""

    async def send(self, what: str, call: Call) -> Sending:
        """Send a call, and wait until the chain has taken it for good.

        Raises:
            Refused: ``not_taken``; the message says why.
        """
        ...


class OwnCourier:
    """Sends by itself, with a key and a journal that nobody else uses now."""

    def __init__(self, sender: Sender) -> None:
        """Take what sends; it does not run yet."""
        self._sender = sender

    async def send(self, what: str, call: Call) -> Sending:
        """As the protocol says."""
        errand = name_errand(what)
        await self._sender.submit(errand, call)
        running = asyncio.create_task(self._sender.run(poll_s=LOOK_S))
        try:
            return check_taken(await self._sender.wait_ended(errand))
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def name_errand(what: str) -> str:
    """Name an errand, so that it is another one than the last of its kind."""
    return f"{what} {secrets.token_hex(8)}"


def check_taken(done: Sending) -> Sending:
    """Give back what has ended well.

    Raises:
        Refused: ``not_taken``.
    """
    if done.phase is not Phase.CONFIRMED:
        raise Refused(
            f"the chain did not take it: {done.reason or done.phase.value}",
            code="not_taken",
        )
    return done


async def check_gas(chain: RpcChain, address: Address) -> None:
    """See that a key can pay for a transaction at all, rather than wait for it.

    Raises:
        Refused: ``no_gas``.
    """
    if not await chain.balance(address):
        raise Refused(
            f"{address} has nothing of the chain's own coin, which pays for gas; send it "
            "a little",
            code="no_gas",
        )


@asynccontextmanager
async def open_courier(
    chain: RpcChain, place: ChainPlace, *, key: Key, journal: Path
) -> AsyncIterator[OwnCourier]:
    """Open a key's journal, and send with both.

    Raises:
        Refused: ``journal_in_use``, another process sends with it.
        Unavailable: the disk does not answer.
    """
    with open_sender(chain, place, key=key, journal=journal) as sender:
        yield OwnCourier(sender)
