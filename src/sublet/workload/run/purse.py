"""Signs vouchers: never more than was authorised, never before it is written down."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from sublet.base.errors import PeerFault, Unavailable
from sublet.base.ids import Address, Digest
from sublet.core.document import Channel, Voucher
from sublet.core.job import bill
from sublet.core.job.bill import ChannelRecord
from sublet.core.lease.phase import Lease, Phase
from sublet.core.mirror import ESCROW
from sublet.sdk.connection import Connection
from sublet.wire.channel import channel_of
from sublet.wire.deposit import ChainTerms, sign_deposit, token_domain
from sublet.wire.message import Deliver, Paid, Signed
from sublet.wire.typed_data import digest
from sublet.workload.run.work import Mandate

ASK_AGAIN_S = 1.0

Change = Callable[[ChannelRecord], tuple[ChannelRecord, int]]


class Channels(Protocol):
    """What was authorised on each channel, as it is written down."""

    def update_channel(self, channel_id: Digest, change: Change) -> int:
        """Read a record, change it, have it durable; one at a time.

        Raises:
            Unavailable: it was not taken; the record is as it was.
        """
        ...


class Account(Struct, frozen=True):
    """A channel to one provider, named and signed."""

    id: Digest
    channel: Signed


class Purse:
    """One tenant's channels in one market."""

    def __init__(
        self,
        *,
        channels: Channels,
        connection: Connection,
        mandate: Mandate | None = None,
    ) -> None:
        """Take where the records are, the market, and in whose name if not our own."""
        self._mandate = mandate
        self._records = channels
        self._connection = connection
        self._channels: dict[Address, Account] = {}

    async def pay(
        self, lease: Lease, *, owed: int, channel_total: int | None = None
    ) -> Paid:
        """Authorise what is owed for a lease; give the voucher that says so.

        Without ``channel_total`` nobody asked: the tenant says itself what it owes. The
        record is on the disk before the voucher exists.

        Raises:
            PeerFault: the provider asks for more than can be owed; nothing was signed.
            Unavailable: the disk or the market did not answer; nothing was signed.
        """
        account = await self._account(lease.provider)
        change = partial(
            bill.authorize, lease_id=lease.id, owed=owed, channel_total=channel_total
        )
        try:
            amount = await self._update(account, change)
        except PeerFault:
            # Our own memory may be short (another machine, a lost home, jobs that
            # ended before they had paid anything): the public log knows what was ever
            # paid, and what is open.
            await self._rebase(account, lease.provider)
            amount = await self._update(account, change)
        voucher = Voucher(channel_id=account.id, max_claimable_amount=amount)
        return Paid(
            voucher=await self._connection.sign(voucher), channel=account.channel
        )

    async def add_deposit(self, lease: Lease, word: Deliver) -> Deliver:
        """Give what a provider is told, with what the lease's channel lacks.

        Never more than the lease may cost; the same lease's deposit counts once.

        Raises:
            PeerFault: the market does not say of which token, or nobody here signs for
                the payer.
        """
        market = await self._connection.learn_market()
        amount = min(lease.deposit_due, lease.hold)
        if market.rail != ESCROW or not amount:
            return word
        account = await self._account(lease.provider)
        channel = account.channel.document
        if (
            not isinstance(channel, Channel)
            or channel.payer != self._connection.key.address
        ):
            raise PeerFault("only the tenant itself signs deposits", code="no_deposit")
        domain = await self._connection.domain()
        signed = sign_deposit(
            lease,
            channel,
            domain=domain,
            token=token_domain(await self._find_terms(), domain, market.token),
            valid_before_s=lease.matched_at_s + market.deliver_s + 2 * market.prepare_s,
            amount=amount,
            key=self._connection.key,
        )
        return replace(word, channel=account.channel, deposit=signed)

    async def _find_terms(self) -> ChainTerms:
        """Ask in which domain the token's messages are signed, until somebody answers."""
        while True:
            try:
                terms = (await self._connection.market()).chain
            except Unavailable:
                await asyncio.sleep(ASK_AGAIN_S)
                continue
            if terms is None:
                raise PeerFault("the market names no token", code="no_chain")
            return terms

    async def close(self, lease: Lease) -> None:
        """Note that a lease is over; twice is harmless."""
        if lease.provider not in self._channels:
            return  # nothing was ever signed for it
        account = self._channels[lease.provider]

        def change(record: ChannelRecord) -> tuple[ChannelRecord, int]:
            return bill.close_lease(record, lease_id=lease.id), 0

        await self._update(account, change)

    async def _update(self, account: Account, change: Change) -> int:
        return await asyncio.to_thread(self._records.update_channel, account.id, change)

    async def _account(self, provider: Address) -> Account:
        if provider not in self._channels:
            market = await self._connection.learn_market()
            domain = await self._connection.domain()
            own = self._connection.key.address
            channel = channel_of(
                market,
                domain.market,
                tenant=self._mandate.tenant if self._mandate else own,
                provider=provider,
                authorizer=own,
            )
            self._channels[provider] = Account(
                id=digest(channel, domain), channel=await self._sign(channel)
            )
        return self._channels[provider]

    async def _sign(self, channel: Channel) -> Signed:
        """Give the channel as its payer signed it."""
        if self._mandate is None:
            return await self._connection.sign(channel)
        signed = self._mandate.channels.get(channel.receiver)
        if signed is None or signed.document != channel:
            raise PeerFault(
                "the tenant has opened no channel to this provider", code="no_channel"
            )
        return signed

    async def _rebase(self, account: Account, provider: Address) -> None:
        leases = await self._connection.leases(is_all=True)
        own = {each.id: each for each in leases if each.provider == provider}
        over = frozenset(k for k, v in own.items() if v.phase is Phase.SETTLED)
        paid = sum(own[key].paid for key in over)
        beside = frozenset(own) - over

        def change(record: ChannelRecord) -> tuple[ChannelRecord, int]:
            return bill.rebase(record, paid=paid, over=over, beside=beside), 0

        await self._update(account, change)
