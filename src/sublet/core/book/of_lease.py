"""What either party says of its lease; the table of ``core.lease`` decides."""

from functools import partial

from sublet.base.errors import Refused
from sublet.core.book.book import Book
from sublet.core.book.change import Change
from sublet.core.book.settlement import record_move
from sublet.core.document import Fact
from sublet.core.lease import table


def decide_lease(
    book: Book, fact: Fact, document: table.LeaseDocument, now_s: int
) -> Change:
    """Move a lease.

    Raises:
        Refused: ``unknown_lease``, or what ``lease.table.step`` raises.
    """
    lease = book.find_lease(document.lease_id)
    if lease is None:
        raise Refused(
            f"no lease {document.lease_id} in this market; its order was refused, or "
            "it was settled long ago",
            code="unknown_lease",
            field="lease_id",
        )
    moved = table.step(
        lease, document, signer=fact.signer, at_s=now_s, market=book.rules
    )
    return partial(record_move, book, moved)
