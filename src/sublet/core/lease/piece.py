"""The ids of the leases that one standing order gets, piece by piece."""

from hashlib import sha256

from sublet.base.ids import Digest
from sublet.base.limits import PIECES_PER_ORDER_MAX


def piece_id(order_id: Digest, number: int) -> Digest:
    """Name the lease that is piece ``number`` (from 1 on) of an order."""
    seed = bytes.fromhex(order_id[2:]) + number.to_bytes(4)
    return "0x" + sha256(seed).hexdigest()


def is_lease_of(lease_id: Digest, order_id: Digest) -> bool:
    """Say whether a lease can be one of this order's: its only one, or a piece."""
    return lease_id == order_id or any(
        lease_id == piece_id(order_id, number)
        for number in range(1, PIECES_PER_ORDER_MAX + 1)
    )
