"""The whole life of one lease, told from the log: facts, phases, causes, who, when.

Pure over a replay: it folds the entries and writes down each that touched the lease,
the refused ones too, and each deadline that passed.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.base.units import format_duration, format_money, format_size
from sublet.core.book.book import Book
from sublet.core.book.step import LeaseMoved, Step, step
from sublet.core.document import (
    AnyDocument,
    Channel,
    CheckpointKept,
    Delivery,
    Erasure,
    Fact,
    GiveBack,
    LeaseTerms,
    Order,
    ProviderLost,
    Receipt,
    Replacement,
    Resume,
    Revocation,
    Start,
    Stop,
    UsageRecord,
    Voucher,
)
from sublet.core.lease.phase import Lease, Phase

DEADLINE = "deadline"  # in place of a document: nobody spoke, time did


class StoryLine(Struct, frozen=True):
    """One thing that happened to the lease."""

    index: int  # of the log's entry that made it known
    at_s: int  # when it happened
    who: str  # tenant, provider, operator, delegate, or clock
    signer: Address  # of that entry
    what: str  # the document's type, or ``deadline``
    phase: str  # of the lease, afterwards
    moved: bool  # whether this changed the phase
    text: str  # a sentence for people
    owed: int  # micro-USD, by the meter, afterwards
    paid: int  # micro-USD
    refused: str = ""  # the code, where the entry is void


def story(facts: Iterable[Fact], lease_id: Digest) -> list[StoryLine]:
    """Tell a lease's life.

    Args:
        facts: of all entries of the log, from entry 0 on.
        lease_id: the order's id.

    Returns:
        At least one line; a void order has just that one.

    Raises:
        Refused: ``unknown_lease``, no entry of the log speaks of it.
        Broken: the log seals another book than the fold gives.
    """
    teller = _Teller(lease_id)
    for index, fact in enumerate(facts):
        teller.hear(index, fact)
    if not teller.lines:
        raise Refused(
            f"the log knows no lease {lease_id}; its id is that of its order",
            code="unknown_lease",
            field="LEASE",
        )
    return teller.lines


class _Teller:
    """Folds the log and listens for one lease."""

    def __init__(self, lease_id: Digest) -> None:
        self.lines: list[StoryLine] = []
        self._lease_id = lease_id
        self._book = Book()
        self._lease: Lease | None = None

    def hear(self, index: int, fact: Fact) -> None:
        """Fold one entry; write down what it did to the lease."""
        is_about = self._is_about(fact)
        taken = step(self._book, fact)
        states = _states_of(taken, self._lease_id)
        # Deadlines that were due pass before the entry itself counts.
        while states and self._is_late(fact.at_s):
            self._tell_deadline(index, fact, states.pop(0))
        if states or is_about:
            # A Resume moves deadlines without moving leases: look at the book again.
            now = self._book.leases.get(self._lease_id) or self._lease
            lease = states[-1] if states else now
            self._tell_fact(index, fact, lease, taken.refusal)

    def _is_about(self, fact: Fact) -> bool:
        document, lease = fact.document, self._lease
        if isinstance(document, Order):
            return fact.id == self._lease_id
        if getattr(document, "lease_id", None) == self._lease_id:
            return True
        if lease is None or lease.phase is Phase.SETTLED:
            return False
        if isinstance(document, Channel):
            authorizer = document.payer_authorizer
            return (document.payer, document.receiver, authorizer) == lease.line
        if isinstance(document, Voucher):
            return self._book.channel_of.get(lease.line) == document.channel_id
        if isinstance(document, ProviderLost):
            return document.provider == lease.provider
        if isinstance(document, Revocation):
            return document.delegation_id == lease.delegation
        return isinstance(document, Resume)

    def _is_late(self, at_s: int) -> bool:
        lease = self._lease
        return (
            lease is not None
            and lease.phase is not Phase.SETTLED
            and lease.deadline_s <= at_s
        )

    def _tell_deadline(self, index: int, fact: Fact, lease: Lease) -> None:
        was = self._lease
        if was is None:
            return
        text = f"the deadline of phase {was.phase.value} passed"
        self._add(index, fact, lease, what=DEADLINE, text=text, at_s=was.deadline_s)

    def _tell_fact(
        self, index: int, fact: Fact, lease: Lease | None, refusal: Refused | None
    ) -> None:
        document = fact.document
        what = type(document).__name__
        tell = _TEXTS.get(type(document))
        text = tell(document, lease) if tell is not None else f"{what} was heard"
        if refusal is not None:
            text = f"{text}; refused, it changed nothing: {refusal.message}"
        code = refusal.code if refusal is not None else ""
        self._add(index, fact, lease, what=what, text=text, refused=code)

    def _add(
        self,
        index: int,
        fact: Fact,
        lease: Lease | None,
        *,
        what: str,
        text: str,
        at_s: int | None = None,
        refused: str = "",
    ) -> None:
        was = self._lease
        moved = lease is not None and (was is None or was.phase is not lease.phase)
        if lease is not None and moved and lease.phase is Phase.SETTLED:
            text = f"{text}; {_tell_end(lease)}"
        self.lines.append(
            StoryLine(
                index=index,
                at_s=fact.at_s if at_s is None else at_s,
                who="clock" if what == DEADLINE else self._role_of(fact.signer, lease),
                signer=fact.signer,
                what=what,
                phase=lease.phase.value if lease is not None else "",
                moved=moved,
                text=text,
                owed=lease.owed if lease is not None else 0,
                paid=lease.paid if lease is not None else 0,
                refused=refused,
            )
        )
        self._lease = lease

    def _role_of(self, signer: Address, lease: Lease | None) -> str:
        roles = {self._book.operator: "operator"}
        if lease is not None:
            roles |= {lease.provider: "provider", lease.tenant: "tenant"}
        return roles.get(signer, "delegate" if lease is not None else "stranger")


def _states_of(taken: Step, lease_id: Digest) -> list[Lease]:
    return [
        outcome.lease
        for outcome in taken.outcomes
        if isinstance(outcome, LeaseMoved) and outcome.lease.id == lease_id
    ]


# ---- sentences --------------------------------------------------------------------


def _seconds(ran_ms: int) -> str:
    return f"{ran_ms / 1_000:.1f} s"


def _tell_order(order: Order, lease: Lease | None) -> str:
    models = " or ".join(order.gpu_models)
    gpus = f", {order.gpu_count} GPU {models}".rstrip() if order.gpu_count else ""
    wish = (
        f"an order for {order.cpus_milli / 1_000:g} CPU, "
        f"{format_size(order.memory_bytes)} memory{gpus}, "
        f"at most {format_money(order.price_hour_max)} an hour"
    )
    if lease is None:
        return wish
    return (
        f"{wish}; matched with {lease.machine} of {lease.provider} at "
        f"{format_money(lease.price_hour)} an hour for at most "
        f"{format_duration(lease.duration_s)}; {format_money(lease.hold)} held"
    )


def _tell_record(record: UsageRecord, lease: Lease | None) -> str:
    owed = f", {format_money(lease.owed)} owed" if lease is not None else ""
    return f"the meter reads {_seconds(record.ran_ms)}{owed}"


def _tell_receipt(receipt: Receipt, lease: Lease | None) -> str:
    owed = f", {format_money(lease.owed)} owed" if lease is not None else ""
    return (
        f"the receipt: {receipt.reason}, exit code {receipt.exit_code}, "
        f"ran {_seconds(receipt.ran_ms)}{owed}"
    )


def _tell_end(lease: Lease) -> str:
    fault = (
        "nobody's fault"
        if lease.fault == "nobody"
        else f"the {lease.fault.value}'s fault"
    )
    return (
        f"settled ({lease.reason or 'done'}, {fault}): {format_money(lease.paid)} paid of "
        f"{format_money(lease.owed)} owed, {format_money(lease.hold - lease.paid)} of "
        "the hold back to the tenant"
    )


_TEXTS: Mapping[type[AnyDocument], Callable[[Any, Lease | None], str]] = {
    Order: _tell_order,
    LeaseTerms: lambda terms, _: "the provider signed the terms of the match",
    Delivery: lambda delivery, _: "the provider holds the manifest that was ordered",
    Replacement: lambda asked, _: "the tenant wants another program on this lease",
    Start: lambda start, _: "the program started; from here on seconds are billed",
    UsageRecord: _tell_record,
    CheckpointKept: lambda kept, _: (
        f"the tenant keeps a checkpoint of {_seconds(kept.ran_ms)}"
    ),
    GiveBack: lambda notice, _: (
        f"the owner wants the machine back within {format_duration(notice.notice_s)}"
    ),
    Receipt: _tell_receipt,
    Erasure: lambda erasure, _: (
        f"the provider has erased everything, by its own word at level {erasure.level}; "
        "its slice of the machine is free again"
    ),
    Stop: lambda stop, _: f"the tenant ended it: {stop.reason}",
    Channel: lambda channel, _: "tenant and provider have a payment channel",
    Voucher: lambda voucher, _: (
        "the tenant vouched for "
        f"{format_money(voucher.max_claimable_amount)} to this provider in all"
    ),
    Revocation: lambda revoked, _: "the tenant took its delegation back",
    ProviderLost: lambda lost, _: "no node hears the provider any more",
    Resume: lambda resume, _: "the market is back; deadlines moved by its absence",
}
