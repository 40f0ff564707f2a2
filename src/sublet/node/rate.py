"""How much one address may ask: a token bucket each, in bounded memory.

Pure but for its own state; time is an argument.
"""

from collections import OrderedDict

PARTIES_MAX = 65_536  # buckets that are remembered; the longest unused go first


class RateLimit:
    """A token bucket for each party: ``burst`` at once, ``per_s`` on average."""

    def __init__(self, *, per_s: int, burst: int) -> None:
        """Both at least 1."""
        self._per_ms = per_s / 1_000
        self._burst = float(burst)
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, party: str, *, now_ms: int) -> int:
        """Take one token; give 0, or in how many ms there will be one."""
        tokens, at_ms = self._buckets.pop(party, (self._burst, now_ms))
        tokens = min(self._burst, tokens + (now_ms - at_ms) * self._per_ms)
        wait_ms = 0
        if tokens >= 1.0:
            tokens -= 1.0
        else:
            wait_ms = int((1.0 - tokens) / self._per_ms) + 1
        self._buckets[party] = (tokens, now_ms)
        if len(self._buckets) > PARTIES_MAX:
            self._buckets.popitem(last=False)
        return wait_ms
