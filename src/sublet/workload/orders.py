"""A tenant's orders that wait: listed, chosen for, taken back."""

import secrets

from sublet.base.errors import Refused
from sublet.base.ids import Digest
from sublet.core.book.open_order import BidRecord, OpenOrder
from sublet.core.document import Cancellation, Choice
from sublet.sdk.connection import Connection
from sublet.sdk.exchange import ask_orders, error_of
from sublet.wire.message import Appended

SALT_BITS = 62
PREFIX_LENGTH_MIN = 4  # characters of an id, "0x" included, that may stand for it


async def fetch_orders(connection: Connection) -> tuple[OpenOrder, ...]:
    """List the caller's orders that wait, and those that lately did, oldest first.

    Raises:
        Unavailable: the market does not answer.
    """
    return (await connection.ask(ask_orders())).orders


async def find_order(connection: Connection, prefix: str) -> OpenOrder:
    """Find one of the caller's orders by its id, or by how that begins.

    Raises:
        Refused: ``unknown_order``, or ``ambiguous_id`` where several begin so.
        Unavailable: the market does not answer.
    """
    orders = await fetch_orders(connection)
    found = [one for one in orders if _begins(one.id, prefix)]
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(
            f"{len(found)} of your orders begin with {prefix[:66]!r}; write more of it",
            code="ambiguous_id",
            field="ORDER",
        )
    raise Refused(
        f"no order of yours begins with {prefix[:66]!r}; list them with: sublet orders "
        "--all",
        code="unknown_order",
        field="ORDER",
    )


def find_bid(order: OpenOrder, text: str) -> BidRecord:
    """Find a bid by its place in the list (1 is the best), or by how its id begins.

    Raises:
        Refused: ``unknown_bid``.
    """
    if text.isascii() and text.isdigit() and 1 <= int(text) <= len(order.bids):
        return order.bids[int(text) - 1]
    found = [one for one in order.bids if _begins(one.id, text)]
    if len(found) == 1:
        return found[0]
    raise Refused(
        f"{text[:66]!r} names none of the {len(order.bids)} bids for {order.id[:12]}; name "
        f"one by its number: sublet bids {order.id[:12]}",
        code="unknown_bid",
        field="BID",
    )


async def choose_bid(
    connection: Connection, *, order_id: Digest, bid_id: Digest, at_s: int
) -> Appended:
    """Take a bid; the answer holds the lease.

    Raises:
        Refused: nothing is to be chosen, or the bid is gone.
        Unavailable: the market does not answer.
    """
    salt = secrets.randbits(SALT_BITS)
    return await _submit(connection, Choice(order_id, bid_id, at_s, salt))


async def cancel_order(
    connection: Connection, *, order_id: Digest, at_s: int
) -> Appended:
    """Take an order back; leases that it got go on.

    Raises:
        Refused: it waits no more.
        Unavailable: the market does not answer.
    """
    salt = secrets.randbits(SALT_BITS)
    return await _submit(connection, Cancellation(order_id, at_s, salt))


async def _submit(connection: Connection, document: Choice | Cancellation) -> Appended:
    [result] = await connection.submit(document)
    if result.fault is not None:
        raise error_of(result.fault)
    return result


def _begins(id_: Digest, prefix: str) -> bool:
    return len(prefix) >= PREFIX_LENGTH_MIN and id_.startswith(prefix.lower())
