"""What goes into the market and what comes back: candidates, results, who waits.

Not here: signatures (checked before, by ``wire``), commits (``market``).
"""

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from sublet.base import limits
from sublet.base.errors import Refused, SubletError
from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.core.book.open_order import OpenOrder
from sublet.core.document import AnyDocument, Choice, Fact, Market, Order
from sublet.core.lease.phase import Lease
from sublet.service.ports import ANY_GROUND, Ground


class Candidate(Struct, frozen=True, gc=False):
    """A document whose signature was verified; not yet in the log."""

    id: Digest
    signer: Address
    document: AnyDocument
    signature: bytes  # 65 bytes


class Result(Struct, frozen=True):
    """What became of one candidate."""

    id: Digest
    index: int = -1  # position in the log; -1 where it was refused before
    at_s: int = 0
    lease: Lease | None = None  # the lease that it made or moved, as it is now
    refusal: Refused | None = None  # not in the log, or void in it
    order: OpenOrder | None = None  # that waits, or did: which it placed or moved


_NO_RESULT = Result(NO_DIGEST)


class _Together:
    """The documents of one submission: whoever sent them waits for all results."""

    __slots__ = ("_missing", "_results", "answer")

    def __init__(self, count: int) -> None:
        self.answer: asyncio.Future[list[Result]]
        self.answer = asyncio.get_running_loop().create_future()
        self._results: list[Result] = [_NO_RESULT] * count
        self._missing = count
        self._answer_if_whole()

    def put(self, place: int, result: Result) -> None:
        self._results[place] = result
        self._missing -= 1
        self._answer_if_whole()

    def _answer_if_whole(self) -> None:
        # Who waited may have gone away, the documents count all the same.
        if not self._missing and not self.answer.done():
            self.answer.set_result(self._results)


class Waiting:
    """A document on its way to its result."""

    __slots__ = ("_place", "_together", "candidate", "ground")

    def __init__(
        self,
        candidate: Candidate,
        together: _Together,
        place: int,
        *,
        ground: Ground = ANY_GROUND,
    ) -> None:
        """Take the document, and its place in what was submitted together."""
        self.candidate = candidate
        self.ground = ground
        self._together = together
        self._place = place

    def resolve(self, result: Result) -> None:
        """Answer, once."""
        self._together.put(self._place, result)

    def fail(self, error: SubletError) -> None:
        """Say that nobody knows what became of it."""
        if not self._together.answer.done():
            self._together.answer.set_exception(error)


def wait_together(
    candidates: Sequence[Candidate], *, ground: Ground = ANY_GROUND
) -> tuple[list[Waiting], asyncio.Future[list[Result]]]:
    """Give documents to be queued, and the future of all results in their order.

    With a ``ground``, each is appended only while that holds.
    """
    together = _Together(len(candidates))
    waiting = [
        Waiting(each, together, place, ground=ground)
        for place, each in enumerate(candidates)
    ]
    return waiting, together.answer


class Untimely(Refused):
    """The document's own time is not plausible; set your clock and sign again.

    Codes: ``signed_ahead`` (of the node's clock), ``signed_long_ago``.
    """

    code = "untimely"


def check_age(document: AnyDocument, *, now_s: int) -> None:
    """Refuse a document that is from the future or has lain about.

    The market's founding document, channels and vouchers may be of any age: the first
    is made before there is a log, the others carry no time and are cumulative.

    Raises:
        Untimely: says both clocks, so that whoever's is wrong can be found.
    """
    signed_at_s = getattr(document, "signed_at_s", None)
    if signed_at_s is None or isinstance(document, Market):
        return
    detail = {"signed_at_s": signed_at_s, "node_at_s": now_s}
    if signed_at_s > now_s + limits.CLOCK_SKEW_S_MAX:
        raise Untimely(
            f"the document was signed {signed_at_s - now_s} s ahead of the node's "
            f"clock, and {limits.CLOCK_SKEW_S_MAX} s are let pass; set your clock",
            code="signed_ahead",
            field="signed_at_s",
            detail=detail,
        )
    if signed_at_s < now_s - limits.DOCUMENT_AGE_S_MAX:
        raise Untimely(
            f"the document was signed {now_s - signed_at_s} s ago by the node's clock, "
            f"and {limits.DOCUMENT_AGE_S_MAX} s are let pass; set your clock or sign again",
            code="signed_long_ago",
            field="signed_at_s",
            detail=detail,
        )


def find_lease_id(candidate: Candidate | Fact) -> Digest | None:
    """Say which lease a document speaks of: an order's own, or the one it names."""
    if isinstance(candidate.document, Order):
        return candidate.id
    if isinstance(candidate.document, Choice):
        return candidate.document.order_id
    return getattr(candidate.document, "lease_id", None)


def find_order_id(candidate: Candidate | Fact) -> Digest | None:
    """Say which order a document places or speaks of."""
    if isinstance(candidate.document, Order):
        return candidate.id
    return getattr(candidate.document, "order_id", None)
