"""So much a second, and a little more at once."""

import time


class TokenBucket:
    """Says how long to wait so that a rate is kept."""

    def __init__(self, *, per_s: float, burst: float) -> None:
        """Take the rate (0 for any) and how much may come at once."""
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._at_s = time.monotonic()

    def take(self, amount: float) -> float:
        """Take this much; give the seconds to wait before the next, 0 for none."""
        if not self._per_s:
            return 0.0
        now_s = time.monotonic()
        gained = (now_s - self._at_s) * self._per_s
        self._left = min(self._burst, self._left + gained) - amount
        self._at_s = now_s
        return max(0.0, -self._left / self._per_s)
