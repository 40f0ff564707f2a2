"""What every escrow must say and do: the pure model behind the fake, the real contract."""

import json
from collections.abc import AsyncIterator

import eth_account
import pytest
from eth_account.messages import encode_typed_data

from sublet.adapter.escrow_chain import (
    find_balance,
    find_permit_nonce,
    find_token_domain,
)
from sublet.base.errors import Refused
from sublet.core.escrow import event as ev
from sublet.core.escrow.state import ChannelState, Earned
from sublet.core.rail.transaction import Call
from sublet.service.chain_port import Reverted
from sublet.wire import escrow_call, token_message
from sublet.wire.abi import BadAnswer
from tests.rig.chains import KINDS
from tests.rig.escrow_house import DELAY_S, DOLLAR, EscrowHouse, lend_escrow


@pytest.fixture(params=KINDS)
async def house(request: pytest.FixtureRequest) -> AsyncIterator[EscrowHouse]:
    async with lend_escrow(request.param) as house:
        yield house


async def test_lives_a_whole_life(house: EscrowHouse) -> None:
    address, channel, provider = house.escrow.address, house.channel, house.provider
    assert await house.escrow.channel(house.id, at=None) == ChannelState()
    await house.deposit(10 * DOLLAR)
    assert await house.chain.balance(house.tenant.address) == 0  # it needed no gas
    deposited = await house.newest()
    claim = escrow_call.claim(address, [house.vouch(3 * DOLLAR)])
    assert (await house.send(provider, claim)).is_success
    house.hand.fund(house.tenant.address)
    begin = escrow_call.initiate_withdraw(address, channel, 5 * DOLLAR)
    assert (await house.send(house.tenant, begin)).is_success
    begun = await house.newest()
    assert await house.escrow.channel(house.id, at=begun) == ChannelState(
        balance=10 * DOLLAR,
        claimed=3 * DOLLAR,
        withdrawing=5 * DOLLAR,
        initiated_at_s=begun.time_s,
    )
    early = escrow_call.finalize_withdraw(address, channel)
    with pytest.raises(Reverted):
        await house.chain.estimate(early, sender=house.tenant.address)
    back = escrow_call.refund(address, channel, DOLLAR)
    assert (await house.send(provider, back)).is_success
    house.hand.pass_time(DELAY_S)
    assert (await house.send(house.tenant, early)).is_success
    pay = escrow_call.settle(address, receiver=provider.address, token=house.token)
    assert (await house.send(provider, pay)).is_success
    assert await house.escrow.channel(house.id, at=None) == ChannelState(
        balance=5 * DOLLAR, claimed=3 * DOLLAR
    )
    earned = await house.escrow.earned(provider.address, house.token, at=None)
    assert earned == Earned(claimed=3 * DOLLAR, settled=3 * DOLLAR)
    held = [
        await find_balance(house.chain, house.token, holder)
        for holder in (house.tenant.address, provider.address)
    ]
    assert held == [5 * DOLLAR, 3 * DOLLAR]
    # As it was, at an older block.
    assert await house.escrow.channel(house.id, at=deposited) == ChannelState(
        balance=10 * DOLLAR
    )
    newest = await house.newest()
    found = await house.escrow.happenings([house.id], first=0, last=newest.number)
    assert [type(one.event) for one in found] == [
        ev.Deposited,
        ev.Claimed,
        ev.WithdrawInitiated,
        ev.Refunded,
        ev.WithdrawFinalized,
    ]
    assert found[0].event == ev.Deposited(
        house.id,
        house.tenant.address,
        provider.address,
        10 * DOLLAR,
        10 * DOLLAR,
    )
    assert found[2].event == ev.WithdrawInitiated(
        house.id, 5 * DOLLAR, begun.time_s + DELAY_S
    )
    assert found[2].block == begun
    assert not await house.escrow.happenings(
        [house.name(house.make_channel(house.provider))], first=0, last=newest.number
    )


async def test_bad_voucher_harms_no_other(house: EscrowHouse) -> None:
    await house.deposit(2 * DOLLAR)
    forged = house.vouch(DOLLAR, key=house.provider)
    other = house.make_channel(house.tenant, salt=2)  # nothing was deposited there
    good, over = house.vouch(DOLLAR), house.vouch(9 * DOLLAR)
    claims = [forged, house.vouch(DOLLAR, channel=other), good, good, over]
    call = escrow_call.claim(house.escrow.address, claims)
    assert (await house.send(house.provider, call)).is_success
    state = await house.escrow.channel(house.id, at=None)
    assert (state.balance, state.claimed) == (2 * DOLLAR, 2 * DOLLAR)
    newest = await house.newest()
    logs = await house.chain.logs(
        house.escrow.address, [], first=newest.number, last=newest.number
    )
    events = [escrow_call.read_event(log.topics, log.data) for log in logs]
    assert [getattr(event, "reason", "") for event in events] == [
        "bad_signature",
        "nothing_left",
        "",
        "stale_voucher",
        "",
    ]


async def test_authorization_is_for_one_channel_once(house: EscrowHouse) -> None:
    await house.mint(house.tenant.address, 5 * DOLLAR)
    signed = await house.authorize(DOLLAR)
    other = house.make_channel(house.tenant, salt=2)
    for channel, amount in ((other, DOLLAR), (house.channel, 2 * DOLLAR)):
        call = escrow_call.deposit_with_authorization(
            house.escrow.address, channel, amount, signed
        )
        with pytest.raises(Reverted):
            await house.chain.estimate(call, sender=house.provider.address)
    call = escrow_call.deposit_with_authorization(
        house.escrow.address, house.channel, DOLLAR, signed
    )
    assert (await house.send(house.provider, call)).is_success
    with pytest.raises(Reverted):
        await house.chain.estimate(call, sender=house.provider.address)


async def test_deposit_after_an_approval(house: EscrowHouse) -> None:
    await house.mint(house.tenant.address, 3 * DOLLAR)
    house.hand.fund(house.tenant.address)
    spender = house.escrow.address
    allow = escrow_call.approve(house.token, spender=spender, amount=DOLLAR)
    assert (await house.send(house.tenant, allow)).is_success
    call = escrow_call.deposit(spender, house.channel, DOLLAR)
    assert (await house.send(house.tenant, call)).is_success
    assert (await house.escrow.channel(house.id, at=None)).balance == DOLLAR
    with pytest.raises(Reverted):
        await house.chain.estimate(call, sender=house.tenant.address)


async def test_domain_is_the_tokens_own(house: EscrowHouse) -> None:
    domain = await find_token_domain(house.chain, house.token)
    assert (domain.name, domain.version, domain.token) == ("Test USD", "2", house.token)
    with pytest.raises(Refused) as refused:
        await find_token_domain(house.chain, house.provider.address)
    assert refused.value.code == "token_domain"


async def test_real_token_takes_a_permit() -> None:
    async with lend_escrow("anvil") as house:
        await house.mint(house.tenant.address, 3 * DOLLAR)
        house.hand.fund(house.tenant.address)
        deadline_s = (await house.newest()).time_s + 3_600
        message = token_message.permit(
            await find_token_domain(house.chain, house.token),
            owner=house.tenant.address,
            spender=house.escrow.address,
            amount=DOLLAR,
            nonce=await find_permit_nonce(
                house.chain, house.token, house.tenant.address
            ),
            deadline_s=deadline_s,
        )
        call = escrow_call.deposit_with_permit(
            house.escrow.address,
            house.channel,
            DOLLAR,
            deadline_s=deadline_s,
            signature=house.tenant.sign(message.digest),
        )
        assert (await house.send(house.tenant, call)).is_success
        assert (await house.escrow.channel(house.id, at=None)).balance == DOLLAR
        assert (
            await find_permit_nonce(house.chain, house.token, house.tenant.address) == 1
        )


async def test_wallet_signs_the_exported_text(house: EscrowHouse) -> None:
    """What a hardware wallet is shown is what our own key signs."""
    domain = await find_token_domain(house.chain, house.token)
    tenant = house.tenant.address
    for message in (
        token_message.permit(
            domain, owner=tenant, spender=tenant, amount=5, nonce=0, deadline_s=9
        ),
        token_message.authorization(
            domain,
            payer=tenant,
            escrow=house.escrow.address,
            channel_id=house.id,
            amount=2**100,
            valid_after_s=0,
            valid_before_s=2**63,
            salt=1,
        ),
    ):
        shown = encode_typed_data(full_message=json.loads(message.to_json()))
        signed = eth_account.Account.sign_message(shown, house.tenant.to_hex())
        assert bytes(signed.signature) == house.tenant.sign(message.digest)


async def test_stranger_event_is_refused() -> None:
    word = "0x" + "11" * 32
    for topics, data in (((), b""), ((word,), b""), ((word, word), bytes(32))):
        with pytest.raises(BadAnswer):
            escrow_call.read_event(topics, data)
    known = escrow_call.CHANNEL_TOPICS[0]
    with pytest.raises(BadAnswer):  # an address with something in front of it
        escrow_call.read_event((known, word, word, word), bytes(64))


async def test_nothing_at_the_address_is_no_escrow(house: EscrowHouse) -> None:
    empty = type(house.escrow)(house.chain, house.tenant.address)
    with pytest.raises(BadAnswer):
        await empty.channel(house.id, at=None)
    assert await house.chain.call(Call(house.tenant.address, b"\x01")) == b""
