"""What either party says of its lease; the table of ``core.lease`` decides."""

from functools import partial

from sublet.base.errors import Refused
from sublet.core.book.book import Book
from sublet.core.book.change import Change
from sublet.core.book.outcome import Outcome
from sublet.core.book.settlement import record_move
from sublet.core.document import Fact, Start
from sublet.core.lease import table
from sublet.core.lease.phase import Lease
from sublet.core.tape.tape import Deal


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
    if isinstance(document, Start):
        return partial(_start, book, moved)
    return partial(record_move, book, moved)


def _start(book: Book, lease: Lease) -> tuple[Outcome, ...]:
    """Note on the tape for how much a machine of this kind was let."""
    record = book.offers.find_machine(lease.provider, lease.machine)
    assert record is not None  # the lease uses a part of it
    gpus_milli = len(lease.gpu_uuids) * record.offer.gpu_share_milli
    units_milli = gpus_milli or lease.cpus_milli
    deal = Deal(
        at_s=lease.started_at_s,
        price=lease.price_hour * 1_000 // units_milli,
        units_milli=units_milli,
    )
    model = record.offer.gpu_model if lease.gpu_uuids else ""
    book.tape.note(deal, model=model, region=record.offer.region)
    return record_move(book, lease)
