"""The clock of this machine: the one place where time comes in."""

import time
from collections.abc import Callable

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000


class SystemClock:
    """The port ``Clock``, on the machine's own clocks.

    It reads the wall clock once and counts on from there, so that somebody who sets
    the machine's clock while we run moves none of our deadlines. What it counts on by
    goes at the pace that NTP gives it, does not jump, and counts while the machine
    sleeps.
    """

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns) -> None:
        """Read the wall clock.

        Args:
            wall_ns: gives nanoseconds since the epoch, and may jump.
        """
        self._wall_ns = wall_ns
        self.set_anew()

    def now_s(self) -> int:
        """Seconds since the epoch, UTC, as the wall clock gave them, counted on."""
        return (self._zero_ns + _count_ns()) // _NS_PER_S

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back; for durations only."""
        return _count_ns() // _NS_PER_MS

    def set_anew(self) -> None:
        """Read the wall clock again: others say that ours is wrong."""
        self._zero_ns = self._wall_ns() - _count_ns()


def _count_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
