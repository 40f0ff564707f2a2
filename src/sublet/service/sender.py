"""Sends transactions of one key, each at most once, whatever stops or restarts.

The shell around ``core.rail.sending``: it asks the chain, has the core decide, writes
that down, and does it. Killed anywhere, it goes on from the journal. While no RPC
answers, errands are taken and wait. One key belongs to one sender: a journal is open
in one process, and what another program does with the key ends as ``usurped``.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from sublet.base.errors import PeerFault, Refused, SubletError, Unavailable
from sublet.base.ids import Address
from sublet.core.rail import sending as core
from sublet.core.rail.sending import Inclusion, Policy, Seen, Sending
from sublet.core.rail.transaction import Call, SignedTransaction, Transaction
from sublet.service.chain_port import Chain, NotTaken, Reverted
from sublet.service.journal_port import Journal

Sign = Callable[[Transaction], SignedTransaction]

POLL_S = 2.0  # between two looks at the chain
POLL_S_MAX = 60.0  # while nobody answers


class Sender:
    """Sends for one key on one chain."""

    def __init__(
        self,
        chain: Chain,
        journal: Journal,
        *,
        address: Address,
        sign: Sign,
        policy: Policy,
    ) -> None:
        """Take what it works with.

        Args:
            chain: where to.
            journal: of this chain; its open sendings are taken up.
            address: of the key.
            sign: signs with the key, the same bytes for the same transaction.
            policy: what it may cost.
        """
        self.address = address
        self.fault: SubletError | None = None  # of the last look, if any
        self._chain = chain
        self._journal = journal
        self._sign = sign
        self._policy = policy
        self._changed = asyncio.Condition()
        self._asked = asyncio.Event()

    async def submit(self, errand: str, call: Call, *, fee_max_wei: int = 0) -> Sending:
        """Ask for a call. It is on the disk when this returns, and is sent soon.

        Args:
            errand: its name; one that is there already is given as it stands.
            call: the contract's call.
            fee_max_wei: what a unit of gas may cost, where it is urgent and that is
                more than the policy allows; what waits before it may cost as much.
        """
        kept = self._journal.add(
            Sending(errand, self.address, call, fee_max_wei=fee_max_wei)
        )
        self._asked.set()
        return kept

    def find(self, errand: str) -> Sending | None:
        """Say how an errand stands."""
        return self._journal.find(errand)

    async def wait_ended(self, errand: str) -> Sending:
        """Wait until an errand has ended; somebody has to ``run`` meanwhile."""
        async with self._changed:
            while True:
                found = self._journal.find(errand)
                if found is not None and found.is_ended:
                    return found
                await self._changed.wait()

    async def run(self, *, poll_s: float = POLL_S) -> None:
        """Look and send, for ever; while nobody answers, less and less often."""
        pause_s = poll_s
        while True:
            try:
                await self.step()
                self.fault, pause_s = None, poll_s
            except (Refused, Unavailable, PeerFault) as fault:
                self.fault, pause_s = fault, min(2 * pause_s, POLL_S_MAX)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._asked.wait()
            self._asked.clear()

    async def step(self) -> None:
        """Look once, and do what is to be done now.

        Raises:
            Unavailable: nobody answers; nothing is lost.
            ChainLied: what the chain says makes no sense.
        """
        sendings = self._journal.list_open(self.address)
        if not sendings:
            return
        block = await self._chain.block()
        assert block is not None, "the newest block is there"
        head = block.number
        confirmed = max(0, head - self._policy.confirmations)
        # Before the receipts: what this counts, they must show.
        nonce = await self._chain.nonce(self.address, at=confirmed)
        sendings = tuple(
            [await self._advance(one, head=head, nonce=nonce) for one in sendings]
        )
        policy = core.raise_cap(self._policy, sendings)
        for sending in sendings:
            await self._carry_on(sending, policy, head=head)
        sendings = self._journal.list_open(self.address)
        if (waiting := core.find_next(sendings)) is not None:
            await self._begin(waiting, policy, head=head)

    async def _advance(self, sending: Sending, *, head: int, nonce: int) -> Sending:
        if sending.nonce is None:
            return sending
        inclusion = None
        for attempt in reversed(sending.attempts):
            receipt = await self._chain.receipt(attempt.hash)
            if receipt is not None:
                inclusion = Inclusion(
                    receipt.block_number,
                    receipt.block_hash,
                    receipt.is_success,
                    receipt.gas_used,
                    receipt.gas_price_wei,
                )
                break
        seen = Seen(head=head, nonce_confirmed=nonce, inclusion=inclusion)
        return await self._keep(sending, core.advance(sending, seen, self._policy))

    async def _begin(self, sending: Sending, policy: Policy, *, head: int) -> None:
        """Sign an errand for the first time, and hand it over."""
        try:
            estimate = await self._chain.estimate(sending.call, sender=self.address)
        except Reverted as refused:
            await self._keep(sending, core.refuse(sending, refused.message))
            return
        gas = core.choose_gas(estimate, policy)
        if gas is None:
            reason = f"it needs {estimate} gas, and {policy.gas_max} are allowed"
            await self._keep(sending, core.refuse(sending, reason))
            return
        fees = core.choose_fees(await self._chain.fees(), policy)
        if fees is None:
            await self._keep(sending, core.wait(sending, "gas costs more than allowed"))
            return
        nonce = await self._chain.nonce(self.address)
        if nonce < (known := self._journal.next_nonce(self.address)):
            if not self._has_nonces():
                reason = (
                    f"the journal knows {known} transactions of this key and the chain "
                    f"{nonce}: the RPC lags behind, or the journal is of another chain"
                )
                await self._keep(sending, core.wait(sending, reason))
                return
            nonce = known
        signed = self._sign(
            Transaction(self._chain.chain_id, nonce, sending.call, gas, fees)
        )
        # Written before anybody sees it: after a crash it is this one that is sent.
        kept = core.mark_signed(sending, signed, nonce=nonce, gas=gas, head=head)
        await self._keep(sending, kept)
        await self._hand_over(kept, signed, head=head)

    def _has_nonces(self) -> bool:
        """Say whether some of what is open may not be counted by the chain yet."""
        sendings = self._journal.list_open(self.address)
        return any(sending.nonce is not None for sending in sendings)

    async def _carry_on(self, sending: Sending, policy: Policy, *, head: int) -> None:
        if sending.phase not in core.UNDER_WAY or sending.nonce is None:
            return
        suggested = await self._chain.fees()
        order = core.decide(sending, head=head, suggested=suggested, policy=policy)
        if isinstance(order, core.OfferMore):
            nonce, gas = sending.nonce, sending.gas
            signed = self._sign(
                Transaction(self._chain.chain_id, nonce, sending.call, gas, order.fees)
            )
            kept = core.mark_signed(sending, signed, nonce=nonce, gas=gas, head=head)
            sending = await self._keep(sending, kept)
            order = core.HandOver(signed)
        if order is not None:
            await self._hand_over(sending, order.signed, head=head)

    async def _hand_over(
        self, sending: Sending, signed: SignedTransaction, *, head: int
    ) -> None:
        reason = ""
        try:
            await self._chain.send(signed.raw)
        except NotTaken as refused:
            reason = refused.code
        await self._keep(sending, core.mark_handed(sending, head=head, reason=reason))

    async def _keep(self, before: Sending, after: Sending) -> Sending:
        if after != before:
            self._journal.put(after)
            if after.phase is not before.phase:
                async with self._changed:
                    self._changed.notify_all()
        return after
