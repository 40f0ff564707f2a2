"""What is sent to a chain, from the errand to the block that nobody takes back.

    INTENDED ── sign ──> SIGNED ── hand over ──> SENT ── seen in a block ──> MINED
        │                  ^ │                    │ ^                         │ │
        │                  │ └──── offer more ────┘ └──── the block is gone ──┘ │
        v                                                                       v
     REFUSED         USURPED (another transaction used the nonce)   CONFIRMED | REVERTED

Each errand has one nonce for its whole life, and all that is signed for it carries
that nonce: a chain takes at most one of them, however often they are handed over. What
comes next is written down before it is done. Time is counted in blocks, so that no
clock matters.

Pure: what was seen comes in, what to do goes out. The shell is ``service.sender``.
"""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.core.rail.transaction import Call, Fees, SignedTransaction

_GAS_SPARE_PERCENT = 25  # above the estimate: the state may be another one by then


class Phase(StrEnum):
    """How far a sending is."""

    INTENDED = "intended"
    SIGNED = "signed"  # what was signed last was not handed over yet, or not taken
    SENT = "sent"
    MINED = "mined"  # in a block that may still be taken back
    CONFIRMED = "confirmed"
    REVERTED = "reverted"  # mined, and the contract refused; the gas is paid
    USURPED = "usurped"  # its nonce went to a transaction of another program
    REFUSED = "refused"  # it would fail or cost too much gas; nothing was signed


ENDED = frozenset((Phase.CONFIRMED, Phase.REVERTED, Phase.USURPED, Phase.REFUSED))
UNDER_WAY = frozenset((Phase.SIGNED, Phase.SENT))


class Policy(Struct, frozen=True):
    """What a transaction may cost, and how long is waited. Fees in wei a unit of gas."""

    fee_max_wei: int  # base fee and tip together, never more, whatever waits
    tip_max_wei: int = 2_000_000_000
    gas_max: int = 8_000_000  # units, of one transaction
    confirmations: int = 12  # blocks on top of one that counts as certain
    patience_blocks: int = 10  # without being mined, before more is offered
    bump_percent: int = 12  # that a new offer is above the last; nodes want 10


class Sending(Struct, frozen=True):
    """One errand, and all that was done for it."""

    id: str  # whoever asks names it: the same name is the same errand
    sender: Address
    call: Call
    fee_max_wei: int = 0  # that it may cost beyond the policy's, being urgent
    phase: Phase = Phase.INTENDED
    nonce: int | None = None
    gas: int = 0  # units, at most
    attempts: tuple[SignedTransaction, ...] = ()  # all with this nonce, newest last
    offered_at_block: int = 0  # the newest block when the last attempt was signed
    handed_at_block: int = 0  # and when it was last handed over; 0: never
    lost_at_block: int = (
        0  # since when the nonce is used by something else; 0: it is not
    )
    block_number: int = 0  # where it stands, if it is mined
    block_hash: Digest = NO_DIGEST
    gas_used: int = 0
    gas_price_wei: int = 0
    reason: str = ""  # why it waits, or how it ended

    @property
    def is_ended(self) -> bool:
        """Nothing will happen to it any more."""
        return self.phase in ENDED

    @property
    def transaction(self) -> Digest:
        """The hash of what was signed last; zeros before."""
        return self.attempts[-1].hash if self.attempts else NO_DIGEST


class Inclusion(Struct, frozen=True):
    """Where one of the attempts stands in the chain."""

    block_number: int
    block_hash: Digest
    is_success: bool
    gas_used: int
    gas_price_wei: int


class Seen(Struct, frozen=True):
    """What a chain showed of one sending."""

    head: int  # the newest block's number
    nonce_confirmed: int  # transactions of the sender up to the confirmed block
    inclusion: Inclusion | None  # of whichever attempt is mined


class HandOver(Struct, frozen=True):
    """Give these bytes to the chain; once more is harmless."""

    signed: SignedTransaction


class OfferMore(Struct, frozen=True):
    """Sign again with the same nonce, for these fees."""

    fees: Fees


Order = HandOver | OfferMore


def advance(sending: Sending, seen: Seen, policy: Policy) -> Sending:
    """Take in what the chain shows. An ended sending stays as it is."""
    if sending.is_ended or sending.nonce is None:
        return sending
    if seen.inclusion is not None:
        return _stand(sending, seen.inclusion, seen, policy)
    if sending.phase is Phase.MINED:
        return replace(
            sending,
            phase=Phase.SENT,
            handed_at_block=0,
            block_number=0,
            block_hash=NO_DIGEST,
            reason="its block left the chain",
        )
    if seen.nonce_confirmed <= sending.nonce:
        return replace(sending, lost_at_block=0)
    lost_at = sending.lost_at_block or seen.head
    # A node that lags behind may not show our own transaction yet: look again later.
    if seen.head - lost_at < max(1, policy.confirmations):
        return replace(sending, lost_at_block=lost_at)
    return replace(
        sending,
        phase=Phase.USURPED,
        lost_at_block=lost_at,
        reason="another program used this nonce with the same key; give it its own",
    )


def _stand(
    sending: Sending, inclusion: Inclusion, seen: Seen, policy: Policy
) -> Sending:
    phase, reason = Phase.MINED, ""
    if inclusion.block_number + policy.confirmations <= seen.head:
        phase = Phase.CONFIRMED
        if not inclusion.is_success:
            phase, reason = Phase.REVERTED, "the contract refused"
    return replace(
        sending,
        phase=phase,
        block_number=inclusion.block_number,
        block_hash=inclusion.block_hash,
        gas_used=inclusion.gas_used,
        gas_price_wei=inclusion.gas_price_wei,
        lost_at_block=0,
        reason=reason,
    )


def decide(
    sending: Sending, *, head: int, suggested: Fees, policy: Policy
) -> Order | None:
    """Say what to do for a sending that is under way; None: wait."""
    if sending.phase not in UNDER_WAY or sending.lost_at_block:
        return None
    if head - sending.offered_at_block >= policy.patience_blocks:
        fees = bump_fees(sending.attempts[-1].fees, suggested, policy)
        if fees is not None:
            return OfferMore(fees)
    if sending.phase is Phase.SIGNED or sending.handed_at_block < head:
        return HandOver(sending.attempts[-1])
    return None


def mark_handed(sending: Sending, *, head: int, reason: str = "") -> Sending:
    """Note that the chain has it, or why it does not."""
    if not reason:
        return replace(sending, phase=Phase.SENT, handed_at_block=head, reason="")
    if reason == "nonce_used":  # ours is mined, or another's: the next look will tell
        return replace(sending, phase=Phase.SENT, handed_at_block=head, reason=reason)
    if reason == "underpriced":  # something with this nonce waits: outbid it at once
        return replace(sending, offered_at_block=-1_000_000_000, reason=reason)
    return replace(sending, reason=reason)


def mark_signed(
    sending: Sending,
    signed: SignedTransaction,
    *,
    nonce: int,
    gas: int,
    head: int,
) -> Sending:
    """Note what was signed, before anybody else sees it."""
    return replace(
        sending,
        phase=Phase.SIGNED,
        nonce=nonce,
        gas=gas,
        attempts=(*sending.attempts, signed),
        offered_at_block=head,
        handed_at_block=0,
        reason="",
    )


def refuse(sending: Sending, reason: str) -> Sending:
    """Note that it is never signed, and why."""
    return replace(sending, phase=Phase.REFUSED, reason=reason)


def wait(sending: Sending, reason: str) -> Sending:
    """Note why it is not signed yet."""
    return replace(sending, reason=reason)


def choose_gas(estimate: int, policy: Policy) -> int | None:
    """Give the limit for a call that needs this much now; None: it is too much.

    >>> choose_gas(100_000, Policy(fee_max_wei=1))
    125000
    """
    if estimate > policy.gas_max:
        return None
    return min(estimate + estimate * _GAS_SPARE_PERCENT // 100, policy.gas_max)


def choose_fees(suggested: Fees, policy: Policy) -> Fees | None:
    """Give what a new transaction offers; None: gas costs more than allowed now.

    >>> choose_fees(Fees(max_wei=21, tip_wei=1), Policy(fee_max_wei=15))
    Fees(max_wei=15, tip_wei=1)
    >>> choose_fees(Fees(max_wei=21, tip_wei=1), Policy(fee_max_wei=10))
    """
    base = (suggested.max_wei - suggested.tip_wei) // 2
    tip = min(suggested.tip_wei, policy.tip_max_wei)
    if base + tip > policy.fee_max_wei:
        return None
    return Fees(max_wei=min(suggested.max_wei, policy.fee_max_wei), tip_wei=tip)


def bump_fees(last: Fees, suggested: Fees, policy: Policy) -> Fees | None:
    """Give a better offer than the last one; None: that would be over the cap.

    >>> bump_fees(Fees(100, 10), Fees(90, 10), Policy(fee_max_wei=200))
    Fees(max_wei=112, tip_wei=12)
    """
    least = [
        -(-fee * (100 + policy.bump_percent) // 100)
        for fee in (last.max_wei, last.tip_wei)
    ]
    fees = Fees(
        max_wei=max(least[0], min(suggested.max_wei, policy.fee_max_wei)),
        tip_wei=max(least[1], min(suggested.tip_wei, policy.tip_max_wei)),
    )
    return None if fees.max_wei > policy.fee_max_wei else fees


def raise_cap(policy: Policy, sendings: Sequence[Sending]) -> Policy:
    """Let all that is open cost what the most urgent of it may cost.

    What is urgent waits for the nonces before it: those have to be mined, too.
    """
    highest = max((one.fee_max_wei for one in sendings), default=0)
    return replace(policy, fee_max_wei=max(policy.fee_max_wei, highest))


def find_next(sendings: Sequence[Sending]) -> Sending | None:
    """Give the errand whose turn it is to be signed; None: none is, or one is under way.

    One after the other, urgent ones first, then in the order of the errands: what a
    call needs is only known once the call before it has been mined.
    """
    if any(sending.phase in UNDER_WAY for sending in sendings):
        return None
    waiting = [one for one in sendings if one.phase is Phase.INTENDED]
    return max(waiting, key=lambda one: one.fee_max_wei, default=None)
