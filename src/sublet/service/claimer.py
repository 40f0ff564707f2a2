"""Claims what a provider is owed: in batches when it is worth it, at once in need.

The shell around ``core.rail.claiming``. It only ever claims and settles: it gives
nothing back and takes nothing out. Each decision has a name made of what it claims, so
that after a crash the same decision is the same errand, and is sent once.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from msgspec import Struct

from sublet.base.ids import Address, Digest
from sublet.base.units import MicroUsd
from sublet.core.document import Channel
from sublet.core.escrow.state import ChannelState
from sublet.core.rail.claiming import (
    Batch,
    GasPrice,
    Held,
    VoucherClaim,
    is_settling_worth,
    plan_batches,
)
from sublet.core.rail.sending import Phase, Sending
from sublet.core.rail.transaction import Call
from sublet.service.chain_port import Chain
from sublet.service.escrow_follower import Change, Follower
from sublet.service.escrow_port import Escrow
from sublet.service.sender import Sender

TRIES_MAX = 100  # of one claim that was usurped or refused, then it waits for another


class BestVoucher(Struct, frozen=True):
    """The best voucher that somebody holds of a channel."""

    channel: Channel
    amount: int  # cumulative
    signature: bytes


class Words(Struct, frozen=True):
    """How claims are put to the contract (``wire.escrow_call``)."""

    claim: Callable[[Sequence[VoucherClaim]], Call]
    settle: Callable[[Address, Address], Call]  # for a receiver, of a token


class Claimer:
    """Watches a receiver's channels, and claims."""

    def __init__(
        self,
        chain: Chain,
        escrow: Escrow,
        follower: Follower,
        sender: Sender,
        *,
        words: Words,
        ether_usd: Callable[[], MicroUsd | None],
    ) -> None:
        """Take what it works with.

        Args:
            chain: which.
            escrow: on this chain.
            follower: of the channels that the receiver has vouchers of.
            sender: with the receiver's key, or its authorizer's.
            words: the contract's.
            ether_usd: what an ether of this chain costs; None: nobody knows just now.
        """
        self._chain = chain
        self._escrow = escrow
        self._follower = follower
        self._sender = sender
        self._words = words
        self._ether_usd = ether_usd
        self._sent: dict[str, Batch] = {}  # by the errand, while it is under way

    async def step(
        self, vouchers: Mapping[Digest, BestVoucher]
    ) -> tuple[tuple[Change, ...], tuple[Sending, ...]]:
        """Look at the chain, and ask for what is to be claimed now.

        Args:
            vouchers: the best one of each channel, by the channel's id.

        Returns:
            What has changed for certain, and what was asked for now.

        Raises:
            Unavailable, ChainLied: as the chain's port says; look again later.
        """
        for name in vouchers:
            self._follower.watch(name)
        changes = await self._follower.look()
        newest = await self._follower.peek()
        held = self._hold(vouchers, newest)
        price = await self._price()
        errands = []
        for batch in plan_batches(held, gas_price=price):
            errand = await self._errand(
                _name(batch),
                self._words.claim(batch.claims),
                fee_max_wei=batch.fee_max_wei(price),
            )
            if errand is not None:
                self._sent[errand.id] = batch
                errands.append(errand)
        errands += await self._settle(held, price)
        return changes, tuple(errands)

    def _hold(
        self,
        vouchers: Mapping[Digest, BestVoucher],
        newest: Mapping[Digest, ChannelState],
    ) -> list[Held]:
        under_way: dict[Digest, int] = {}
        for errand, batch in tuple(self._sent.items()):
            sending = self._sender.find(errand)
            if sending is None or sending.is_ended:
                del self._sent[errand]  # what came of it, the chain says
                continue
            for one in batch.held:
                under_way[one.id] = max(under_way.get(one.id, 0), one.total)
        confirmed = self._follower.cursor.channels
        return [
            Held(
                id=name,
                channel=best.channel,
                confirmed=confirmed[name],
                newest=newest[name],
                most=best.amount,
                signature=best.signature,
                under_way=under_way.get(name, 0),
            )
            for name, best in vouchers.items()
            if name in confirmed and name in newest
        ]

    async def _price(self) -> GasPrice | None:
        ether_usd = self._ether_usd()
        if ether_usd is None:
            return None
        fees = await self._chain.fees()
        base_wei = (fees.max_wei - fees.tip_wei) // 2
        return GasPrice(fee_wei=base_wei + fees.tip_wei, ether_usd=ether_usd)

    async def _settle(
        self, held: Sequence[Held], price: GasPrice | None
    ) -> list[Sending]:
        errands = []
        head = await self._chain.block()
        for receiver, token in sorted(
            {(one.channel.receiver, one.channel.token) for one in held}
        ):
            earned = await self._escrow.earned(receiver, token, at=head)
            if not is_settling_worth(earned, gas_price=price):
                continue
            # Named by what was ever claimed: the same money is asked for once.
            name = f"settle {receiver} {token} {earned.claimed}"
            errand = await self._errand(name, self._words.settle(receiver, token))
            if errand is not None:
                errands.append(errand)
        return errands

    async def _errand(
        self, name: str, call: Call, *, fee_max_wei: int = 0
    ) -> Sending | None:
        """Ask for a call, again where it came to nothing; None: it is under way."""
        for number in range(TRIES_MAX):
            errand = f"{name} {number}"
            before = self._sender.find(errand)
            if before is None:
                return await self._sender.submit(errand, call, fee_max_wei=fee_max_wei)
            if before.phase not in (Phase.USURPED, Phase.REVERTED, Phase.REFUSED):
                return None
        return None


def _name(batch: Batch) -> str:
    parts = sorted(f"{one.id}:{one.total}" for one in batch.held)
    return "claim " + sha256(",".join(parts).encode()).hexdigest()
