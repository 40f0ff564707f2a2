"""Money moves once, between two accounts, and none is made or lost."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from sublet.base.errors import Broken, Refused
from sublet.base.limits import AMOUNT_MAX
from sublet.core.ledger import ledger as ledgers
from sublet.core.ledger.ledger import (
    ISSUED,
    Ledger,
    LedgerUnbalanced,
    check_ledger,
    restore,
)

ANNE, BERT = "0x" + "aa" * 20, "0x" + "bb" * 20


def make_ledger(amount: int = 1_000) -> Ledger:
    ledger = Ledger()
    ledger.issue(transfer_id="c1", party=ANNE, amount=amount)
    return ledger


def test_issue_fills_a_wallet() -> None:
    ledger = make_ledger()
    assert ledger.find(ANNE).balance == 1_000
    assert ledger.find(ISSUED).balance == -1_000
    assert ledger.find(BERT).balance == 0
    check_ledger(ledger)


def test_hold_sets_money_aside() -> None:
    ledger = make_ledger()
    ledger.hold(transfer_id="h1", debit=ANNE, credit=BERT, amount=700)
    assert ledger.find(ANNE).balance == 300
    assert ledger.find(BERT).balance == 0  # promised is not paid
    check_ledger(ledger)


@pytest.mark.parametrize("paid", [0, 1, 700])
def test_settling_posts_part_voids_rest(paid: int) -> None:
    ledger = make_ledger()
    ledger.hold(transfer_id="h1", debit=ANNE, credit=BERT, amount=700)
    ledger.settle(transfer_id="h1", amount=paid)
    assert ledger.find(ANNE).balance == 1_000 - paid
    assert ledger.find(BERT).balance == paid
    assert not ledger.pending
    check_ledger(ledger)


def test_everything_twice_is_once() -> None:
    ledger = make_ledger()
    for _ in range(2):
        ledger.issue(transfer_id="c1", party=ANNE, amount=1_000)
        ledger.hold(transfer_id="h1", debit=ANNE, credit=BERT, amount=700)
    for _ in range(2):
        ledger.settle(transfer_id="h1", amount=500)
    ledger.hold(transfer_id="h1", debit=ANNE, credit=BERT, amount=700)
    assert (ledger.find(ANNE).balance, ledger.find(BERT).balance) == (500, 500)
    check_ledger(ledger)


@pytest.mark.parametrize("key", ["c1", "h1"])
def test_checks_refuse_known_ids(key: str) -> None:
    ledger = make_ledger()
    ledger.hold(transfer_id="h1", debit=ANNE, credit=BERT, amount=1)
    with pytest.raises(Refused) as issue:
        ledger.check_issue(transfer_id=key, amount=1)
    with pytest.raises(Refused) as hold:
        ledger.check_hold(transfer_id=key, debit=ANNE, amount=1)
    assert issue.value.code == hold.value.code == "duplicate_transfer"


def test_own_machine_may_be_rented() -> None:
    ledger = make_ledger()
    ledger.hold(transfer_id="h1", debit=ANNE, credit=ANNE, amount=700)
    assert ledger.find(ANNE).balance == 300
    ledger.settle(transfer_id="h1", amount=400)
    assert ledger.find(ANNE).balance == 1_000
    check_ledger(ledger)


def test_hold_must_be_covered() -> None:
    ledger = make_ledger()
    ledger.check_hold(transfer_id="h1", debit=ANNE, amount=1_000)
    with pytest.raises(Refused) as refusal:
        ledger.check_hold(transfer_id="h1", debit=ANNE, amount=1_250)
    assert refusal.value.code == "insufficient_funds"
    assert refusal.value.detail["missing"] == 250
    assert "$0.00025 are missing" in refusal.value.message


@pytest.mark.parametrize(
    ("amount", "code"),
    [(0, "zero_amount"), (-1, "zero_amount"), (AMOUNT_MAX, "too_many_credits")],
)
def test_refuses_impossible_credit(amount: int, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        make_ledger().check_issue(transfer_id="c2", amount=amount)
    assert refusal.value.code == code


@pytest.mark.parametrize(("key", "amount"), [("h1", 701), ("h1", -1), ("h2", 0)])
def test_settling_wrongly_breaks(key: str, amount: int) -> None:
    ledger = make_ledger()
    ledger.hold(transfer_id="h1", debit=ANNE, credit=BERT, amount=700)
    with pytest.raises(Broken):
        ledger.settle(transfer_id=key, amount=amount)


@pytest.mark.parametrize(
    "field", ["debits_pending", "debits_posted", "credits_pending", "credits_posted"]
)
def test_finds_money_from_nowhere(field: str) -> None:
    ledger = make_ledger()
    ledger.hold(transfer_id="h1", debit=ANNE, credit=BERT, amount=700)
    account = ledger.find(BERT)
    ledger.accounts[BERT] = replace(account, **{field: getattr(account, field) + 1})
    with pytest.raises(LedgerUnbalanced):
        check_ledger(ledger)


def test_running_sums_are_compared() -> None:
    ledger = make_ledger()
    ledger.check_balanced()
    ledger.credits_total += 1
    with pytest.raises(LedgerUnbalanced):
        ledger.check_balanced()


def test_finds_an_overdrawn_wallet() -> None:
    ledger = make_ledger()
    ledger.hold(transfer_id="h1", debit=ANNE, credit=BERT, amount=1_001)
    with pytest.raises(LedgerUnbalanced):
        check_ledger(ledger)


def test_remembers_boundedly_many() -> None:
    ledger = Ledger()
    for number in range(ledgers.TRANSFERS_KEPT_MAX + 3):
        ledger.issue(transfer_id=str(number), party=ANNE, amount=1)
    assert len(ledger.resolved) == ledgers.TRANSFERS_KEPT_MAX
    assert next(iter(ledger.resolved)) == "3"


def test_copy_is_independent() -> None:
    ledger = make_ledger()
    twin = ledger.copy()
    twin.hold(transfer_id="h1", debit=ANNE, credit=BERT, amount=1)
    twin.settle(transfer_id="h1", amount=1)
    assert ledger.find(ANNE).balance == 1_000
    assert set(ledger.resolved) == {"c1"}
    check_ledger(ledger)
    check_ledger(twin)


def test_restores_from_records() -> None:
    ledger = make_ledger()
    ledger.hold(transfer_id="h1", debit=ANNE, credit=BERT, amount=700)
    twin = restore(
        accounts=list(ledger.accounts.values()),
        pending=list(ledger.pending.values()),
        resolved=list(ledger.resolved.values()),
    )
    assert vars(twin) == vars(ledger)


class LedgerMachine(RuleBasedStateMachine):
    """Any sequence of what the book does; a plain dict of balances is the model."""

    parties = (ANNE, BERT, "0x" + "cc" * 20)

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.balances = dict.fromkeys(self.parties, 0)
        self.holds: dict[str, tuple[str, str, int]] = {}
        self.count = 0

    def next_id(self) -> str:
        self.count += 1
        return f"t{self.count}"

    @rule(party=st.sampled_from(parties), amount=st.integers(-5, 10_000))
    def issue(self, party: str, amount: int) -> None:
        key = self.next_id()
        try:
            self.ledger.check_issue(transfer_id=key, amount=amount)
        except Refused:
            assert amount <= 0
            return
        self.ledger.issue(transfer_id=key, party=party, amount=amount)
        self.balances[party] += amount

    @rule(
        debit=st.sampled_from(parties),
        credit=st.sampled_from(parties),
        amount=st.integers(0, 10_000),
    )
    def hold(self, debit: str, credit: str, amount: int) -> None:
        key = self.next_id()
        try:
            self.ledger.check_hold(transfer_id=key, debit=debit, amount=amount)
        except Refused:
            assert amount > self.balances[debit]
            return
        self.ledger.hold(transfer_id=key, debit=debit, credit=credit, amount=amount)
        self.balances[debit] -= amount
        self.holds[key] = (debit, credit, amount)

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        if not self.holds:
            return
        key = data.draw(st.sampled_from(sorted(self.holds)))
        debit, credit, amount = self.holds.pop(key)
        paid = data.draw(st.integers(0, amount))
        self.ledger.settle(transfer_id=key, amount=paid)
        self.balances[debit] += amount - paid
        self.balances[credit] += paid

    @invariant()
    def nothing_is_made_or_lost(self) -> None:
        check_ledger(self.ledger)
        for party, balance in self.balances.items():
            assert self.ledger.find(party).balance == balance


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None
)
