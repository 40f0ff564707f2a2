"""The whole life of one lease, told from the log: facts, phases, causes, who, when.

Pure over a replay: it folds the entries and writes down each that touched the lease,
the refused ones too, and each deadline that passed.
"""

from collections.abc import Iterable

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.core.book.book import Book
from sublet.core.book.step import LeaseMoved, Step, step
from sublet.core.document import (
    Channel,
    Fact,
    Order,
    ProviderLost,
    Resume,
    Revocation,
    Voucher,
)
from sublet.core.lease.phase import Lease, Phase
from sublet.core.lease.sentence import tell, tell_end

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
        text = tell(document, lease)
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
            text = f"{text}; {tell_end(lease)}"
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
