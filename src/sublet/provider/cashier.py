"""The provider's dealings with the chain: deposits brought there, vouchers claimed.

On the escrow rail a tenant's word for a deposit comes with its job. The cashier brings it
to the contract, looks itself whether the money is there before a job starts, and claims
what the till holds: in batches when it is worth the gas, at once when a tenant begins to
withdraw. Whatever is sent is in a journal first; a killed agent goes on with it.

Not here: when a claim is worth it (``core.rail.claiming``), vouchers (``till``).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sublet.adapter.chain_place import ChainPlace, find_ether_usd, open_chain
from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.chain_sender import JOURNAL_FILE, make_claimer, open_sender
from sublet.adapter.escrow_chain import ChainEscrow, find_token_domain
from sublet.adapter.price_settings import read_price_settings
from sublet.adapter.price_watch import SETTINGS_FILE, check_dollar
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Digest
from sublet.base.units import MicroUsd
from sublet.core.document import Channel, Market
from sublet.core.lease.phase import NOT_FUNDED, Lease
from sublet.core.mirror import ESCROW
from sublet.core.rail.sending import Phase, Sending
from sublet.core.rail.transaction import Call
from sublet.provider.journal import Journal
from sublet.provider.outbox import Outbox
from sublet.provider.till import Till
from sublet.service.chain_port import Block
from sublet.service.sender import Sender
from sublet.wire import escrow_call
from sublet.wire.deposit import Deposit, check_deposit, salt_of
from sublet.wire.escrow_call import Authorization
from sublet.wire.message import Signed
from sublet.wire.signature import Key
from sublet.wire.token_message import TokenDomain
from sublet.wire.typed_data import Domain, digest

LOOK_S = 2.0
HURRIED = 30  # looks after the owner asked
CHECKS = 60  # looks at the chain before a job is given up
LOOK_S_MAX = 60.0  # while the chain does not answer


class Cashier:
    """One provider's side of the escrow rail in one market."""

    def __init__(
        self,
        chain: RpcChain,
        sender: Sender,
        *,
        home: Path,
        market: Market,
        domain: Domain,
        confirmations: int,
        ether_usd: MicroUsd | None,
        till: Till,
        outbox: Outbox,
        journal: Journal,
    ) -> None:
        """Take what it works with; nothing is asked yet."""
        self._chain = chain
        self._sender = sender
        self._home = home
        self._market = market
        self._domain = domain
        self._confirmations = confirmations
        self._ether_usd = ether_usd
        self._till = till
        self._outbox = outbox
        self._journal = journal
        self._escrow = ChainEscrow(chain, market.contract)
        self._claimer = make_claimer(
            chain,
            self._escrow,
            sender,
            confirmations=confirmations,
            ether_usd=self._price_ether,
        )
        self._hurried = 0  # looks at which everything that is due is claimed
        self._asked = asyncio.Event()
        self._token: TokenDomain | None = None

    async def run(self) -> None:
        """Send, look and claim until cancelled; a chain that is away is asked again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sender.run())
            group.create_task(self._look_on())

    async def _look_on(self) -> None:
        pause_s, is_away = LOOK_S, False
        while True:
            try:
                await self.look()
                pause_s, is_away = LOOK_S, False
            except (Unavailable, PeerFault) as fault:
                if not is_away:
                    self._journal.warn("chain_away", why=fault.message)
                pause_s, is_away = min(2 * pause_s, LOOK_S_MAX), True
            self._hurried = max(0, self._hurried - 1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._asked.wait()
            self._asked.clear()

    def claim_all(self) -> None:
        """Claim and settle whatever is due from now on, whatever the gas, for a while."""
        self._hurried = HURRIED
        self._asked.set()

    def _price_ether(self) -> MicroUsd | None:
        # For nothing, everything is worth its gas; unknown, a dollar is.
        return MicroUsd(0) if self._hurried else self._ether_usd

    async def look(self) -> None:
        """Look at the chain once, and submit what is to be claimed.

        Raises:
            Unavailable: it does not answer; nothing is lost.
            PeerFault: what it says makes no sense.
        """
        vouchers = await asyncio.to_thread(self._till.best_vouchers)
        changes, errands = await self._claimer.step(vouchers)
        for change in changes:
            if change.state.withdrawing:
                self._journal.warn(
                    "tenant_withdraws",
                    channel=change.channel_id[:12],
                    amount=change.state.withdrawing,
                )
        for errand in errands:
            self._journal.info("claiming", errand=errand.id.partition(" ")[0])

    async def send(self, errand: str, call: Call) -> Sending:
        """Have a call of the owner's sent with the provider's key; say how it stands."""
        return await self._sender.submit(errand, call)

    # ---- deposits -----------------------------------------------------------------

    async def take_deposit(
        self, lease: Lease, *, channel: Signed | None, deposit: Deposit
    ) -> None:
        """Check a tenant's word for a deposit, and have it sent; twice is harmless.

        Raises:
            PeerFault: it is not this tenant's, or for something else.
            Unavailable: the chain or the disk does not answer; ``off_peg``: by the
                provider's own feeds, where it has some, this is no dollar now.
        """
        if channel is None:
            raise PeerFault(
                "a deposit comes with its signed channel", code="no_channel"
            )
        document = self._till.check_channel(lease, channel)
        check_deposit(
            deposit, lease, document, domain=self._domain, token=await self._learn()
        )
        if self._sender.find(_errand(lease.id)) is None:
            await check_dollar(self._home, self._market.token)
        self._outbox.put(channel)  # before its money counts, the book has to know it
        call = escrow_call.deposit_with_authorization(
            self._market.contract,
            document,
            deposit.amount,
            Authorization(
                valid_after_s=0,
                valid_before_s=deposit.valid_before_s,
                salt=salt_of(lease.id),
                signature=bytes.fromhex(deposit.signature[2:]),
            ),
        )
        await self._sender.submit(_errand(lease.id), call)

    async def wait_lost(self, lease_id: Digest) -> None:
        """Return never, unless a lease's deposit comes to nothing.

        Raises:
            Refused: ``not_funded``, with the chain's reason.
        """
        ended = await self._sender.wait_ended(_errand(lease_id))
        if ended.phase is Phase.CONFIRMED:
            await asyncio.Event().wait()  # the market's word is on its way
        raise Refused(
            f"the deposit was not taken: {_explain(ended)}; does the wallet hold as much "
            "of the token?",
            code=NOT_FUNDED,
        )

    async def check_funded(self, lease: Lease, channel: Channel) -> None:
        """See on the chain itself that a lease is paid for, whatever the market says.

        The market may count fewer blocks as certain: it is looked at for a while.

        Raises:
            Refused: ``not_funded``, it is not.
            Unavailable: the chain does not answer.
        """
        for left in range(CHECKS, 0, -1):
            try:
                await self._check_now(lease, channel)
                return
            except (Refused, Unavailable):
                if left == 1:
                    raise
            await asyncio.sleep(LOOK_S)

    async def _check_now(self, lease: Lease, channel: Channel) -> None:
        channel_id = digest(channel, self._domain)
        block = await self._find_confirmed()
        state = await self._escrow.channel(channel_id, at=block)
        free = state.balance - state.withdrawing - self._till.total(lease)
        if free < lease.hold:
            raise Refused(
                f"the market says that the channel holds {lease.hold} more, and the chain "
                f"says {max(0, free)}",
                code=NOT_FUNDED,
            )

    async def _find_confirmed(self) -> Block | None:
        head = await self._chain.block()
        if head is None or not self._confirmations:
            return head
        return await self._chain.block(max(0, head.number - self._confirmations))

    async def _learn(self) -> TokenDomain:
        if self._token is None:
            self._token = await find_token_domain(self._chain, self._market.token)
        return self._token


def _errand(lease_id: Digest) -> str:
    return f"deposit {lease_id}"


def _explain(sending: Sending) -> str:
    return sending.reason or sending.phase.value


@asynccontextmanager
async def open_cashier(
    home: Path,
    place: ChainPlace,
    *,
    key: Key,
    market: Market,
    domain: Domain,
    till: Till,
    outbox: Outbox,
    journal: Journal,
) -> AsyncIterator[Cashier | None]:
    """Open the chain and what was being sent to it; None on the credits rail.

    Raises:
        Refused: the settings name no RPC, or another agent has the journal open.
        Unavailable: the disk does not answer.
    """
    if market.rail != ESCROW:
        yield None
        return
    if (prices := home / SETTINGS_FILE).exists():
        read_price_settings(prices)  # its faults are the owner's, and no tenant's
    async with open_chain(place, chain_id=market.chain_id) as chain:
        with open_sender(chain, place, key=key, journal=home / JOURNAL_FILE) as sender:
            yield Cashier(
                chain,
                sender,
                home=home,
                market=market,
                domain=domain,
                confirmations=place.confirmations,
                ether_usd=find_ether_usd(place),
                till=till,
                outbox=outbox,
                journal=journal,
            )
