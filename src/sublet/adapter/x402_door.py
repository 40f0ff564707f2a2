"""A door that takes x402 payments in front of any aiohttp resource.

Put ``Door(…).middleware`` before the handlers; requests that cost something come through
with a voucher that pays for them, all others get 402 and what is asked. The order is such
that nobody loses: a deposit is confirmed first, then the handler works, then the tab is on
the disk, then the answer goes out. What the handler did not do (status 400 and above) is
not charged.

Not here: what the protocol says (``wire.x402``), claiming (``service.claimer``).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web
from multidict import CIMultiDict

from sublet.base.errors import PeerFault, Unavailable
from sublet.base.ids import Address, Digest
from sublet.core.escrow.state import ChannelState
from sublet.core.rail.sending import Phase
from sublet.service.chain_port import Chain
from sublet.service.claimer import BestVoucher
from sublet.service.escrow_port import Escrow
from sublet.service.sender import Sender
from sublet.service.tab_port import TabKeeper
from sublet.wire import escrow_call, x402
from sublet.wire.x402 import BadPayment, Payment, Terms

LOOK_S = 15.0  # that a channel's state counts without another look
DEPOSIT_S_MAX = 300.0  # that a payer is kept waiting
LOOKS_MAX = 10_000  # channels whose state is remembered
UNAVAILABLE = 503

Price = Callable[[web.Request], int]  # units of the token; 0: free
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Depositor(Protocol):
    """Brings a payer's deposit into its channel."""

    async def deposit(self, payment: Payment) -> Digest:
        """Wait until it is confirmed; the same deposit is made once.

        Raises:
            BadPayment: the token or the contract refuses it.
            Unavailable: nobody knows yet; the same payment may be sent again.
        """
        ...


class SenderDepositor:
    """Deposits by transactions of one's own; somebody has to ``run`` the sender."""

    def __init__(self, sender: Sender, *, escrow: Address, collector: Address) -> None:
        """Take who sends, and where to."""
        self._sender = sender
        self._escrow = escrow
        self._collector = collector

    async def deposit(self, payment: Payment) -> Digest:
        """As the protocol says."""
        assert payment.deposit is not None
        call = escrow_call.deposit(
            self._escrow,
            payment.channel,
            payment.deposit.amount,
            collector=self._collector,
            collector_data=payment.deposit.encode(),
        )
        wish = payment.name_deposit()
        await self._sender.submit(wish, call)
        try:
            async with asyncio.timeout(DEPOSIT_S_MAX):
                ended = await self._sender.wait_ended(wish)
        except TimeoutError as error:
            raise Unavailable(
                "a deposit is not confirmed yet; send the same payment again",
                code="deposit_pending",
            ) from error
        if ended.phase is not Phase.CONFIRMED:
            raise BadPayment(x402.DEPOSIT_FAILED)
        return ended.transaction


class Door:
    """One receiver's door."""

    def __init__(
        self,
        terms: Terms,
        *,
        price: Price,
        chain: Chain,
        escrow: Escrow,
        confirmations: int,
        tabs: TabKeeper,
        depositor: Depositor,
    ) -> None:
        """Take what it works with.

        Args:
            terms: what it asks of everybody.
            price: of each request.
            chain: which the escrow is on.
            escrow: the contract that vouchers are good for.
            confirmations: blocks on top of one that counts as certain.
            tabs: of this receiver; no other door writes them.
            depositor: for those who have no channel yet, or too little in it.
        """
        self._terms = terms
        self._price = price
        self._chain = chain
        self._escrow = escrow
        self._confirmations = confirmations
        self._tabs = tabs
        self._depositor = depositor
        self._looks: dict[Digest, tuple[float, ChannelState]] = {}
        self._busy: set[Digest] = set()

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Let a request through when it is paid."""
        price = self._price(request)
        if price <= 0:
            return await handler(request)
        header = request.headers.get(x402.PAYMENT_HEADER)
        if header is None:
            return self._ask(request, price)
        try:
            payment = x402.read_payment(header, self._terms)
            x402.check_voucher(payment, self._terms)
        except BadPayment as fault:
            return self._ask(request, price, fault.reason)
        channel_id = payment.voucher.channel_id
        # Two vouchers of one channel at one time would pay for the same step twice.
        if channel_id in self._busy:
            return self._ask(request, price, x402.BUSY)
        self._busy.add(channel_id)
        try:
            return await self._serve(request, handler, payment, price)
        finally:
            self._busy.discard(channel_id)

    async def _serve(
        self, request: web.Request, handler: Handler, payment: Payment, price: int
    ) -> web.StreamResponse:
        channel_id = payment.voucher.channel_id
        tab = None
        try:
            tab = self._tabs.find(channel_id)
            state = await self._check(payment, tab, price)
            transaction = None
            if payment.deposit is not None:
                transaction = await self._depositor.deposit(payment)
                state = await self._look(channel_id)
                if payment.voucher.max_claimable_amount > _count_free(state):
                    raise BadPayment(x402.OVER_BALANCE)
        except BadPayment as fault:
            return self._ask(request, price, fault.reason, payment=payment, tab=tab)
        except (Unavailable, PeerFault):
            return web.json_response({"error": x402.UNKNOWN_STATE}, status=UNAVAILABLE)
        charged = _count_charged(tab, state)
        said: CIMultiDict[str] = CIMultiDict()
        try:
            response = await handler(request)
        except web.HTTPException as stopped:
            said[x402.RESPONSE_HEADER] = self._confirm(
                payment, state, charged=charged, taken=0, transaction=transaction
            )
            stopped.headers.update(said)
            raise
        # What has failed is not charged; the payer keeps its voucher.
        taken = price if response.status < web.HTTPBadRequest.status_code else 0
        if taken:
            # It says exactly what was charged, this request included.
            tab = BestVoucher(
                payment.channel,
                payment.voucher.max_claimable_amount,
                payment.signature,
            )
            try:
                self._tabs.keep(channel_id, tab)
            except Unavailable as fault:
                return web.json_response({"error": fault.code}, status=UNAVAILABLE)
        if not response.prepared:  # one that has begun already has sent its headers
            response.headers[x402.RESPONSE_HEADER] = self._confirm(
                payment,
                state,
                charged=charged + taken,
                taken=taken,
                transaction=transaction,
            )
        return response

    async def _check(
        self, payment: Payment, tab: BestVoucher | None, price: int
    ) -> ChannelState:
        """Check against what is remembered of the chain, then against a new look."""
        channel_id = payment.voucher.channel_id
        looked_s, state = self._looks.get(channel_id, (0.0, ChannelState()))
        for is_new in (False, True):
            if is_new:
                state = await self._look(channel_id)
            elif channel_id not in self._looks or time.monotonic() - looked_s > LOOK_S:
                continue
            try:
                x402.check_amount(
                    payment,
                    self._terms,
                    price=price,
                    charged=_count_charged(tab, state),
                    state=state,
                )
            except BadPayment:
                if is_new:
                    raise
            else:
                break
        return state

    async def _look(self, channel_id: Digest) -> ChannelState:
        """Read a channel at the newest block that counts as certain."""
        head = await self._chain.block()
        assert head is not None, "the newest block is there"
        at = head
        if self._confirmations:
            sure = await self._chain.block(max(0, head.number - self._confirmations))
            if sure is None:
                raise Unavailable("the chain lost a block; try again", code="reorg")
            at = sure
        state = await self._escrow.channel(channel_id, at=at)
        if len(self._looks) >= LOOKS_MAX:
            self._looks.pop(next(iter(self._looks)))
        self._looks[channel_id] = (time.monotonic(), state)
        return state

    def _ask(
        self,
        request: web.Request,
        price: int,
        error: str = "",
        *,
        payment: Payment | None = None,
        tab: BestVoucher | None = None,
    ) -> web.Response:
        """Answer 402: what is asked, and why the payment that came was not taken."""
        known = None
        if payment is not None and error == x402.BAD_AMOUNT:
            channel_id = payment.voucher.channel_id
            state = self._looks.get(channel_id, (0.0, ChannelState()))[1]
            known = x402.describe_channel(
                channel_id,
                state,
                charged=_count_charged(tab, state),
                signed=tab.amount if tab else 0,
                signature=tab.signature if tab else b"",
            )
        header = x402.write_required(
            self._terms, price=price, url=str(request.url), error=error, known=known
        )
        return web.json_response(
            {"error": error or "payment_required"},
            status=web.HTTPPaymentRequired.status_code,
            headers={x402.REQUIRED_HEADER: header, "Cache-Control": "no-store"},
        )

    def _confirm(
        self,
        payment: Payment,
        state: ChannelState,
        *,
        charged: int,
        taken: int,
        transaction: Digest | None,
    ) -> str:
        return x402.write_response(
            self._terms,
            payment,
            state,
            charged=charged,
            taken=taken,
            transaction=transaction,
        )


def _count_charged(tab: BestVoucher | None, state: ChannelState) -> int:
    """Count what was charged; of a lost tab, what was claimed by it is known yet."""
    return max(tab.amount if tab else 0, state.claimed)


def _count_free(state: ChannelState) -> int:
    return state.balance - state.withdrawing
