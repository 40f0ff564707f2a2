"""One step of the stake contract: an operation at a time, in the contract's words.

Refusals have the codes with which the contract reverts, in the order in which it looks.
A refused operation changes nothing.

Not here: what a chain adds (blocks, gas, nonces, signatures), which documents
contradict each other (``slashable``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

from msgspec.structs import replace as change

from sublet.base.ids import NO_ADDRESS, Address, Digest
from sublet.core.stake import event as ev
from sublet.core.stake import operation as op
from sublet.core.stake.slashable import StakeRefused, check_terms, check_usage
from sublet.core.stake.state import Award, Case, Holding, StakeState

UNBONDING_S = 7 * 86_400
TIMELOCK_S = 3 * 86_400
EXPIRY_S = 14 * 86_400  # after the timelock; then a case is void


@dataclass(frozen=True)
class Outcome:
    """What came of an operation."""

    state: StakeState
    events: tuple[ev.Event, ...] = ()


def step(state: StakeState, operation: op.Operation, *, at_s: int) -> Outcome:
    """Do one operation at a block's time.

    Raises:
        StakeRefused: the contract would revert; ``code`` is the reason that it gives.
    """
    return _do(operation, state, at_s)


@singledispatch
def _do(operation: object, state: StakeState, at_s: int) -> Outcome:
    raise TypeError(f"{type(operation).__name__} is no operation of the stake")


# ---- in and out -------------------------------------------------------------------


@_do.register
def _mint(asked: op.Mint, state: StakeState, at_s: int) -> Outcome:
    state = replace(state, issued=state.issued + asked.amount)
    return Outcome(_with_wallet(state, asked.target, asked.amount))


@_do.register
def _block(asked: op.Block, state: StakeState, at_s: int) -> Outcome:
    one = frozenset({asked.target})
    blocked = state.blocked | one if asked.is_blocked else state.blocked - one
    return Outcome(replace(state, blocked=blocked))


@_do.register
def _stake(asked: op.Stake, state: StakeState, at_s: int) -> Outcome:
    _require(asked.amount > 0, "zero_amount", "a stake needs an amount above zero")
    has_it = state.wallets.get(asked.caller, 0) >= asked.amount
    _require(
        has_it and asked.caller not in state.blocked,
        "transfer_failed",
        f"{asked.caller} does not hold {asked.amount} of the token, or is blocked",
    )
    state = _with_wallet(state, asked.caller, -asked.amount)
    was = state.holding(asked.provider)
    now = change(was, bonded=was.bonded + asked.amount)
    said = ev.Staked(asked.provider, asked.amount)
    return Outcome(_with_holding(state, asked.provider, now), (said,))


@_do.register
def _unbond(asked: op.Unbond, state: StakeState, at_s: int) -> Outcome:
    was = state.holding(asked.caller)
    _require(asked.amount > 0, "zero_amount", "ask for an amount above zero")
    _require(asked.amount <= was.bonded, "over_balance", f"{was.bonded} are bonded")
    now = change(
        was,
        bonded=was.bonded - asked.amount,
        unbonding=was.unbonding + asked.amount,
        unbonded_at_s=at_s + UNBONDING_S,
    )
    said = ev.Unbonding(asked.caller, asked.amount, now.unbonded_at_s)
    return Outcome(_with_holding(state, asked.caller, now), (said,))


@_do.register
def _withdraw(asked: op.Withdraw, state: StakeState, at_s: int) -> Outcome:
    was = state.holding(asked.provider)
    _require(was.unbonding > 0, "not_unbonding", "nothing was asked back")
    _require(at_s >= was.unbonded_at_s, "too_early", f"due at {was.unbonded_at_s}")
    amount = min(was.unbonding, was.free)
    _require(amount > 0, "case_open", "open cases hold all of it")
    now = change(was, unbonding=was.unbonding - amount)
    state = _with_holding(state, asked.provider, now)
    said = ev.Withdrawn(asked.provider, amount)
    return Outcome(_push(state, asked.provider, amount), (said,))


# ---- contradictions ---------------------------------------------------------------


@_do.register
def _slash_terms(asked: op.SlashTerms, state: StakeState, at_s: int) -> Outcome:
    first, second = asked.first, asked.second
    check_terms(first.document, second.document)
    provider = _find_signer(first.signer)
    is_named = {first.document.provider, second.document.provider} == {provider}
    _require(is_named, "bad_signature", "another key signed the first terms")
    _require(second.signer == provider, "bad_signature", "two keys signed")
    lease_id, tenant = first.document.lease_id, first.document.tenant
    return _slash(state, provider, tenant, lease_id, asked.evidence, at_s)


@_do.register
def _slash_usage(asked: op.SlashUsage, state: StakeState, at_s: int) -> Outcome:
    first, terms = asked.first.document, asked.terms.document
    check_usage(first, asked.second.document)
    provider = _find_signer(asked.first.signer)
    _require(asked.second.signer == provider, "bad_signature", "two keys signed")
    is_its = (terms.lease_id, terms.provider) == (first.lease_id, provider)
    _require(is_its, "bad_terms", "these terms are not of that lease and provider")
    _require(asked.terms.signer == provider, "bad_signature", "another signed terms")
    return _slash(state, provider, terms.tenant, first.lease_id, asked.evidence, at_s)


def _slash(
    state: StakeState,
    provider: Address,
    tenant: Address,
    lease_id: Digest,
    evidence: Digest,
    at_s: int,
) -> Outcome:
    was = state.holding(provider)
    amount = min(was.bonded + was.unbonding, was.free)
    _require(amount > 0, "nothing_left", "nothing of its stake is left to take")
    share = amount // 2
    now = _take(was, amount)
    now = change(now, awarded=now.awarded + share)
    award = Award(provider, tenant, share, at_s + UNBONDING_S)
    said = ev.Contradicted(
        provider, tenant, lease_id, len(state.awards), share, amount - share, evidence
    )
    state = replace(
        state,
        awards=(*state.awards, award),
        burnt=state.burnt + amount - share,
    )
    return Outcome(_with_holding(state, provider, now), (said,))


@_do.register
def _pay_award(asked: op.PayAward, state: StakeState, at_s: int) -> Outcome:
    is_there = asked.award_id < len(state.awards)
    award = state.awards[asked.award_id] if is_there else Award("", "", 0, 0)
    _require(award.amount > 0, "nothing_left", "nothing of this award is left")
    _require(at_s >= award.payable_at_s, "too_early", f"due at {award.payable_at_s}")
    was = state.holding(award.provider)
    amount = min(award.amount, was.awarded, was.free)
    _require(amount > 0, "case_open", "open cases hold all of it, or have taken it")
    awards = list(state.awards)
    awards[asked.award_id] = change(award, amount=award.amount - amount)
    state = replace(state, awards=tuple(awards))
    now = change(was, awarded=was.awarded - amount)
    state = _with_holding(state, award.provider, now)
    said = ev.AwardPaid(asked.award_id, award.tenant, amount)
    return Outcome(_push(state, award.tenant, amount), (said,))


# ---- cases ------------------------------------------------------------------------


@_do.register
def _open_case(asked: op.OpenCase, state: StakeState, at_s: int) -> Outcome:
    _require(asked.case_id not in state.cases, "case_known", "this case was opened")
    is_tenant = asked.tenant not in (NO_ADDRESS, asked.provider)
    _require(is_tenant, "bad_tenant", "a case pays a tenant, and not the provider")
    _check_arbiters(state, asked.signers, state.quorum)
    was = state.holding(asked.provider)
    amount = min(asked.amount, was.free)
    _require(amount > 0, "nothing_left", "nothing of its stake is left to ask for")
    case = Case(asked.provider, asked.tenant, amount, asked.evidence, at_s + TIMELOCK_S)
    state = _with_case(state, asked.case_id, case)
    now = change(was, reserved=was.reserved + amount)
    said = ev.CaseOpened(
        asked.case_id,
        asked.provider,
        asked.tenant,
        amount,
        asked.evidence,
        case.executable_at_s,
    )
    return Outcome(_with_holding(state, asked.provider, now), (said,))


@_do.register
def _appeal(asked: op.Appeal, state: StakeState, at_s: int) -> Outcome:
    case = _find_case(state, asked.case_id)
    _require(asked.caller == case.provider, "not_provider", "only its provider appeals")
    _require(at_s < case.executable_at_s, "too_late", "its three days are over")
    state = _with_case(state, asked.case_id, change(case, is_appealed=True))
    return Outcome(state, (ev.CaseAppealed(asked.case_id),))


@_do.register
def _execute(asked: op.ExecuteCase, state: StakeState, at_s: int) -> Outcome:
    case = _find_case(state, asked.case_id)
    _require(at_s >= case.executable_at_s, "too_early", f"due {case.executable_at_s}")
    _require(at_s < case.executable_at_s + EXPIRY_S, "too_late", "the case is void")
    if case.is_appealed:
        _check_arbiters(state, asked.signers, state.appeal_quorum)
    state = _close(state, asked.case_id, case)
    now = _take(state.holding(case.provider), case.amount)
    state = _with_holding(state, case.provider, now)
    owed = {**state.owed, case.tenant: state.owed.get(case.tenant, 0) + case.amount}
    said = ev.CaseClosed(asked.case_id, True, case.amount)
    return Outcome(replace(state, owed=owed), (said,))


@_do.register
def _drop(asked: op.DropCase, state: StakeState, at_s: int) -> Outcome:
    case = _find_case(state, asked.case_id)
    due_s = case.executable_at_s + EXPIRY_S
    _require(at_s >= due_s, "too_early", f"it is void at {due_s}")
    said = ev.CaseClosed(asked.case_id, False, case.amount)
    return Outcome(_close(state, asked.case_id, case), (said,))


@_do.register
def _pay(asked: op.Pay, state: StakeState, at_s: int) -> Outcome:
    amount = state.owed.get(asked.tenant, 0)
    _require(amount > 0, "nothing_left", "nothing is owed")
    state = replace(state, owed={**state.owed, asked.tenant: 0})
    said = ev.Paid(asked.tenant, amount)
    return Outcome(_push(state, asked.tenant, amount), (said,))


# ---- within -----------------------------------------------------------------------


def _require(is_so: bool, code: str, message: str) -> None:
    if not is_so:
        raise StakeRefused(message, code=code)


def _find_signer(signer: Address | None) -> Address:
    if signer is None:
        raise StakeRefused("nobody signed this", code="bad_signature")
    return signer


def _find_case(state: StakeState, case_id: Digest) -> Case:
    case = state.cases.get(case_id)
    if case is None or not case.is_open:
        raise StakeRefused("there is no such open case", code="no_case")
    return case


def _check_arbiters(
    state: StakeState, signers: Sequence[Address | None], quorum: int
) -> None:
    _require(len(signers) >= quorum, "no_quorum", f"{quorum} arbiters have to sign")
    last = NO_ADDRESS
    for signer in map(_find_signer, signers):
        _require(signer > last, "bad_order", "each once, by ascending address")
        _require(signer in state.arbiters, "not_arbiter", f"{signer} is no arbiter")
        last = signer


def _take(was: Holding, amount: int) -> Holding:
    """Take from what is leaving first, then from what is bonded, then from an award."""
    unbonding = min(amount, was.unbonding)
    bonded = min(amount - unbonding, was.bonded)
    return change(
        was,
        unbonding=was.unbonding - unbonding,
        bonded=was.bonded - bonded,
        awarded=was.awarded - (amount - unbonding - bonded),
    )


def _close(state: StakeState, case_id: Digest, case: Case) -> StakeState:
    was = state.holding(case.provider)
    now = change(was, reserved=was.reserved - case.amount)
    state = _with_case(state, case_id, change(case, is_open=False))
    return _with_holding(state, case.provider, now)


def _push(state: StakeState, target: Address, amount: int) -> StakeState:
    _require(
        target not in state.blocked,
        "transfer_failed",
        f"the token's issuer has blocked {target}",
    )
    return _with_wallet(state, target, amount)


def _with_wallet(state: StakeState, party: Address, more: int) -> StakeState:
    wallets = {**state.wallets, party: state.wallets.get(party, 0) + more}
    return replace(state, wallets=wallets)


def _with_holding(state: StakeState, provider: Address, now: Holding) -> StakeState:
    return replace(state, holdings={**state.holdings, provider: now})


def _with_case(state: StakeState, case_id: Digest, case: Case) -> StakeState:
    return replace(state, cases={**state.cases, case_id: case})
