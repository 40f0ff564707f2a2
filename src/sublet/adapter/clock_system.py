"""The clock of this machine: the one place where time comes in."""

import time


class SystemClock:
    """The port ``Clock``, on the machine's own clocks."""

    def now_s(self) -> int:
        """Seconds since the epoch, UTC."""
        return int(time.time())

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back; for durations only."""
        return time.monotonic_ns() // 1_000_000
