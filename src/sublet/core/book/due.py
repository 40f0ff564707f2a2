"""What a lease still asks of its tenant: a voucher, and on the escrow rail a deposit.

Not here: what is paid in the end (``settlement``), what a channel has (``funds``).
"""

from msgspec.structs import replace

from sublet.core.book import funds
from sublet.core.book.book import Book
from sublet.core.lease.phase import Lease


def show(book: Book, lease: Lease) -> Lease:
    """Give a lease as its parties see it: with what its channel owes and lacks by now."""
    return replace(
        lease,
        channel_total=total_due(book, lease),
        deposit_due=funds.lack(book, lease),
    )


def total_due(book: Book, lease: Lease) -> int:
    """Compute what the channel must say for this lease and the older ones, in micro-USD.

    For a lease that is settled: what the channel has paid so far.
    """
    channel = book.find_channel(lease.line)
    total = 0 if channel is None else channel.paid
    if lease.id not in book.leases:
        return total
    for lease_id in book.open_of_line[lease.line]:
        total += book.leases[lease_id].owed
        if lease_id == lease.id:
            break
    return total
