"""A price feed in memory: it says what it is told to."""

from collections.abc import Sequence

from sublet.core.pricing.reading import Reading
from sublet.service.price_port import FeedDown, make_reading


class FakeFeed:
    """One source; ``tests/ports/test_price_feed.py`` holds it to what real ones do."""

    def __init__(self, source: str = "fake", *, tokens: Sequence[str] = ()) -> None:
        self.source = source
        self.tokens = tuple(tokens)
        self.is_down = False
        self._said: dict[str, tuple[int, int]] = {}

    def say(self, token: str, price_e8: int, *, at_s: int) -> None:
        self._said[token] = (price_e8, at_s)

    async def read(self, tokens: Sequence[str], *, at_s: int) -> Sequence[Reading]:
        if self.is_down:
            raise FeedDown(f"{self.source} does not answer (told so)")
        return [
            make_reading(
                source=self.source,
                token=token,
                price_e8=self._said[token][0],
                published_at_s=self._said[token][1],
                fresh_s=60,
            )
            for token in tokens
            if token in self._said
        ]
