"""One step of the escrow: an operation at a time, in the words of the contract.

Refusals have the codes with which the contract reverts, and a skipped voucher has the
reason that stands in its log. A refused operation changes nothing.

Not here: what a chain adds: blocks, gas, nonces, signatures.
"""

from dataclasses import dataclass, replace
from functools import singledispatch

from msgspec.structs import replace as change

from sublet.base.errors import Refused
from sublet.base.ids import NO_ADDRESS, Address, Digest
from sublet.core.document import Channel
from sublet.core.escrow import event as ev
from sublet.core.escrow import operation as op
from sublet.core.escrow.state import Account, ChannelState, Earned, EscrowState

WITHDRAW_DELAY_S_MIN = 900
WITHDRAW_DELAY_S_MAX = 2_592_000
CLAIMS_MAX = 100  # vouchers in one batch


class EscrowRefused(Refused):
    """The escrow contract does not do that; the code says which rule it broke."""

    code = "escrow_refused"


@dataclass(frozen=True)
class Outcome:
    """What came of an operation."""

    state: EscrowState
    events: tuple[ev.Event, ...] = ()


def step(state: EscrowState, operation: op.Operation, *, at_s: int) -> Outcome:
    """Do one operation at a block's time.

    Raises:
        EscrowRefused: the contract would revert; ``code`` is the reason that it gives.
    """
    return _do(operation, state, at_s)


@singledispatch
def _do(operation: object, state: EscrowState, at_s: int) -> Outcome:
    raise TypeError(f"{type(operation).__name__} is no operation of the escrow")


@_do.register
def _mint(asked: op.Mint, state: EscrowState, at_s: int) -> Outcome:
    source = Account("issued", asked.token, "")
    target = Account("wallet", asked.token, asked.target)
    return Outcome(_move(state, source, target, asked.amount))


@_do.register
def _block(asked: op.Block, state: EscrowState, at_s: int) -> Outcome:
    one = frozenset({(asked.token, asked.target)})
    blocked = state.blocked | one if asked.is_blocked else state.blocked - one
    return Outcome(replace(state, blocked=blocked))


@_do.register
def _deposit(asked: op.Deposit, state: EscrowState, at_s: int) -> Outcome:
    channel = asked.channel
    _require(asked.amount > 0, "zero_amount", "a deposit needs an amount above zero")
    _require(channel.token in state.tokens, "bad_token", "this token is not taken here")
    _require(
        NO_ADDRESS not in (channel.payer, channel.receiver),
        "bad_party",
        "a channel needs a payer and a receiver",
    )
    _require(
        WITHDRAW_DELAY_S_MIN <= channel.withdraw_delay <= WITHDRAW_DELAY_S_MAX,
        "bad_delay",
        f"a channel's delay is {WITHDRAW_DELAY_S_MIN} to {WITHDRAW_DELAY_S_MAX} s",
    )
    _check_wallet(state, channel.token, asked.source, asked.amount)
    state = _move(
        state,
        Account("wallet", channel.token, asked.source),
        Account("channel", channel.token, asked.channel_id),
        asked.amount,
    )
    was = state.channel(asked.channel_id)
    now = change(was, balance=was.balance + asked.amount)
    said = ev.Deposited(
        asked.channel_id, channel.payer, channel.receiver, asked.amount, now.balance
    )
    return Outcome(_with_channel(state, asked.channel_id, now), (said,))


@_do.register
def _claim(asked: op.Claim, state: EscrowState, at_s: int) -> Outcome:
    _require(
        len(asked.vouchers) <= CLAIMS_MAX,
        "too_many_claims",
        f"a batch has at most {CLAIMS_MAX} vouchers",
    )
    events: list[ev.Event] = []
    for voucher in asked.vouchers:
        was = state.channel(voucher.channel_id)
        reason = _find_fault(voucher, was, asked.claimant)
        if reason:
            events.append(ev.Skipped(voucher.channel_id, reason))
            continue
        total = min(voucher.total, was.balance)
        amount, channel = total - was.claimed, voucher.channel
        state = _move(
            state,
            Account("channel", channel.token, voucher.channel_id),
            Account("earned", channel.token, channel.receiver),
            amount,
        )
        state = _with_channel(state, voucher.channel_id, change(was, claimed=total))
        earned = state.earned(channel.receiver, channel.token)
        earned = change(earned, claimed=earned.claimed + amount)
        state = _with_earned(state, channel.receiver, channel.token, earned)
        events.append(ev.Claimed(voucher.channel_id, total))
    return Outcome(state, tuple(events))


def _find_fault(voucher: op.Voucher, was: ChannelState, claimant: Address) -> str:
    """Say why a voucher pays nothing, in the contract's order; "" where it pays."""
    channel = voucher.channel
    payer = channel.payer
    if channel.payer_authorizer != NO_ADDRESS:
        payer = channel.payer_authorizer
    faults: tuple[tuple[bool, str], ...] = (
        (claimant not in (channel.receiver, channel.receiver_authorizer), "not_payee"),
        (voucher.total > voucher.most, "over_voucher"),
        (voucher.total <= was.claimed, "stale_voucher"),
        (was.free == 0, "nothing_left"),
        (voucher.signer is None or voucher.signer != payer, "bad_signature"),
    )
    return next((reason for is_so, reason in faults if is_so), "")


@_do.register
def _settle(asked: op.Settle, state: EscrowState, at_s: int) -> Outcome:
    earned = state.earned(asked.receiver, asked.token)
    amount = earned.claimed - earned.settled
    if amount == 0:
        return Outcome(state)
    state = _pay(
        state,
        Account("earned", asked.token, asked.receiver),
        asked.receiver,
        amount,
    )
    paid = change(earned, settled=earned.claimed)
    state = _with_earned(state, asked.receiver, asked.token, paid)
    return Outcome(state, (ev.Settled(asked.receiver, asked.token, amount),))


@_do.register
def _refund(asked: op.Refund, state: EscrowState, at_s: int) -> Outcome:
    channel, was = asked.channel, state.channel(asked.channel_id)
    if asked.nonce is not None:
        _require(
            asked.nonce == was.refund_nonce,
            "bad_nonce",
            f"the next signed refund of this channel has nonce {was.refund_nonce}",
        )
        was = change(was, refund_nonce=was.refund_nonce + 1)
        _require(asked.claimant is not None, "bad_signature", "nobody signed this")
    _require(
        asked.claimant in (channel.receiver, channel.receiver_authorizer),
        "not_payee",
        "only the receiver gives money back",
    )
    amount = min(asked.amount, was.free)
    _require(amount > 0, "nothing_left", "all of the deposit is claimed")
    left = max(0, was.withdrawing - amount)
    now = change(
        was,
        balance=was.balance - amount,
        withdrawing=left,
        initiated_at_s=was.initiated_at_s if left else 0,
    )
    state = _give_back(state, asked.channel_id, channel, now, amount)
    return Outcome(state, (ev.Refunded(asked.channel_id, amount, now.balance),))


@_do.register
def _initiate(asked: op.InitiateWithdraw, state: EscrowState, at_s: int) -> Outcome:
    was = state.channel(asked.channel_id)
    _require(
        asked.caller == asked.channel.payer, "not_payer", "only the payer withdraws"
    )
    _require(asked.amount > 0, "zero_amount", "ask for an amount above zero")
    _require(
        asked.amount <= was.free,
        "over_balance",
        f"{was.free} of this channel are free to withdraw",
    )
    _require(not was.withdrawing, "withdrawing", "a withdrawal is under way already")
    now = change(was, withdrawing=asked.amount, initiated_at_s=at_s)
    due_s = at_s + asked.channel.withdraw_delay
    return Outcome(
        _with_channel(state, asked.channel_id, now),
        (ev.WithdrawInitiated(asked.channel_id, asked.amount, due_s),),
    )


@_do.register
def _finalize(asked: op.FinalizeWithdraw, state: EscrowState, at_s: int) -> Outcome:
    was = state.channel(asked.channel_id)
    _require(was.withdrawing > 0, "not_withdrawing", "no withdrawal is under way")
    due_s = was.initiated_at_s + asked.channel.withdraw_delay
    _require(at_s >= due_s, "too_early", f"the withdrawal is due at {due_s}")
    amount = min(was.withdrawing, was.free)
    now = change(was, balance=was.balance - amount, withdrawing=0, initiated_at_s=0)
    state = _give_back(state, asked.channel_id, asked.channel, now, amount)
    return Outcome(
        state, (ev.WithdrawFinalized(asked.channel_id, amount, now.balance),)
    )


# ---- within -----------------------------------------------------------------------


def _require(is_so: bool, code: str, message: str) -> None:
    if not is_so:
        raise EscrowRefused(message, code=code)


def _give_back(
    state: EscrowState,
    channel_id: Digest,
    channel: Channel,
    now: ChannelState,
    amount: int,
) -> EscrowState:
    source = Account("channel", channel.token, channel_id)
    if amount:
        state = _pay(state, source, channel.payer, amount)
    return _with_channel(state, channel_id, now)


def _pay(
    state: EscrowState, source: Account, party: Address, amount: int
) -> EscrowState:
    _check_blocked(state, source.token, party)
    return _move(state, source, Account("wallet", source.token, party), amount)


def _check_wallet(
    state: EscrowState, token: Address, party: Address, amount: int
) -> None:
    _check_blocked(state, token, party)
    _require(
        state.wallet(party, token) >= amount,
        "transfer_failed",
        f"{party} does not hold {amount} of this token",
    )


def _check_blocked(state: EscrowState, token: Address, party: Address) -> None:
    _require(
        (token, party) not in state.blocked,
        "transfer_failed",
        f"the token's issuer has blocked {party}",
    )


def _move(
    state: EscrowState, source: Account, target: Account, amount: int
) -> EscrowState:
    accounts = dict(state.accounts)
    accounts[source] = accounts.get(source, 0) - amount
    accounts[target] = accounts.get(target, 0) + amount
    return replace(state, accounts=accounts)


def _with_channel(
    state: EscrowState, channel_id: Digest, now: ChannelState
) -> EscrowState:
    return replace(state, channels={**state.channels, channel_id: now})


def _with_earned(
    state: EscrowState, receiver: Address, token: Address, now: Earned
) -> EscrowState:
    return replace(state, receivers={**state.receivers, (receiver, token): now})
