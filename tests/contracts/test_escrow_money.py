"""Money in and out: deposits, batches, payees on a blacklist, withdrawals."""

from typing import Any

import eth_abi
import pytest

from tests.contracts.escrow_house import (
    DEPOSIT,
    DEPOSIT_3009,
    DEPOSIT_PERMIT,
    DOLLAR,
    FOR_EVER,
    NOBODY,
    THIEF,
    EscrowHouse,
    check_conserved,
    encode_channel,
    key,
    make_rich,
    read_logs,
    skipped,
)

# ---- money in ---------------------------------------------------------------------


def _permit(house: EscrowHouse, amount: int) -> bytes:
    return house.sign_token(
        house.tenant,
        "Permit",
        owner=house.tenant.address,
        spender=house.escrow,
        value=amount,
        nonce=0,
        deadline=FOR_EVER,
    )


def _use_permit(house: EscrowHouse, amount: int, signature: bytes) -> None:
    done = house.evm.call(
        house.token,
        "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)",
        house.tenant.address,
        house.escrow,
        amount,
        FOR_EVER,
        signature[64],
        signature[:32],
        signature[32:64],
    )
    assert done.ok


@pytest.mark.parametrize("is_front_run", [False, True])
def test_permit_front_run(house: EscrowHouse, is_front_run: bool) -> None:
    channel = house.channel()
    house.mint(channel.payer, DOLLAR, approve=False)
    signature = _permit(house, DOLLAR)
    if is_front_run:
        _use_permit(house, DOLLAR, signature)
    args = (encode_channel(channel), DOLLAR, FOR_EVER, signature)
    assert house.call(DEPOSIT_PERMIT, *args, by=channel.payer).ok
    assert house.books(channel) == (DOLLAR, 0)


def test_permit_cannot_be_turned_to_another_channel(house: EscrowHouse) -> None:
    """A permit names a spender and no channel, so only its owner brings it."""
    house.mint(house.tenant.address, DOLLAR, approve=False)
    mine = house.channel(
        payer_authorizer=THIEF.address,
        receiver=THIEF.address,
        receiver_authorizer=THIEF.address,
    )
    args = (encode_channel(mine), DOLLAR, FOR_EVER, _permit(house, DOLLAR))
    assert not house.call(DEPOSIT_PERMIT, *args, by=THIEF.address).ok
    _use_permit(house, DOLLAR, _permit(house, DOLLAR))  # now the escrow is allowed
    assert not house.call(DEPOSIT_PERMIT, *args, by=THIEF.address).ok
    assert not house.deposit(mine, DOLLAR, by=THIEF.address).ok
    assert house.balance(house.tenant.address) == DOLLAR


def test_authorization_binds_the_channel(house: EscrowHouse) -> None:
    channel = house.channel()
    house.mint(channel.payer, 2 * DOLLAR, approve=False)
    signature = house.sign_authorization(
        channel, DOLLAR, salt=5, target=house.escrow, signer=house.tenant
    )
    mine = house.channel(receiver=THIEF.address)
    for config, amount, salt in (
        (mine, DOLLAR, 5),
        (channel, DOLLAR + 1, 5),
        (channel, DOLLAR, 6),
    ):
        args = (encode_channel(config), amount, 0, FOR_EVER, salt, signature)
        done = house.call(DEPOSIT_3009, *args, by=THIEF.address)
        assert done.fault == "bad_signature"
    args = (encode_channel(channel), DOLLAR, 0, FOR_EVER, 5, signature)
    assert house.call(DEPOSIT_3009, *args, by=THIEF.address).ok  # who sends is all one
    assert house.call(DEPOSIT_3009, *args, by=channel.payer).fault == "used"
    assert house.books(channel) == (DOLLAR, 0)


def test_collector_serves_the_escrow_alone(house: EscrowHouse) -> None:
    collector = house.evm.deploy("Eip3009Collector.vy", house.escrow)
    channel = house.channel()
    house.mint(channel.payer, DOLLAR, approve=False)
    signature = house.sign_authorization(
        channel, DOLLAR, salt=5, target=collector, signer=house.tenant
    )
    types = ["uint256", "uint256", "uint256", "bytes"]
    data = eth_abi.encode(types, [0, FOR_EVER, 5, signature])
    collect = "collect(address,address,uint256,bytes32,address,bytes)"
    raw_id = bytes.fromhex(house.channel_id(channel)[2:])
    straight = house.evm.call(
        collector,
        collect,
        channel.payer,
        channel.token,
        DOLLAR,
        raw_id,
        NOBODY,
        data,
        sender=THIEF.address,
    )
    assert straight.fault == "not_escrow"
    args = (encode_channel(channel), DOLLAR, collector, data)
    assert house.call(DEPOSIT, *args, by=THIEF.address).ok
    assert (house.books(channel), house.balance(collector)) == ((DOLLAR, 0), 0)


def test_anybody_tops_up(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    assert house.deposit(channel, DOLLAR, by=make_rich(house)).ok
    assert house.books(channel) == (2 * DOLLAR, 0)
    assert house.initiate(channel, DOLLAR, by=THIEF.address).fault == "not_payer"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"withdraw_delay": 899}, "bad_delay"),
        ({"withdraw_delay": 2_592_001}, "bad_delay"),
        ({"token": "0x" + "55" * 20}, "bad_token"),
        ({"receiver": NOBODY}, "bad_party"),
        ({"payer": NOBODY}, "bad_party"),
    ],
)
def test_deposit_into_no_channel(
    house: EscrowHouse, changes: dict[str, Any], fault: str
) -> None:
    channel = house.channel(**changes)
    assert house.deposit(channel, 1, by=make_rich(house)).fault == fault


# ---- batches, blacklists ----------------------------------------------------------


def test_bad_voucher_does_not_stop_the_batch(house: EscrowHouse) -> None:
    channels = [
        house.open(DOLLAR, salt="0x" + number.to_bytes(32, "big").hex())
        for number in range(1, 5)
    ]
    empty = house.channel(salt="0x" + "ff" * 32)
    done = house.claim(
        house.voucher(channels[0], 10),
        house.voucher(channels[1], 10, signer=THIEF),
        house.voucher(empty, 10),
        house.voucher(channels[2], 10, total=11),
        house.voucher(channels[3], 2 * DOLLAR),
    )
    reasons = ["bad_signature", "nothing_left", "over_voucher"]
    assert skipped(done, house.escrow) == reasons
    assert [house.books(channel)[1] for channel in channels] == [10, 0, 0, DOLLAR]
    assert house.earned(house.provider.address) == (DOLLAR + 10, 0)
    check_conserved(house, *channels)


def test_hundred_claims_and_no_more(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    claims = [house.voucher(channel, number) for number in range(1, 102)]
    assert not house.claim(*claims).ok
    assert house.claim(*claims[:100]).ok
    assert house.books(channel) == (DOLLAR, 100)


def test_two_claims_in_one_block(house: EscrowHouse) -> None:
    """Whoever comes second in the same block finds the books as the first left them."""
    channel = house.open(DOLLAR)
    voucher = house.voucher(channel, 500_000)
    block = house.evm.env.evm.patch.block_number
    first, second = house.claim(voucher), house.claim(voucher)
    assert house.evm.env.evm.patch.block_number == block
    assert (skipped(first, house.escrow), skipped(second, house.escrow)) == (
        [],
        ["stale_voucher"],
    )
    assert house.earned(house.provider.address) == (500_000, 0)
    check_conserved(house, channel)


def test_blacklisted_payee_stops_nobody(house: EscrowHouse) -> None:
    other = key(3)
    blocked = house.open(DOLLAR)
    free = house.open(DOLLAR, receiver=other.address)
    house._token(house.token, "blacklist(address)", house.provider.address)
    done = house.claim(house.voucher(blocked, 700), house.voucher(free, 800))
    assert skipped(done, house.escrow) == []
    assert house.settle(house.provider.address).fault == "blacklisted"
    assert house.settle(other.address).ok
    assert house.balance(other.address) == 800
    # It waits for the blocked one, and the tenant's rest goes back all the same.
    assert house.refund(blocked, DOLLAR).ok
    house._token(house.token, "unBlacklist(address)", house.provider.address)
    assert house.settle(house.provider.address).ok
    assert house.balance(house.provider.address) == 700
    check_conserved(house, blocked, free)


def test_settle_pays_once_and_then_nothing(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    assert house.claim(house.voucher(channel, 5)).ok
    assert [len(house.settle().logs), len(house.settle().logs)] == [2, 0]
    assert house.balance(house.provider.address) == 5


# ---- withdrawals ------------------------------------------------------------------


def test_withdrawal_waits_for_the_delay(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    assert house.finalize(channel).fault == "not_withdrawing"
    assert house.initiate(channel, DOLLAR).ok
    assert house.initiate(channel, DOLLAR).fault == "withdrawing"
    house.evm.pass_s(899)
    assert house.finalize(channel).fault == "too_early"
    house.evm.pass_s(1)
    assert house.finalize(channel).ok
    assert house.books(channel) == (0, 0)
    assert house.balance(channel.payer) == DOLLAR


def test_provider_claims_within_the_challenge(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    voucher = house.voucher(channel, 900_000)
    assert house.initiate(channel, DOLLAR).ok
    house.evm.pass_s(899)
    assert house.claim(voucher).ok
    house.evm.pass_s(1)
    done = house.finalize(channel)
    assert read_logs(done, house.escrow)[0][2:] == (100_000, 900_000)
    assert house.settle().ok
    assert house.balance(house.provider.address) == 900_000
    assert house.balance(house.tenant.address) == 100_000
    assert house.balance(house.escrow) == 0


def test_provider_that_claims_too_late(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    voucher = house.voucher(channel, 900_000)
    assert house.initiate(channel, DOLLAR).ok
    house.evm.pass_s(900)
    assert house.finalize(channel).ok
    assert skipped(house.claim(voucher), house.escrow) == ["nothing_left"]
    assert house.balance(channel.payer) == DOLLAR


def test_nobody_puts_a_withdrawal_off(house: EscrowHouse) -> None:
    """Neither a deposit of a stranger nor a refund of one unit starts the wait anew."""
    channel = house.open(DOLLAR)
    assert house.initiate(channel, DOLLAR).ok
    started_at_s = house.pending(channel)[1]
    house.evm.pass_s(800)
    assert house.deposit(channel, 1, by=make_rich(house)).ok
    assert house.refund(channel, 1).ok
    assert house.pending(channel) == (DOLLAR - 1, started_at_s)
    house.evm.pass_s(100)
    assert house.finalize(channel).ok
    assert house.books(channel) == (1, 0)
