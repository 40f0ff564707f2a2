"""The rail's bad cases, on the fake and on anvil: each ends in a named state.

A tenant withdraws while a job runs, a reorg drops a deposit, two claims in one block,
a provider that is gone, an RPC that is gone or lies, restarts in between.
"""

from collections.abc import AsyncIterator

import pytest
from msgspec import json

from sublet.base.errors import Unavailable
from sublet.base.units import MicroUsd
from sublet.core.escrow.state import ChannelState, Earned
from sublet.core.rail.claiming import Held
from sublet.core.rail.sending import Phase
from sublet.service.claimer import BestVoucher, Claimer, Words
from sublet.service.escrow_follower import Change, Cursor, Follower
from sublet.service.journal_port import Journal
from sublet.service.sender import Sender
from sublet.wire import escrow_call
from tests.fakes.chain_memory import MemoryChain
from tests.fakes.journal_memory import MemoryJournal
from tests.rig.chains import KINDS
from tests.rig.escrow_house import DELAY_S, DOLLAR, EscrowHouse, lend_escrow
from tests.rig.sender_house import POLICY, make_sender

CONFIRMATIONS = POLICY.confirmations
ETHER = MicroUsd(2_000 * DOLLAR)
STEPS_MAX = 40


@pytest.fixture(params=KINDS)
async def house(request: pytest.FixtureRequest) -> AsyncIterator[EscrowHouse]:
    async with lend_escrow(request.param) as house:
        yield house


def follow(house: EscrowHouse, cursor: Cursor | None = None) -> Follower:
    follower = Follower(
        house.chain, house.escrow, confirmations=CONFIRMATIONS, cursor=cursor
    )
    follower.watch(house.id)
    return follower


class Provider:
    """A provider's claimer; ``restart`` gives another one on the same journal."""

    def __init__(self, house: EscrowHouse, journal: Journal | None = None) -> None:
        self.house = house
        self.journal = journal or MemoryJournal()
        self.sender: Sender = make_sender(house.chain, self.journal, house.provider)
        self.follower = follow(house)
        address = house.escrow.address
        self.claimer = Claimer(
            house.chain,
            house.escrow,
            self.follower,
            self.sender,
            words=Words(
                claim=lambda claims: escrow_call.claim(address, claims),
                settle=lambda receiver, token: escrow_call.settle(
                    address, receiver=receiver, token=token
                ),
            ),
            ether_usd=lambda: ETHER,
        )
        self.vouchers: dict[str, BestVoucher] = {}

    def restart(self) -> "Provider":
        again = Provider(self.house, self.journal)
        again.vouchers = self.vouchers
        return again

    def hold(self, amount: int) -> None:
        signed = self.house.vouch(amount)
        self.vouchers[self.house.id] = BestVoucher(
            self.house.channel, amount, signed.signature
        )

    async def step(self) -> list[str]:
        """Look, errand and send; give the names of the errands, without their hashes."""
        _, errands = await self.claimer.step(self.vouchers)
        await self.sender.step()
        return [errand.id.split()[0] for errand in errands]

    async def settle_down(self) -> list[str]:
        """Go on until nothing is asked for or under way."""
        named: list[str] = []
        quiet = 0
        for _ in range(STEPS_MAX):
            new = await self.step()
            named += new
            self.house.hand.mine()
            is_idle = not new and not self.journal.list_open(self.sender.address)
            quiet = quiet + 1 if is_idle else 0
            if quiet > CONFIRMATIONS:  # what it has just done is confirmed, too
                return named
        raise AssertionError(self.journal.list_open(self.sender.address))


async def state(house: EscrowHouse) -> ChannelState:
    return await house.escrow.channel(house.id, at=None)


async def withdraw(house: EscrowHouse, amount: int) -> None:
    house.hand.fund(house.tenant.address)
    call = escrow_call.initiate_withdraw(house.escrow.address, house.channel, amount)
    assert (await house.send(house.tenant, call)).is_success


async def test_withdrawal_while_a_job_runs_is_answered_at_once(
    house: EscrowHouse,
) -> None:
    await house.deposit(10 * DOLLAR)
    house.hand.mine(CONFIRMATIONS)
    provider = Provider(house)
    provider.hold(DOLLAR)  # ten times its gas: not worth a claim of its own
    assert await provider.step() == []
    await withdraw(house, 10 * DOLLAR)
    # The newest block shows it; nobody waits for confirmations.
    assert await provider.step() == ["claim"]
    provider.hold(2 * DOLLAR)  # the job ran on, and a better voucher came meanwhile
    assert "claim" in await provider.settle_down()
    house.hand.pass_time(DELAY_S)
    end = escrow_call.finalize_withdraw(house.escrow.address, house.channel)
    assert (await house.send(house.tenant, end)).is_success
    assert await state(house) == ChannelState(balance=2 * DOLLAR, claimed=2 * DOLLAR)


async def test_claims_once_it_is_worth_it_and_is_paid(house: EscrowHouse) -> None:
    await house.deposit(3_000 * DOLLAR)
    house.hand.mine(CONFIRMATIONS)
    provider = Provider(house)
    provider.hold(DOLLAR)
    assert await provider.settle_down() == []
    provider.hold(2_000 * DOLLAR)
    assert await provider.settle_down() == ["claim", "settle"]
    assert (await state(house)).claimed == 2_000 * DOLLAR
    earned = await house.escrow.earned(house.provider.address, house.token, at=None)
    assert earned == Earned(claimed=2_000 * DOLLAR, settled=2_000 * DOLLAR)
    assert await provider.settle_down() == []


async def test_restart_makes_no_second_claim(house: EscrowHouse) -> None:
    await house.deposit(3_000 * DOLLAR)
    house.hand.mine(CONFIRMATIONS)
    house.hand.set_automine(on=False)
    provider = Provider(house)
    provider.hold(2_000 * DOLLAR)
    assert await provider.step() == ["claim"]
    nonce = await house.chain.nonce(house.provider.address)
    provider = provider.restart()
    assert await provider.step() == []
    assert await provider.settle_down() == ["settle"]
    assert await house.chain.nonce(house.provider.address) == nonce + 2


async def test_two_claims_in_one_block_pay_once(house: EscrowHouse) -> None:
    """Another program claims the same voucher with the authorizer's other key."""
    await house.deposit(10 * DOLLAR)
    house.hand.mine(CONFIRMATIONS)
    follower = follow(house)
    await follower.look()
    house.hand.set_automine(on=False)
    nonce = await house.chain.nonce(house.provider.address)
    for number, amount in enumerate((3 * DOLLAR, 3 * DOLLAR, 4 * DOLLAR)):
        call = escrow_call.claim(house.escrow.address, [house.vouch(amount)])
        signed = await house.lent.sign(house.provider, call, nonce=nonce + number)
        await house.chain.send(signed.raw)
    house.hand.mine(1 + CONFIRMATIONS)
    assert (await state(house)).claimed == 4 * DOLLAR
    changes = await follower.look()  # one for the block, as it ended
    assert [change.state.claimed for change in changes] == [4 * DOLLAR]
    earned = await house.escrow.earned(house.provider.address, house.token, at=None)
    assert earned.claimed == 4 * DOLLAR


async def test_reorg_drops_a_deposit_that_nobody_counted(house: EscrowHouse) -> None:
    house.hand.mine(CONFIRMATIONS + 1)
    provider = Provider(house)
    await house.deposit(3_000 * DOLLAR)
    provider.hold(2_000 * DOLLAR)
    assert await provider.step() == []  # it is there, and not confirmed
    assert (await provider.follower.peek())[house.id].balance == 3_000 * DOLLAR
    house.hand.reorg(1)
    house.hand.forget_pending()
    house.hand.mine(CONFIRMATIONS)
    assert await provider.step() == []
    assert provider.follower.cursor.channels[house.id] == ChannelState()
    assert await state(house) == ChannelState()


async def test_reorg_drops_a_claim_and_it_is_sent_again(house: EscrowHouse) -> None:
    await house.deposit(3_000 * DOLLAR)
    house.hand.mine(CONFIRMATIONS)
    provider = Provider(house)
    provider.hold(2_000 * DOLLAR)
    assert await provider.step() == ["claim"]
    while (await state(house)).claimed == 0:
        await provider.sender.step()
    house.hand.reorg(1)
    house.hand.forget_pending()
    assert (await state(house)).claimed == 0
    assert await provider.settle_down() == ["settle"]
    assert (await state(house)).claimed == 2_000 * DOLLAR


async def test_provider_that_is_gone_loses_what_it_did_not_claim(
    house: EscrowHouse,
) -> None:
    await house.deposit(10 * DOLLAR)
    provider = Provider(house)
    provider.hold(2 * DOLLAR)
    await withdraw(house, 10 * DOLLAR)
    house.hand.pass_time(DELAY_S)
    end = escrow_call.finalize_withdraw(house.escrow.address, house.channel)
    assert (await house.send(house.tenant, end)).is_success
    house.hand.mine(CONFIRMATIONS)
    # It comes back, and is told what it lost: no more than its unclaimed voucher.
    assert await provider.settle_down() == []
    now = provider.follower.cursor.channels[house.id]
    best = provider.vouchers[house.id]
    held = Held(house.id, best.channel, now, now, best.amount, best.signature)
    assert (held.due, held.lost) == (0, 2 * DOLLAR)


async def test_usurped_claim_is_made_anew(house: EscrowHouse) -> None:
    await house.deposit(3_000 * DOLLAR)
    house.hand.mine(CONFIRMATIONS)
    house.hand.set_automine(on=False)
    provider = Provider(house)
    provider.hold(2_000 * DOLLAR)
    assert await provider.step() == ["claim"]
    house.hand.forget_pending()
    pay = escrow_call.settle(
        house.escrow.address, receiver=house.provider.address, token=house.token
    )
    stranger = await house.lent.sign(house.provider, pay)  # with the same nonce
    await house.chain.send(stranger.raw)
    house.hand.mine()
    assert "claim" in await provider.settle_down()
    assert (await state(house)).claimed == 2_000 * DOLLAR
    phases = [one.phase for one in provider.journal._kept.values()]  # type: ignore[attr-defined]
    assert phases == [Phase.USURPED, Phase.CONFIRMED, Phase.CONFIRMED]


# ---- following ----------------------------------------------------------------------


def told(changes: tuple[Change, ...]) -> list[tuple[int, int, int]]:
    return [
        (one.state.balance, one.state.claimed, one.state.withdrawing) for one in changes
    ]


async def test_follows_in_order_over_restarts(house: EscrowHouse) -> None:
    follower = follow(house)
    house.hand.mine(CONFIRMATIONS)
    assert await follower.look() == ()
    await house.deposit(3)
    claim = escrow_call.claim(house.escrow.address, [house.vouch(2)])
    await house.send(house.provider, claim)
    await withdraw(house, 1)
    house.hand.mine(CONFIRMATIONS)
    seen: list[tuple[int, int, int]] = []
    cursor: Cursor = follower.cursor
    for _ in range(3):  # each look by another process, with what was kept
        kept = json.encode(cursor)
        again = follow(house, json.decode(kept, type=Cursor))
        changes = await again.look()
        numbers = [change.block.number for change in changes]
        assert numbers == sorted(set(numbers))
        seen += told(changes)
        cursor = again.cursor
        house.hand.mine()
    assert seen == [(3, 0, 0), (3, 2, 0), (3, 2, 1)]


async def test_reorg_deeper_than_confirmations_is_told(house: EscrowHouse) -> None:
    follower = follow(house)
    house.hand.mine(2)
    await house.deposit(5)
    house.hand.mine(CONFIRMATIONS)
    assert told(await follower.look()) == [(5, 0, 0)]
    newest = await house.newest()
    house.hand.reorg(CONFIRMATIONS + 1)
    house.hand.forget_pending()
    while (await house.newest()).number <= newest.number:
        house.hand.mine()
    changes = await follower.look()
    assert told(changes) == [(0, 0, 0)]
    assert changes[0].block.number == follower.cursor.number


async def test_other_channels_are_not_told(house: EscrowHouse) -> None:
    follower = Follower(house.chain, house.escrow, confirmations=0)
    await house.deposit(5)
    assert await follower.look() == ()
    follower.watch(house.id)
    assert told(await follower.look()) == [(5, 0, 0)]
    follower.forget(house.id)
    await house.deposit(5, salt=8)
    assert await follower.look() == ()


class Lying(MemoryChain):
    """Leaves all events out."""

    async def logs(self, *args: object, **more: object) -> tuple[()]:
        return ()


async def test_event_that_is_left_out_is_found_in_the_storage() -> None:
    async with lend_escrow("fake") as house:
        follower = follow(house)
        await follower.look()
        await house.deposit(5)
        house.hand.mine(CONFIRMATIONS)
        house.chain.__class__ = Lying
        assert told(await follower.look()) == [(5, 0, 0)]


async def test_hour_of_silence_loses_nothing() -> None:
    async with lend_escrow("fake") as house:
        chain = house.chain
        assert isinstance(chain, MemoryChain)
        await house.deposit(10 * DOLLAR)
        house.hand.mine(CONFIRMATIONS)
        provider = Provider(house)
        provider.hold(DOLLAR)
        assert await provider.step() == []
        await withdraw(house, 10 * DOLLAR)
        chain.is_cut = True
        for _ in range(5):
            with pytest.raises(Unavailable):
                await provider.step()
        chain.mine(400)  # the chain went on, and so did its clock; ours plays no part
        chain.is_cut = False
        assert await provider.step() == ["claim"]
        await provider.settle_down()
        assert (await state(house)).claimed == DOLLAR


async def test_dear_gas_does_not_hold_an_urgent_claim_up() -> None:
    """A claim is stuck below the cap; then gas is dear, and the tenant withdraws."""
    async with lend_escrow("fake") as house:
        chain = house.chain
        assert isinstance(chain, MemoryChain)
        await house.deposit(3_000 * DOLLAR)
        house.hand.mine(CONFIRMATIONS)
        house.hand.set_automine(on=False)
        provider = Provider(house)
        provider.hold(2_000 * DOLLAR)
        assert await provider.step() == ["claim"]
        house.hand.set_automine(on=True)
        chain.base_fee_wei = 2 * POLICY.fee_max_wei
        for _ in range(2 * POLICY.patience_blocks):
            house.hand.mine()
            await provider.step()
        assert (await state(house)).claimed == 0
        call = escrow_call.initiate_withdraw(
            house.escrow.address, house.channel, 2_500 * DOLLAR
        )
        house.hand.fund(house.tenant.address)
        assert (await house.send(house.tenant, call)).is_success
        provider.hold(2_600 * DOLLAR)
        assert await provider.step() == ["claim"]
        await provider.settle_down()
        assert (await state(house)).claimed == 2_600 * DOLLAR


async def test_voucher_beyond_the_deposit_takes_what_is_there(
    house: EscrowHouse,
) -> None:
    await house.deposit(2 * DOLLAR)
    house.hand.mine(CONFIRMATIONS)
    provider = Provider(house)
    provider.hold(5 * DOLLAR)
    await withdraw(house, DOLLAR)
    await provider.settle_down()
    assert await state(house) == ChannelState(
        balance=2 * DOLLAR,
        claimed=2 * DOLLAR,
        withdrawing=DOLLAR,
        initiated_at_s=(await state(house)).initiated_at_s,
    )
    # A top-up is claimed by the same voucher.
    await house.deposit(3 * DOLLAR, salt=8)
    house.hand.mine(CONFIRMATIONS)
    await provider.settle_down()
    assert (await state(house)).claimed == 5 * DOLLAR
