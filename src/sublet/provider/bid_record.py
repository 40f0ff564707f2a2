"""The bids that this provider has made, remembered on disk.

A bid may be below the listed prices, and a lease that it won is worked for at that
price. So what was bid is written down before the market hears of it: neither a restart
nor a market that lies can turn one cheap bid into many leases, or into larger ones.
"""

from pathlib import Path

import msgspec
from msgspec import Struct

from sublet.base.ids import Digest
from sublet.core.document import Order
from sublet.provider.journal import Journal
from sublet.provider.record import write_atomic

KEPT_MAX = 1_024  # the newest ones


class BidMade(Struct, frozen=True):
    """One bid: for how much of which machine, for how long, at what price."""

    machine: str  # whatever is offered of it when the lease comes
    price_hour: int  # micro-USD for the whole slice
    cpus_milli: int
    memory_bytes: int
    disk_bytes: int
    gpu_count: int
    duration_s: int

    @classmethod
    def of(cls, order: Order, *, machine: str, price_hour: int) -> "BidMade":
        """Write down a bid for an order."""
        return cls(
            machine=machine,
            price_hour=price_hour,
            cpus_milli=order.cpus_milli,
            memory_bytes=order.memory_bytes,
            disk_bytes=order.disk_bytes,
            gpu_count=order.gpu_count,
            duration_s=order.duration_s_max,
        )


class BidsMade:
    """All bids of one provider, by the id of their order."""

    def __init__(self, path: Path, *, journal: Journal) -> None:
        """Take the file; what an earlier agent has bid is read."""
        self._path = path
        self._made: dict[Digest, BidMade] = {}
        try:
            raw = path.read_bytes()
            self._made = msgspec.json.decode(raw, type=dict[Digest, BidMade])
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as exc:
            journal.warn("bids_forgotten", why=str(exc))

    def find(self, order_id: Digest) -> BidMade | None:
        """Give the bid for an order, or None."""
        return self._made.get(order_id)

    def keep(self, order_id: Digest, made: BidMade) -> None:
        """Remember a bid, before anybody hears of it.

        Raises:
            Unavailable: the disk does not take it; then it must not be made.
        """
        kept = {**self._made, order_id: made}
        for old in list(kept)[:-KEPT_MAX]:
            del kept[old]
        write_atomic(self._path, msgspec.json.encode(kept))
        self._made = kept
