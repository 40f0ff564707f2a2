"""Where the money of a lease lies: in the tenant's wallet, or in the pair's channel.

On the *credits* rail a wallet holds what an order may cost before it is matched. On the
*escrow* rail money lies in channels, of which the book mirrors what the chain says. Nobody
can know the channel before the match: a lease is made without its hold, may not start
before the channel covers it, and ends where its tenant takes that money back.

Accounts of the ledger on the escrow rail: one for each channel (by its id), which deposits
fill from outside and withdrawals empty; and what each provider has earned. A payout of the
contract moves nothing here: it pays what is earned already.

Not here: the chain's own rules (``core.escrow``), who reads the chain (``node``).
"""

from msgspec.structs import replace

from sublet.base.ids import Address, Digest
from sublet.core.book.book import Book
from sublet.core.book.record import ChannelRecord
from sublet.core.document import Mirror
from sublet.core.lease.phase import Lease, Phase
from sublet.core.mirror import ESCROW

# Phases in which a lease waits for its money, if it has to.
BEFORE_START = frozenset({Phase.MATCHED, Phase.ACCEPTED, Phase.PREPARING})


def is_escrow(book: Book) -> bool:
    """Say whether money lies on a chain here."""
    return book.market is not None and book.market.rail == ESCROW


def free_in(book: Book, channel: ChannelRecord) -> int:
    """Count what no lease holds of a channel and its payer has not asked back, micro-USD."""
    return max(0, book.ledger.find(channel.id).balance - channel.withdrawing)


def free_of(book: Book, tenant: Address) -> int:
    """Count what a tenant could still spend, in its wallet or in all of its channels."""
    if not is_escrow(book):
        return book.ledger.find(tenant).balance
    own = book.channels_of.get(tenant, ())
    return sum(free_in(book, book.channels[key]) for key in own)


# ---- orders that wait -------------------------------------------------------------


def check(book: Book, *, transfer_id: Digest, tenant: Address, amount: int) -> None:
    """Refuse an order that the wallet does not cover; on a chain, channels tell later.

    Raises:
        Refused: ``insufficient_funds`` or ``duplicate_transfer``.
    """
    if not is_escrow(book):
        book.ledger.check_hold(transfer_id=transfer_id, debit=tenant, amount=amount)


def hold_for_order(
    book: Book, *, order_id: Digest, tenant: Address, amount: int
) -> None:
    """Set aside in the wallet what the leases of an order that waits may cost."""
    if not is_escrow(book):
        book.ledger.hold(
            transfer_id=order_id, debit=tenant, credit=tenant, amount=amount
        )


def release_of_order(book: Book, *, order_id: Digest) -> None:
    """Give back what an order that waits had set aside."""
    if not is_escrow(book):
        book.ledger.release(transfer_id=order_id)


# ---- leases -----------------------------------------------------------------------


def hold(book: Book, lease: Lease) -> Lease:
    """Set aside what a new lease may cost, if its channel has it; say whether it does.

    Raises:
        Broken: the caller has not checked that the wallet covers it.
    """
    debit: str | None = lease.tenant
    if is_escrow(book) and lease.hold == 0:
        return lease
    if is_escrow(book):
        channel = book.find_channel(lease.line)
        is_covered = channel is not None and free_in(book, channel) >= lease.hold
        debit = channel.id if channel is not None and is_covered else None
    if debit is None:
        return replace(lease, is_funded=False)
    book.ledger.hold(
        transfer_id=lease.id, debit=debit, credit=lease.provider, amount=lease.hold
    )
    return replace(lease, is_funded=True)


def settle(book: Book, lease: Lease, *, amount: int) -> int:
    """Move what a lease is paid, and let go of the rest of its hold; give what moved.

    One whose hold is gone is paid of what its channel still has.
    """
    if lease.id not in book.ledger.pending:
        channel = book.find_channel(lease.line)
        # Also what the payer has asked back: its provider may claim that first.
        left = 0 if channel is None else book.ledger.find(channel.id).balance
        amount = min(amount, max(0, left))
        if channel is not None and amount:
            book.ledger.move(debit=channel.id, credit=lease.provider, amount=amount)
        return amount
    book.ledger.settle(transfer_id=lease.id, amount=amount)
    return amount


def find_waiting(book: Book, channel: ChannelRecord) -> list[Lease]:
    """List the leases that wait for a channel's money, oldest first."""
    return [
        lease
        for lease in book.open_leases(book.open_of_line.get(channel.line))
        if not lease.is_funded and lease.phase in BEFORE_START
    ]


def lack(book: Book, lease: Lease) -> int:
    """Count what a lease's channel lacks for it and those before it, micro-USD."""
    channel = book.find_channel(lease.line)
    if lease.is_funded or lease.phase not in BEFORE_START:
        return 0
    if channel is None:
        return lease.hold
    wanted = 0
    for older in find_waiting(book, channel):
        wanted += older.hold
        if older.id == lease.id:
            break
    return max(0, wanted - free_in(book, channel))


def fund_waiting(book: Book, channel: ChannelRecord) -> list[Lease]:
    """Hold what a channel has for the leases that wait for it; give those that got it."""
    done: list[Lease] = []
    for lease in find_waiting(book, channel):
        if not (funded := hold(book, lease)).is_funded:
            break  # a younger, smaller one does not overtake it
        book.change_lease(funded)
        done.append(funded)
    return done


# ---- the mirror -------------------------------------------------------------------


def find_unfunded(book: Book, channel: ChannelRecord, mirror: Mirror) -> list[Lease]:
    """List the leases that hold money of a channel which is going, or has gone."""
    leases = [
        lease
        for lease in book.open_leases(book.open_of_line.get(channel.line))
        if lease.id in book.ledger.pending
    ]
    held = sum(book.ledger.pending[lease.id].amount for lease in leases)
    left = mirror.balance - channel.paid - mirror.withdrawing
    return leases if held > left else []


def enter(
    book: Book, channel: ChannelRecord, mirror: Mirror, *, fact_id: Digest
) -> ChannelRecord:
    """Let the channel's account be what the chain says; holds that are gone come first.

    What was paid and has left the chain unclaimed is taken back from the receiver.
    """
    for lease in find_unfunded(book, channel, mirror):
        book.ledger.release(transfer_id=lease.id)
    now = replace(
        channel,
        balance=mirror.balance,
        claimed=mirror.claimed,
        withdrawing=mirror.withdrawing,
        block=mirror.block,
        # A claim that the chain took is a voucher that its signer has given.
        vouched=max(channel.vouched, mirror.claimed),
    )
    book.channels[channel.id] = now
    lost = now.uncollected - channel.uncollected
    if lost > 0:
        book.ledger.move(debit=channel.receiver, credit=channel.id, amount=lost)
    grown = mirror.balance - channel.balance
    if grown > 0:
        book.ledger.issue(transfer_id=fact_id, party=channel.id, amount=grown)
    else:
        book.ledger.redeem(party=channel.id, amount=-grown)
    if lost < 0:
        book.ledger.move(debit=channel.id, credit=channel.receiver, amount=-lost)
    return now
