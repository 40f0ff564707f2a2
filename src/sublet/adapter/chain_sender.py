"""A chain with somebody who sends on it and claims: what cashier, gateway and tenant open.

Not here: where the chain is (``chain_place``), the rules of sending and claiming (``core.rail``).
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from sublet.adapter.chain_place import ChainPlace, make_policy, open_chain
from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.escrow_chain import ChainEscrow
from sublet.adapter.journal_sqlite import SqliteJournal
from sublet.base.units import MicroUsd
from sublet.service.claimer import Claimer, Words
from sublet.service.escrow_follower import Follower
from sublet.service.sender import Sender
from sublet.wire import escrow_call
from sublet.wire.signature import Key
from sublet.wire.transaction import sign_transaction

JOURNAL_FILE = "chain.db"  # in the home of whoever sends


@asynccontextmanager
async def open_sender(
    home: Path, place: ChainPlace, *, chain_id: int, key: Key
) -> AsyncIterator[tuple[RpcChain, Sender]]:
    """Open the chain, and what a home's key was sending to it; nothing is asked yet.

    Raises:
        Refused: the settings name no RPC, or another process has the journal open.
        Unavailable: the disk does not answer.
    """
    policy = make_policy(place)
    async with open_chain(place, chain_id=chain_id) as chain:
        journal = SqliteJournal(home / JOURNAL_FILE)
        try:
            yield (
                chain,
                Sender(
                    chain,
                    journal,
                    address=key.address,
                    sign=partial(sign_transaction, key=key),
                    policy=policy,
                ),
            )
        finally:
            journal.close()


def make_claimer(
    chain: RpcChain,
    escrow: ChainEscrow,
    sender: Sender,
    *,
    confirmations: int,
    ether_usd: Callable[[], MicroUsd | None],
) -> Claimer:
    """Make what claims of an escrow with a sender's key."""
    return Claimer(
        chain,
        escrow,
        Follower(chain, escrow, confirmations=confirmations),
        sender,
        words=Words(
            claim=partial(escrow_call.claim, escrow.address),
            settle=lambda receiver, token: escrow_call.settle(
                escrow.address, receiver=receiver, token=token
            ),
        ),
        ether_usd=ether_usd,
    )
