"""The escrow's books, and beside them a record in which every unit has two sides.

The books are what the contract stores. The record moves each unit from one account
into another; both must tell the same story, and the record's sum is always zero.

Not here: what changes them (``step``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from msgspec import Struct

from sublet.base.errors import Broken
from sublet.base.ids import Address, Digest


class ChannelState(Struct, frozen=True):
    """One channel; amounts in units of its token."""

    balance: int = 0  # ever deposited, less what went back to the payer
    claimed: int = 0  # of that; never falls, also of an empty channel
    withdrawing: int = 0  # what the payer wants back; 0 for nothing
    initiated_at_s: int = 0
    refund_nonce: int = 0  # of the next signed refund

    @property
    def free(self) -> int:
        """What no claim has taken yet."""
        return self.balance - self.claimed


class Earned(Struct, frozen=True):
    """What one receiver has earned in one token, ever, and been paid of it."""

    claimed: int = 0
    settled: int = 0


class Account(NamedTuple):
    """One side of a movement."""

    kind: Literal["issued", "wallet", "channel", "earned"]
    token: Address
    holder: Address | Digest  # the party, or the channel's id; "" for issued


@dataclass(frozen=True)
class EscrowState:
    """All that the contract and its tokens know; a step gives a new one."""

    tokens: frozenset[Address]  # that may be deposited
    channels: Mapping[Digest, ChannelState] = field(default_factory=dict)
    receivers: Mapping[tuple[Address, Address], Earned] = field(default_factory=dict)
    blocked: frozenset[tuple[Address, Address]] = frozenset()  # (token, party)
    accounts: Mapping[Account, int] = field(default_factory=dict)

    def channel(self, channel_id: Digest) -> ChannelState:
        """Give a channel; an empty one where nothing ever came in."""
        return self.channels.get(channel_id, ChannelState())

    def earned(self, receiver: Address, token: Address) -> Earned:
        """Give what a receiver has earned in a token."""
        return self.receivers.get((receiver, token), Earned())

    def wallet(self, party: Address, token: Address) -> int:
        """Give what a party holds itself."""
        return self.accounts.get(Account("wallet", token, party), 0)

    def held(self, token: Address) -> int:
        """Give what the contract itself must hold of a token."""
        return sum(
            amount
            for account, amount in self.accounts.items()
            if account.token == token and account.kind in ("channel", "earned")
        )


class EscrowUnbalanced(Broken):
    """The escrow's books and its record differ: money was created or lost."""

    code = "escrow_unbalanced"


def check_escrow(state: EscrowState) -> None:
    """Count everything anew.

    Raises:
        EscrowUnbalanced: the record's sum is not zero, an account but ``issued`` is
            below it, or the books say something else than the record.
    """
    if sum(state.accounts.values()) != 0:
        raise EscrowUnbalanced(f"the record sums to {sum(state.accounts.values())}")
    said: dict[tuple[str, str], int] = {
        ("channel", channel_id): channel.free
        for channel_id, channel in state.channels.items()
    }
    said |= {
        ("earned", receiver + token): earned.claimed - earned.settled
        for (receiver, token), earned in state.receivers.items()
    }
    for account, amount in state.accounts.items():
        if account.kind != "issued" and amount < 0:
            raise EscrowUnbalanced(f"{account} is at {amount}")
        if account.kind == "channel":
            book = said.pop((account.kind, account.holder), 0)
        elif account.kind == "earned":
            book = said.pop((account.kind, account.holder + account.token), 0)
        else:
            continue
        if book != amount:
            raise EscrowUnbalanced(f"{account} is at {amount}, its book at {book}")
    if any(said.values()):
        raise EscrowUnbalanced(f"books without a record: {said}")
