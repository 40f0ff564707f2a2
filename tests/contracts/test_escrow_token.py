"""Tokens that are none."""

from tests.contracts.bad_token import bad_token
from tests.contracts.escrow_house import (
    DEPOSIT,
    DOLLAR,
    NOBODY,
    EscrowHouse,
    call_data,
    check_conserved,
    encode_channel,
)


def test_fee_on_transfer_is_refused() -> None:
    house = EscrowHouse(bad_token(arrives="amount - amount // 100"))
    channel = house.channel()
    house.mint(channel.payer, DOLLAR)
    assert house.deposit(channel, DOLLAR).fault == "short_transfer"
    assert house.books(channel) == (0, 0)


def test_token_that_returns_false_is_refused() -> None:
    house = EscrowHouse(bad_token(answer="False"))
    channel = house.channel()
    house.mint(channel.payer, DOLLAR)
    assert house.deposit(channel, DOLLAR).fault == "transfer_failed"


def test_token_that_returns_nothing_works() -> None:
    house = EscrowHouse(bad_token(gives=""))
    channel = house.open(DOLLAR)
    assert house.claim(house.voucher(channel, 400_000)).ok
    assert house.settle().ok
    assert house.refund(channel, DOLLAR).ok
    assert house.balance(house.provider.address) == 400_000
    assert house.balance(house.tenant.address) == 600_000


def test_reentrant_token_finds_every_door_locked() -> None:
    house = EscrowHouse(bad_token())
    channel = house.open(4 * DOLLAR)
    assert house.claim(house.voucher(channel, DOLLAR)).ok
    config = encode_channel(channel)
    inner = {
        "settle": call_data("settle(address,address)", channel.receiver, channel.token),
        "deposit": call_data(DEPOSIT, config, 1, NOBODY, b""),
        "claim": call_data(
            "claim((((address,address,address,address,address,uint40,bytes32),uint128),"
            "bytes,uint128)[])",
            [house.voucher(channel, 2 * DOLLAR).encode()],
        ),
    }
    inner["multicall"] = call_data("multicall(bytes[])", [inner["settle"]])
    for data in inner.values():
        with house.evm.env.anchor():
            arm = ("arm(address,bytes)", house.escrow, data)
            house._token(house.token, *arm)
            assert house.settle().ok
            assert house.evm.call(house.token, "was_refused()").give("bool")
            assert house.balance(channel.receiver) == DOLLAR
            assert house.earned(channel.receiver) == (DOLLAR, DOLLAR)
            check_conserved(house, channel)
