"""Vouchers that are no good, and who may do what with good ones."""

from typing import Any

import pytest

from sublet.base.ids import NO_DIGEST
from sublet.core.document import Voucher
from sublet.wire.typed_data import Domain, digest
from tests.contracts.escrow_house import (
    CLAIM_SIGNED,
    DOLLAR,
    NOBODY,
    REFUND_SIGNED,
    SPOILS,
    THIEF,
    Claimed,
    EscrowHouse,
    call_data,
    check_conserved,
    encode_channel,
    key,
    make_rich,
    skipped,
)

# ---- vouchers where they do not belong --------------------------------------------


@pytest.mark.parametrize("elsewhere", ["chain", "contract", "channel"])
def test_voucher_replayed_elsewhere(house: EscrowHouse, elsewhere: str) -> None:
    channel = house.open(DOLLAR)
    said = Voucher(house.channel_id(channel), DOLLAR)
    domain = house.domain
    if elsewhere == "chain":
        domain = Domain(NO_DIGEST, house.chain_id + 1, house.escrow)
    elif elsewhere == "contract":
        domain = Domain(NO_DIGEST, house.chain_id, "0x" + "77" * 20)
    else:
        other = house.channel(salt="0x" + "01" * 32)
        said = Voucher(house.channel_id(other), DOLLAR)
    signature = house.tenant.sign(digest(said, domain))
    done = house.claim(Claimed(channel, DOLLAR, signature, DOLLAR))
    assert skipped(done, house.escrow) == ["bad_signature"]
    assert house.books(channel) == (DOLLAR, 0)


def test_voucher_after_a_fork_of_the_chain(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    voucher = house.voucher(channel, DOLLAR)
    patch = house.evm.env.evm.patch
    was = patch.chain_id
    try:
        patch.chain_id = 999
        # On the other side the same money is a channel of another name: an empty one.
        done = house.claim(voucher)
        assert skipped(done, house.escrow) == ["nothing_left"]
        forked = Domain(NO_DIGEST, 999, house.escrow)
        asked = house.evm.call(house.escrow, "domainSeparator()")
        assert asked.give("bytes32") == forked.channel_separator
    finally:
        patch.chain_id = was
    assert skipped(house.claim(voucher), house.escrow) == []


# ---- vouchers that are no good ----------------------------------------------------


def test_stale_voucher_pays_nothing(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    later, earlier = house.voucher(channel, 500_000), house.voucher(channel, 400_000)
    assert house.claim(later).ok
    done = house.claim(later, earlier)
    assert skipped(done, house.escrow) == ["stale_voucher"] * 2
    assert house.books(channel) == (DOLLAR, 500_000)


def test_forged_voucher_pays_nothing(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    done = house.claim(house.voucher(channel, DOLLAR, signer=house.provider))
    assert skipped(done, house.escrow) == ["bad_signature"]


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_malleable_signature(house: EscrowHouse, spoil: Any) -> None:
    channel, good = house.open(DOLLAR), house.channel(salt="0x" + "02" * 32)
    assert house.deposit(good, DOLLAR, by=make_rich(house)).ok
    voucher = house.voucher(channel, DOLLAR)
    spoilt = Claimed(channel, DOLLAR, spoil(voucher.signature), DOLLAR)
    done = house.claim(spoilt, house.voucher(good, DOLLAR))
    assert skipped(done, house.escrow) == ["bad_signature"]
    assert (house.books(channel)[1], house.books(good)[1]) == (0, DOLLAR)


def test_zero_signer_signs_for_nobody(house: EscrowHouse) -> None:
    """A channel without an authorizer is its payer's, not everybody's."""
    channel = house.open(DOLLAR, payer_authorizer=NOBODY, receiver_authorizer=NOBODY)
    void = Claimed(channel, DOLLAR, bytes(64) + b"\x1b", DOLLAR)
    assert skipped(house.claim(void), house.escrow) == ["bad_signature"]
    encoded = ([void.encode()], bytes(64) + b"\x1b")
    assert house.call(CLAIM_SIGNED, *encoded, by=NOBODY).fault == "bad_signature"
    assert house.claim(house.voucher(channel, DOLLAR)).ok
    assert house.books(channel) == (DOLLAR, DOLLAR)


def test_voucher_over_the_deposit(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    done = house.claim(house.voucher(channel, 5 * DOLLAR))
    assert skipped(done, house.escrow) == []
    assert house.books(channel) == (DOLLAR, DOLLAR)
    # What is deposited later, the same voucher takes, up to what it says.
    house.mint(channel.payer, 9 * DOLLAR)
    assert house.deposit(channel, 9 * DOLLAR).ok
    assert house.claim(house.voucher(channel, 5 * DOLLAR)).ok
    assert house.books(channel) == (10 * DOLLAR, 5 * DOLLAR)
    check_conserved(house, channel)


def test_claim_of_more_than_the_voucher(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    done = house.claim(house.voucher(channel, 10, total=11))
    assert skipped(done, house.escrow) == ["over_voucher"]


def test_reused_closed_channel(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    old = house.voucher(channel, 600_000)
    assert house.claim(old).ok
    assert house.refund(channel, DOLLAR).ok  # closed: nothing is free any more
    assert house.books(channel) == (600_000, 600_000)
    house.mint(channel.payer, DOLLAR)
    assert house.deposit(channel, DOLLAR).ok
    done = house.claim(old, house.voucher(channel, 599_999))
    assert skipped(done, house.escrow) == ["stale_voucher"] * 2
    assert house.claim(house.voucher(channel, 600_001)).ok
    assert house.books(channel) == (1_600_000, 600_001)
    check_conserved(house, channel)


# ---- who may ----------------------------------------------------------------------


def test_only_the_payee_claims(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR, receiver_authorizer=key(9).address)
    voucher = house.voucher(channel, 10)
    done = house.claim(voucher, by=THIEF.address)
    assert skipped(done, house.escrow) == ["not_payee"]
    assert house.claim(voucher, by=key(9).address).ok
    assert house.books(channel)[1] == 10


def test_signed_batch_is_for_this_batch_alone(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    ten, twenty = house.voucher(channel, 10), house.voucher(channel, 20)
    signature = house.sign_batch([ten], house.provider)
    forged = house.claim_signed(twenty, signature=signature, by=THIEF.address)
    # Another signer comes out of it, who may claim nothing.
    assert skipped(forged, house.escrow) == ["not_payee"]
    assert house.claim_signed(ten, signature=signature, by=THIEF.address).ok
    again = house.claim_signed(ten, signature=signature, by=THIEF.address)
    assert skipped(again, house.escrow) == ["stale_voucher"]
    assert house.books(channel) == (DOLLAR, 10)


def test_hot_key_is_capped_by_the_deposit(house: EscrowHouse) -> None:
    hot = key(7)
    channel = house.open(DOLLAR, payer_authorizer=hot.address)
    assert skipped(house.claim(house.voucher(channel, 1)), house.escrow) == [
        "bad_signature"
    ]
    assert house.claim(house.voucher(channel, 2**128 - 1, signer=hot)).ok
    assert house.books(channel) == (DOLLAR, DOLLAR)
    assert house.initiate(channel, 1, by=hot.address).fault == "not_payer"


def test_signed_refund_counts_once(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    signature = house.sign_refund(channel, 100, 0, house.provider)
    assert house.refund_signed(channel, 100, nonce=0, signature=signature).ok
    again = house.refund_signed(channel, 100, nonce=0, signature=signature)
    assert again.fault == "bad_nonce"
    later = house.refund_signed(channel, 100, nonce=1, signature=signature)
    assert later.fault == "not_payee"
    assert house.books(channel) == (DOLLAR - 100, 0)


def test_multicall_claims_and_refunds_at_once(house: EscrowHouse) -> None:
    channel = house.open(DOLLAR)
    voucher = house.voucher(channel, 300_000)
    calls = [
        call_data(
            CLAIM_SIGNED,
            [voucher.encode()],
            house.sign_batch([voucher], house.provider),
        ),
        call_data(
            REFUND_SIGNED,
            encode_channel(channel),
            DOLLAR,
            0,
            house.sign_refund(channel, DOLLAR, 0, house.provider),
        ),
    ]
    done = house.call("multicall(bytes[])", calls, by=THIEF.address)
    assert done.give("bytes[]") == (b"", b"")
    assert house.books(channel) == (300_000, 300_000)
    assert house.balance(house.tenant.address) == 700_000
    # All or nothing: the refund is used up, so the claim before it falls too.
    voucher = house.voucher(channel, 400_000)
    assert house.call("multicall(bytes[])", calls, by=NOBODY).fault == "bad_nonce"
