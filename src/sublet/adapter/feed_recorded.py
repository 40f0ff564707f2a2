"""Prices from a recording: what sources said at other times, said again at theirs.

It is a history of rounds (``price_history``), and needs no network. At a moment it answers
what was recorded last before that, with the times of then: what was fresh then is not
fresh for ever.
"""

from bisect import bisect_right
from collections.abc import Sequence

from sublet.core.pricing.reading import Reading, Round

SOURCE = "recorded"


class RecordedFeed:
    """A recording; its readings bear the names of the sources that were recorded."""

    def __init__(self, rounds: Sequence[Round]) -> None:
        """Take the rounds, oldest first."""
        self.source = SOURCE
        self.times_s = tuple(taken.at_s for taken in rounds)
        self.tokens = tuple(
            dict.fromkeys(x.token for taken in rounds for x in taken.readings)
        )
        self._rounds = tuple(rounds)

    async def read(self, tokens: Sequence[str], *, at_s: int) -> Sequence[Reading]:
        """See ``PriceFeed``."""
        count = bisect_right(self.times_s, at_s)
        if not count:
            return ()
        return [x for x in self._rounds[count - 1].readings if x.token in tokens]
