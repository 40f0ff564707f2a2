"""The life of a sending: each legal step, and that nothing else moves it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sublet.core.rail.sending import (
    ENDED,
    HandOver,
    Inclusion,
    OfferMore,
    Phase,
    Policy,
    Seen,
    Sending,
    advance,
    bump_fees,
    choose_fees,
    choose_gas,
    decide,
    find_next,
    mark_handed,
    mark_signed,
    raise_cap,
    refuse,
)
from sublet.core.rail.transaction import Call, Fees, SignedTransaction

POLICY = Policy(fee_max_wei=1_000, tip_max_wei=50, confirmations=3, patience_blocks=5)
ERRAND = Sending(id="one", sender="0x" + "a" * 40, call=Call("0x" + "b" * 40))
FEES = Fees(max_wei=100, tip_wei=10)
BLOCK = "0x" + "c" * 64


def signed(fees: Fees = FEES) -> SignedTransaction:
    return SignedTransaction(b"raw", f"0x{fees.max_wei:064x}", fees)


SIGNED = mark_signed(ERRAND, signed(), nonce=7, gas=50_000, head=10)
SENT = mark_handed(SIGNED, head=10)


def stand(number: int, *, is_success: bool = True) -> Inclusion:
    return Inclusion(number, BLOCK, is_success, 40_000, 90)


def seen(head: int, *, nonce: int = 7, inclusion: Inclusion | None = None) -> Seen:
    return Seen(head=head, nonce_confirmed=nonce, inclusion=inclusion)


def test_goes_from_errand_to_certainty() -> None:
    mined = advance(SENT, seen(11, inclusion=stand(11)), POLICY)
    assert (mined.phase, mined.block_number) == (Phase.MINED, 11)
    still = advance(mined, seen(13, inclusion=stand(11)), POLICY)
    assert still.phase is Phase.MINED
    ended = advance(mined, seen(14, nonce=8, inclusion=stand(11)), POLICY)
    assert ended.phase is Phase.CONFIRMED
    assert (ended.gas_used, ended.gas_price_wei) == (40_000, 90)


def test_contracts_refusal_counts_once_it_is_certain() -> None:
    failed = stand(11, is_success=False)
    assert advance(SENT, seen(12, inclusion=failed), POLICY).phase is Phase.MINED
    ended = advance(SENT, seen(14, nonce=8, inclusion=failed), POLICY)
    assert (ended.phase, ended.reason) == (Phase.REVERTED, "the contract refused")


def test_block_that_left_is_no_block() -> None:
    mined = advance(SENT, seen(11, inclusion=stand(11)), POLICY)
    again = advance(mined, seen(11), POLICY)
    assert (again.phase, again.block_number) == (Phase.SENT, 0)
    assert again.nonce == 7 and again.attempts == SENT.attempts
    assert decide(again, head=11, suggested=FEES, policy=POLICY) == HandOver(signed())
    elsewhere = advance(again, seen(12, inclusion=stand(12)), POLICY)
    assert elsewhere.block_number == 12


def test_nonce_of_another_ends_it_only_for_certain() -> None:
    lost = advance(SENT, seen(20, nonce=8), POLICY)
    assert (lost.phase, lost.lost_at_block) == (Phase.SENT, 20)
    assert decide(lost, head=30, suggested=FEES, policy=POLICY) is None
    # The node that was asked lagged behind: ours is mined after all.
    assert advance(lost, seen(21, inclusion=stand(19)), POLICY).lost_at_block == 0
    assert advance(lost, seen(22, nonce=7), POLICY).lost_at_block == 0
    assert advance(lost, seen(22, nonce=8), POLICY).phase is Phase.SENT
    ended = advance(lost, seen(23, nonce=8), POLICY)
    assert ended.phase is Phase.USURPED and "another program" in ended.reason


def test_offers_more_after_a_while_up_to_the_cap() -> None:
    assert decide(SENT, head=10, suggested=FEES, policy=POLICY) is None
    assert decide(SENT, head=14, suggested=FEES, policy=POLICY) == HandOver(signed())
    more = decide(SENT, head=15, suggested=FEES, policy=POLICY)
    assert more == OfferMore(Fees(max_wei=112, tip_wei=12))
    dear = replace(SENT, attempts=(signed(Fees(950, 50)),))
    assert isinstance(decide(dear, head=15, suggested=FEES, policy=POLICY), HandOver)


def test_each_attempt_has_the_same_nonce() -> None:
    more = mark_signed(SENT, signed(Fees(112, 12)), nonce=7, gas=50_000, head=15)
    assert more.phase is Phase.SIGNED and len(more.attempts) == 2
    mined = advance(more, seen(16, inclusion=stand(16)), POLICY)
    assert mined.phase is Phase.MINED and mined.nonce == 7


@pytest.mark.parametrize(
    ("reason", "phase"),
    [
        ("", Phase.SENT),
        ("nonce_used", Phase.SENT),  # the next look at the chain tells by whom
        ("no_gas_money", Phase.SIGNED),  # handed over again, until there is some
        ("not_taken", Phase.SIGNED),
        ("underpriced", Phase.SIGNED),
    ],
)
def test_says_why_it_waits(reason: str, phase: Phase) -> None:
    kept = mark_handed(SIGNED, head=11, reason=reason)
    assert (kept.phase, kept.reason, kept.nonce) == (phase, reason, 7)
    order = decide(kept, head=11, suggested=FEES, policy=POLICY)
    wanted = {"underpriced": OfferMore, "no_gas_money": HandOver, "not_taken": HandOver}
    assert isinstance(order, wanted.get(reason, type(None)))


def test_one_after_the_other() -> None:
    two = replace(ERRAND, id="two")
    assert find_next([ERRAND, two]) == ERRAND
    assert find_next([SENT, two]) is None
    assert find_next([SIGNED, two]) is None
    mined = replace(SENT, phase=Phase.MINED)
    assert find_next([mined, two]) == two
    assert find_next([]) is None


def test_urgent_one_goes_first_and_lifts_the_cap_of_all() -> None:
    urgent = replace(ERRAND, id="urgent", fee_max_wei=5_000)
    assert find_next([ERRAND, urgent]) == urgent
    assert raise_cap(POLICY, [ERRAND, urgent]).fee_max_wei == 5_000
    assert raise_cap(POLICY, [ERRAND]) == raise_cap(POLICY, []) == POLICY
    cheap = replace(urgent, fee_max_wei=5)
    assert raise_cap(POLICY, [cheap]).fee_max_wei == POLICY.fee_max_wei


def test_gas_and_fees_keep_their_caps() -> None:
    assert choose_gas(POLICY.gas_max, POLICY) == POLICY.gas_max
    assert choose_gas(POLICY.gas_max + 1, POLICY) is None
    assert choose_fees(Fees(5_000, 100), POLICY) is None
    assert choose_fees(Fees(1_900, 100), POLICY) == Fees(1_000, 50)


@given(
    st.integers(1, 2_000),
    st.integers(1, 200),
    st.integers(1, 3_000),
    st.integers(1, 99),
)
def test_new_offer_is_better_or_none(a: int, b: int, c: int, d: int) -> None:
    last, suggested = Fees(max(a, b), b), Fees(max(c, d), d)
    fees = bump_fees(last, suggested, POLICY)
    if fees is not None:
        assert fees.max_wei * 100 >= last.max_wei * 110
        assert fees.tip_wei * 100 >= last.tip_wei * 110
        assert fees.tip_wei <= fees.max_wei <= POLICY.fee_max_wei


@given(
    st.sampled_from(sorted(ENDED)),
    st.integers(0, 99),
    st.integers(0, 9),
    st.booleans(),
)
def test_end_is_the_end(phase: Phase, head: int, nonce: int, is_mined: bool) -> None:
    ended = replace(SENT, phase=phase)
    fact = seen(head, nonce=nonce, inclusion=stand(head) if is_mined else None)
    assert advance(ended, fact, POLICY) == ended
    assert decide(ended, head=head, suggested=FEES, policy=POLICY) is None


def test_errand_is_not_moved_by_the_chain() -> None:
    assert advance(ERRAND, seen(99, nonce=99), POLICY) == ERRAND
    assert decide(ERRAND, head=99, suggested=FEES, policy=POLICY) is None
    assert refuse(ERRAND, "it would fail").is_ended
