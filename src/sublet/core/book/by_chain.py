"""What the operator says of the chain: Mirror. Only on the escrow rail."""

from functools import partial

from sublet.base.errors import Refused
from sublet.core.book import funds
from sublet.core.book.book import Book
from sublet.core.book.change import Change, check_operator
from sublet.core.book.due import show
from sublet.core.book.outcome import LeaseMoved, Outcome
from sublet.core.book.record import ChannelRecord
from sublet.core.book.settlement import record_move, settle_covered
from sublet.core.document import Fact, Mirror
from sublet.core.lease import table


def decide_mirror(book: Book, fact: Fact, mirror: Mirror, now_s: int) -> Change:
    """Let a channel be what the contract says that it is.

    Raises:
        Refused: ``wrong_signer``, ``wrong_rail``, ``unknown_channel``, ``stale_mirror``
            (not of a later block) or ``bad_mirror`` (no contract says that).
    """
    check_operator(book, fact)
    if not funds.is_escrow(book):
        raise Refused(
            "this market's money is credits; a channel has no deposit here",
            code="wrong_rail",
        )
    channel = book.channels.get(mirror.channel_id)
    if channel is None:
        raise Refused(
            f"no channel {mirror.channel_id} is registered; submit the signed channel "
            "before its deposit counts",
            code="unknown_channel",
            field="mirror.channel_id",
        )
    if mirror.block <= channel.block:
        raise Refused(
            f"the channel is known as of block {channel.block}; only a later one counts",
            code="stale_mirror",
            field="mirror.block",
        )
    for field in ("claimed", "withdrawing"):
        if getattr(mirror, field) > mirror.balance:
            raise Refused(
                f"mirror.{field} is above the channel's balance, which no contract "
                "allows; read the chain again",
                code="bad_mirror",
                field=f"mirror.{field}",
            )
    return partial(_mirror, book, fact, channel, mirror)


def _mirror(
    book: Book, fact: Fact, channel: ChannelRecord, mirror: Mirror
) -> tuple[Outcome, ...]:
    unfunded = funds.find_unfunded(book, channel, mirror)
    funds.enter(book, channel, mirror, fact_id=fact.id)
    outcomes: list[Outcome] = []
    for known in unfunded:
        lease = book.leases.get(known.id)
        # One that settles may cover the next, which then is settled already.
        if lease is not None:
            lost = table.unfund(lease, at_s=book.now_s, market=book.rules)
            outcomes += record_move(book, lost)
    outcomes += settle_covered(book, channel.line)
    funded = funds.fund_waiting(book, book.channels[channel.id])
    outcomes += [LeaseMoved(show(book, one)) for one in funded]
    return tuple(outcomes)
