"""What a step did, for whoever folds: leases that moved, money that was issued."""

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.base.ids import Address
from sublet.core.book.open_order import OpenOrder
from sublet.core.lease.phase import Lease


class LeaseMoved(Struct, frozen=True, gc=False):
    """A lease was made or changed; ``lease`` is as it is now, for readers."""

    lease: Lease


class Credited(Struct, frozen=True):
    """The operator issued credits to a wallet."""

    party: Address
    amount: int  # micro-USD


class LeaseErased(LeaseMoved, frozen=True, gc=False):
    """A settled lease was erased: nothing else of it has changed."""


class OrderMoved(Struct, frozen=True, gc=False):
    """An order that waits was placed, went on or ended; ``order`` is as it is now."""

    order: OpenOrder


Outcome = LeaseMoved | LeaseErased | Credited | OrderMoved


class Step(Struct, frozen=True):
    """What one entry did. With a refusal the entry is void: only time has moved."""

    outcomes: tuple[Outcome, ...] = ()  # in the order in which they happened
    refusal: Refused | None = None
