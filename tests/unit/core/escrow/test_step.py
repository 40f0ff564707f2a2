"""The escrow's rules, one by one. That the contract has the same: ``tests/contracts``."""

import pytest

from sublet.base.ids import NO_DIGEST
from sublet.core.document import Channel
from sublet.core.escrow import event as ev
from sublet.core.escrow import operation as op
from sublet.core.escrow.state import (
    Account,
    ChannelState,
    EscrowState,
    EscrowUnbalanced,
    check_escrow,
)
from sublet.core.escrow.step import CLAIMS_MAX, EscrowRefused, step

PAYER, PAYEE, HOT, TOKEN = ("0x" + letter * 40 for letter in "abcd")
ID = "0x" + "1" * 64
CHANNEL = Channel(PAYER, HOT, PAYEE, PAYEE, TOKEN, 900, NO_DIGEST)
NOW_S = 1_790_000_000


def _play(*asked: op.Operation, at_s: int = NOW_S) -> EscrowState:
    state = EscrowState(frozenset({TOKEN}))
    for one in (op.Mint(TOKEN, PAYER, 1_000), *asked):
        state = step(state, one, at_s=at_s).state
        check_escrow(state)
    return state


def _claim(most: int, total: int = -1, signer: str = HOT) -> op.Claim:
    voucher = op.Voucher(ID, CHANNEL, most, most if total < 0 else total, signer)
    return op.Claim(PAYEE, (voucher,))


DEPOSIT = op.Deposit(ID, CHANNEL, 600, PAYER)


def test_claim_moves_books_alone() -> None:
    state = _play(DEPOSIT, _claim(250))
    assert state.channel(ID) == ChannelState(balance=600, claimed=250)
    assert (state.wallet(PAYEE, TOKEN), state.held(TOKEN)) == (0, 600)


def test_settle_pays_once() -> None:
    once = _play(DEPOSIT, _claim(250), op.Settle(PAYEE, TOKEN))
    assert (once.wallet(PAYEE, TOKEN), once.held(TOKEN)) == (250, 350)
    assert step(once, op.Settle(PAYEE, TOKEN), at_s=NOW_S).state == once


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (op.Claim(PAYER, _claim(1).vouchers), "not_payee"),
        (_claim(300, total=301), "over_voucher"),
        (_claim(250), "stale_voucher"),
        (_claim(251, signer=PAYER), "bad_signature"),  # the hot key signs, no other
    ],
)
def test_skips_a_voucher_by_name(asked: op.Claim, reason: str) -> None:
    state = _play(DEPOSIT, _claim(250))
    outcome = step(state, asked, at_s=NOW_S)
    assert outcome.events == (ev.Skipped(ID, reason),)
    assert outcome.state == state


def test_voucher_over_deposit_pays_the_rest() -> None:
    state = _play(DEPOSIT, _claim(9_999))
    assert state.channel(ID).claimed == 600
    again = step(state, _claim(10_000), at_s=NOW_S)
    assert again.events == (ev.Skipped(ID, "nothing_left"),)


def test_refund_answers_a_withdrawal() -> None:
    asked = op.InitiateWithdraw(ID, CHANNEL, 500, PAYER)
    state = _play(DEPOSIT, asked, op.Refund(ID, CHANNEL, 200, PAYEE))
    assert state.channel(ID) == ChannelState(
        balance=400, withdrawing=300, initiated_at_s=NOW_S
    )


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (op.Deposit(ID, CHANNEL, 0, PAYER), "zero_amount"),
        (op.Deposit(ID, CHANNEL, 9_999, PAYER), "transfer_failed"),
        (op.FinalizeWithdraw(ID, CHANNEL), "not_withdrawing"),
        (op.InitiateWithdraw(ID, CHANNEL, 1, PAYEE), "not_payer"),
        (op.InitiateWithdraw(ID, CHANNEL, 601, PAYER), "over_balance"),
        (op.Refund(ID, CHANNEL, 1, PAYER), "not_payee"),
        (op.Refund(ID, CHANNEL, 1, PAYEE, nonce=1), "bad_nonce"),
        (op.Claim(PAYEE, _claim(1).vouchers * (CLAIMS_MAX + 1)), "too_many_claims"),
    ],
)
def test_refuses_by_the_contracts_word(asked: op.Operation, code: str) -> None:
    with pytest.raises(EscrowRefused) as refused:
        step(_play(DEPOSIT), asked, at_s=NOW_S)
    assert refused.value.code == code


def test_finds_a_unit_out_of_nothing() -> None:
    state = _play(DEPOSIT)
    state.accounts[Account("wallet", TOKEN, PAYEE)] = 1  # type: ignore[index]
    with pytest.raises(EscrowUnbalanced):
        check_escrow(state)
