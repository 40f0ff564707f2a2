"""What the owner has earned, by day: a small ledger beside the leases.

The market's account is the truth; this one answers "today" and works while the market
is away. Each settled lease counts once.
"""

import time
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sublet.base.errors import Broken
from sublet.core.lease.phase import Lease
from sublet.provider.record import write_atomic

DAYS_KEPT = 400
_DAY_S = 86_400


class Earnings(Struct, frozen=True):
    """Micro-USD by day (UTC, ``2026-11-22``), and over all time."""

    total: int = 0
    leases: int = 0
    days: dict[str, int] = {}

    def of_day(self, at_s: int) -> int:
        """Give what the day of this moment has brought, in micro-USD."""
        return self.days.get(name_day(at_s), 0)


def add_lease(earnings: Earnings, lease: Lease, *, at_s: int) -> Earnings:
    """Count a lease that was settled just now. Pure."""
    day = name_day(at_s)
    days = {**earnings.days, day: earnings.days.get(day, 0) + lease.paid}
    oldest = name_day(at_s - DAYS_KEPT * _DAY_S)
    return replace(
        earnings,
        total=earnings.total + lease.paid,
        leases=earnings.leases + 1,
        days={name: amount for name, amount in days.items() if name > oldest},
    )


def name_day(at_s: int) -> str:
    """Name the day (UTC) of a moment."""
    return time.strftime("%Y-%m-%d", time.gmtime(at_s))


def read_earnings(path: Path) -> Earnings:
    """Read what was earned so far; nothing where there is no file.

    Raises:
        Broken: the file is there and cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Earnings)
    except FileNotFoundError:
        return Earnings()
    except (OSError, msgspec.MsgspecError) as exc:
        raise Broken(f"{path} cannot be read: {exc}; move it away to go on") from exc


def write_earnings(path: Path, earnings: Earnings) -> None:
    """Keep what was earned.

    Raises:
        Unavailable: the disk is full or did not answer.
    """
    write_atomic(path, msgspec.json.encode(earnings))
