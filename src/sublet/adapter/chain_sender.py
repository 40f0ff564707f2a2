"""Who sends on a chain, and who claims there: what cashier, gateway and couriers open.

Not here: where the chain is (``chain_place``), the rules of sending and claiming (``core.rail``).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sublet.adapter.chain_place import ChainPlace, make_policy
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


@contextmanager
def open_sender(
    chain: RpcChain, place: ChainPlace, *, key: Key, journal: Path
) -> Iterator[Sender]:
    """Open a key's journal, and make what sends with both; it does not run yet.

    Raises:
        Refused: ``journal_in_use``, another process sends with it.
        Unavailable: the disk does not answer.
    """
    sent = SqliteJournal(journal)
    try:
        yield Sender(
            chain,
            sent,
            address=key.address,
            sign=partial(sign_transaction, key=key),
            policy=make_policy(place),
        )
    finally:
        sent.close()


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
