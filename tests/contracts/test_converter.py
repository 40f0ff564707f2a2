"""The converter: whoever tries to get tokens or dollars that are not its own, and how."""

from collections.abc import Callable, Iterator

import pytest

from sublet.wire.exchange import SignedQuote, digest_quote, exchange
from tests.contracts.bad_token import bad_token
from tests.contracts.converter_house import GIVEN, PRICE, ConverterHouse
from tests.contracts.escrow_house import (
    CONFIG,
    DOLLAR,
    FOR_EVER,
    NOBODY,
    SPOILS,
    THIEF,
    encode_channel,
)

PERMIT = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"


@pytest.fixture(scope="session")
def deployed_converter() -> ConverterHouse:
    return ConverterHouse()


@pytest.fixture
def at(deployed_converter: ConverterHouse) -> Iterator[ConverterHouse]:
    with deployed_converter.evm.env.anchor():
        yield deployed_converter


def test_exchanges_all_of_it(at: ConverterHouse) -> None:
    done = at.take()
    assert done.ok, done.fault
    at.check_moved()
    assert sum(log.address == at.converter for log in done.logs) == 1
    # What came in is a deposit as every other: vouchers claim it.
    assert at.house.claim(at.house.voucher(at.channel, DOLLAR)).ok
    assert at.house.books(at.channel) == (PRICE, DOLLAR)


def test_digest_is_the_one_that_makers_sign(at: ConverterHouse) -> None:
    quote = at.quote()
    types = "address,address,bytes32,address,uint256,uint128,uint256,bytes32"
    values = [
        bytes.fromhex(one[2:]) if isinstance(one, str) and len(one) == 66 else one
        for one in quote.values
    ]
    hashed = at.evm.call(
        at.converter, f"getQuoteDigest(({types}))", tuple(values)
    ).give("bytes32")
    own = digest_quote(quote, chain_id=at.evm.chain_id, converter=at.converter)
    assert "0x" + hashed.hex() == own


# ---- quotes where they do not belong ----------------------------------------------


def test_quote_counts_once(at: ConverterHouse) -> None:
    said = at.sign()
    assert at.take(said).ok
    at.give(at.token, at.payer.address, GIVEN)
    at.give(at.house.token, at.maker.address, PRICE)
    assert at.take(said).fault == "used"
    assert at.where() == (GIVEN, GIVEN, PRICE, PRICE)


def test_quote_that_failed_can_be_taken_later(at: ConverterHouse) -> None:
    """A revert marks nothing: all or nothing holds for the mark, too."""
    said = at.sign()
    take = ("approve(address,uint256)", at.converter, 0)
    at.do(at.house.token, *take, by=at.maker.address)
    at.check_unmoved(at.take(said), "over_allowance")
    again = ("approve(address,uint256)", at.converter, PRICE)
    at.do(at.house.token, *again, by=at.maker.address)
    assert at.take(said).ok
    at.check_moved()


def test_quote_after_its_deadline(at: ConverterHouse) -> None:
    said = at.sign(at.quote(deadline_s=at.evm.now_s - 1))
    at.check_unmoved(at.take(said), "expired")


@pytest.mark.parametrize(
    "place", [{"chain_id": 2}, {"converter": "0x" + "c0" * 20}], ids=str
)
def test_quote_of_another_chain_or_contract(
    at: ConverterHouse, place: dict[str, object]
) -> None:
    at.check_unmoved(at.take(at.sign(**place)), "bad_signature")


def test_quote_after_a_fork_of_the_chain(at: ConverterHouse) -> None:
    said, patch = at.sign(), at.evm.env.evm.patch
    was = patch.chain_id
    try:
        patch.chain_id = 999
        # The channel has another name there. A quote over that name is signed anew: the
        # old signature is of the other chain.
        assert at.take(said).fault == "wrong_channel"
        ask = f"getChannelId({CONFIG})"
        there = at.evm.call(at.escrow, ask, encode_channel(at.channel))
        forked = at.quote(channel_id="0x" + there.give("bytes32").hex())
        assert at.take(at.sign(forked)).fault == "bad_signature"
        assert at.take(at.sign(forked, chain_id=999)).ok
    finally:
        patch.chain_id = was


def test_quote_turned_to_another_channel(at: ConverterHouse) -> None:
    mine = at.house.channel(receiver=THIEF.address)
    at.check_unmoved(at.take(channel=mine), "wrong_channel")
    turned = at.quote(channel_id=at.house.channel_id(mine))
    said = SignedQuote(turned, at.sign().signature)
    at.check_unmoved(at.take(said, channel=mine), "bad_signature")


def test_dollars_of_another_token(at: ConverterHouse) -> None:
    """A channel's token is in its id: nobody swaps what the maker gives."""
    dearer = at.house.channel(token=at.token)
    at.check_unmoved(at.take(channel=dearer), "wrong_channel")


@pytest.mark.parametrize(
    "change",
    [
        {"units": "1"},
        {"dollars": 51 * DOLLAR},
        {"deadline_s": 2**40},
        {"token": NOBODY},
    ],
    ids=lambda change: next(iter(change)),
)
def test_quote_that_was_changed(at: ConverterHouse, change: dict[str, object]) -> None:
    said = SignedQuote(at.quote(**change), at.sign().signature)
    at.check_unmoved(at.take(said), "bad_signature")


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_malleable_signature_of_a_quote(
    at: ConverterHouse, spoil: Callable[[bytes], bytes]
) -> None:
    raw = bytes.fromhex(at.sign().signature[2:])
    said = SignedQuote(at.quote(), "0x" + spoil(raw).hex())
    at.check_unmoved(at.take(said), "bad_signature")


def test_nobody_is_no_maker(at: ConverterHouse) -> None:
    void = SignedQuote(at.quote(maker=NOBODY), "0x" + bytes(64).hex() + "1b")
    at.check_unmoved(at.take(void), "bad_signature")


# ---- others' allowances -----------------------------------------------------------


def test_thief_runs_in_front_with_a_quote(at: ConverterHouse) -> None:
    said = at.sign()
    at.check_unmoved(at.take(said, by=THIEF.address), "not_payer")
    assert at.take(said).ok  # and used nothing up
    at.check_moved()


def test_thief_as_maker_spends_no_allowance(at: ConverterHouse) -> None:
    """All of a payer's tokens for one micro-dollar: only the payer could say yes."""
    at.give(at.house.token, THIEF.address, 1)
    cheap = at.quote(maker=THIEF.address, dollars=1)
    said = at.sign(cheap, signer=THIEF)
    at.check_unmoved(at.take(said, by=THIEF.address), "not_payer")


def test_thief_as_payer_spends_no_maker(at: ConverterHouse) -> None:
    """Dollars of a maker that never signed."""
    mine = at.house.channel(payer=THIEF.address)
    own = at.quote(payer=THIEF.address, units="1", channel_id=at.house.channel_id(mine))
    said = at.sign(own, signer=THIEF)
    at.check_unmoved(at.take(said, channel=mine, by=THIEF.address), "bad_signature")


def test_maker_without_dollars(at: ConverterHouse) -> None:
    said = at.sign(at.quote(dollars=PRICE + 1))
    at.check_unmoved(at.take(said), "over_funds")


def test_payer_without_tokens(at: ConverterHouse) -> None:
    said = at.sign(at.quote(units=str(GIVEN + 1)))
    at.check_unmoved(at.take(said), "over_funds")


@pytest.mark.parametrize("change", [{"units": "0"}, {"dollars": 0}], ids=str)
def test_quote_over_nothing(at: ConverterHouse, change: dict[str, object]) -> None:
    at.check_unmoved(at.take(at.sign(at.quote(**change))), "zero_amount")


def test_what_was_sent_here_by_mistake_is_nobodys(at: ConverterHouse) -> None:
    """It pays for no quote, and goes into no channel."""
    at.do(at.house.token, "mint(address,uint256)", at.converter, PRICE)
    said = at.sign(at.quote(dollars=PRICE + 1))
    assert at.take(said).fault == "over_funds"
    assert at.take(at.sign()).ok
    assert at.balance(at.house.token, at.converter) == PRICE
    assert at.house.books(at.channel)[0] == PRICE


# ---- permits ----------------------------------------------------------------------


@pytest.mark.parametrize("is_front_run", [False, True])
def test_permit_of_a_quote_front_run(is_front_run: bool) -> None:
    at = ConverterHouse(has_approved=False)
    permitted = at.permit()
    if is_front_run:
        v, r, s = permitted[64], permitted[:32], permitted[32:64]
        args = (at.payer.address, at.converter, GIVEN, FOR_EVER, v, r, s)
        at.do(at.token, PERMIT, *args, by=THIEF.address)
    assert at.take_with_permit(permitted).ok
    at.check_moved()


def test_permit_of_another() -> None:
    at = ConverterHouse(has_approved=False)
    at.check_unmoved(at.take_with_permit(at.permit(signer=THIEF)), "over_allowance")
    at.check_unmoved(at.take_with_permit(at.permit(), by=THIEF.address), "not_payer")


# ---- tokens that are none ---------------------------------------------------------


def test_token_with_a_fee_is_not_exchanged() -> None:
    at = ConverterHouse(bad_token(arrives="amount - amount // 100"))
    at.check_unmoved(at.take(), "short_transfer")


def test_token_that_says_false_is_not_exchanged() -> None:
    at = ConverterHouse(bad_token(answer="False"))
    at.check_unmoved(at.take(), "transfer_failed")


def test_token_that_says_nothing_is_exchanged() -> None:
    at = ConverterHouse(bad_token(gives=""))
    assert at.take().ok
    at.check_moved()


def test_dollars_with_a_fee_are_not_exchanged() -> None:
    at = ConverterHouse(dollars=bad_token(arrives="amount - amount // 100"))
    at.check_unmoved(at.take(), "short_transfer")


def test_token_that_is_no_contract(at: ConverterHouse) -> None:
    said = at.sign(at.quote(token="0x" + "ee" * 20))
    assert not at.take(said).ok
    assert at.where() == (GIVEN, 0, PRICE, 0)


def test_dollars_that_the_escrow_does_not_take(at: ConverterHouse) -> None:
    channel = at.house.channel(token=at.token)
    at.give(at.token, at.maker.address, PRICE)
    said = at.sign(at.quote(channel_id=at.house.channel_id(channel)))
    assert at.take(said, channel=channel).fault == "bad_token"
    assert at.balance(at.token, at.payer.address) == GIVEN


@pytest.mark.parametrize("is_within", [True, False])
def test_reentrant_token_finds_the_converter_locked(is_within: bool) -> None:
    """A token that is a payer itself takes a good quote from within its own transfer."""
    at = ConverterHouse(bad_token())
    at.give(at.token, at.token, 1)
    at.give(at.house.token, at.maker.address, DOLLAR)
    inner = at.sign(at.quote(payer=at.token, units="1", dollars=DOLLAR))
    call = exchange(at.converter, at.channel, inner)
    if is_within:
        at.do(at.token, "arm(address,bytes)", at.converter, call.data)
        assert at.take().ok
        assert at.do(at.token, "was_refused()").give("bool")
        assert at.house.books(at.channel)[0] == PRICE
    else:  # and the same call is fine by itself
        assert at.send(call, by=at.token).ok
        assert at.house.books(at.channel)[0] == DOLLAR
