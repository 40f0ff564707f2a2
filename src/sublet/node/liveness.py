"""Who is there: control links against what the book says.

The book's truth is moved towards what this node hears, level by level: whoever is
linked and not up is seen; whoever is up and silent for too long is lost. A failed
attempt is simply made again. At the start everybody gets the full grace.

There are two graces. Silence may be a slow network, so it is given longer; a connection
that was closed without a goodbye says that the program at its other end has died, and
the grace is for its successor to come.

Not here: the links themselves (``link``), what a loss means for leases (``book``).
"""

from sublet.base.ids import Address

Verdict = tuple[tuple[Address, ...], dict[Address, int]]


class Liveness:
    """When each provider was last heard. Pure but for its own state."""

    def __init__(self, *, lost_after_ms: int, gone_after_ms: int, now_ms: int) -> None:
        """Give everybody ``lost_after_ms`` from now on to come (back).

        Args:
            lost_after_ms: of silence.
            gone_after_ms: behind a connection that was broken off.
            now_ms: monotonic.
        """
        self._lost_after_ms = lost_after_ms
        self._gone_after_ms = gone_after_ms
        self._gone_ms: dict[Address, int] = {}  # when its connection was broken off
        self._begun_ms = now_ms
        self._heard_ms: dict[Address, int] = {}
        self._linked: set[Address] = set()
        self._heard_lately: set[Address] = set()

    def begin_anew(self, *, now_ms: int) -> None:
        """Give everybody the full grace from now on: nobody could be heard before."""
        self._begun_ms = now_ms
        self._heard_ms.clear()
        self._gone_ms.clear()

    def note_linked(self, provider: Address, *, now_ms: int) -> None:
        """A link to this provider stands."""
        self._linked.add(provider)
        self._gone_ms.pop(provider, None)
        self._heard_ms[provider] = now_ms
        self._heard_lately.add(provider)

    def note_heard(self, provider: Address, *, now_ms: int) -> None:
        """A frame of any kind came from this provider."""
        self._heard_ms[provider] = now_ms
        self._heard_lately.add(provider)

    def take_heard(self) -> frozenset[Address]:
        """Give whom this node has heard since it was last asked."""
        heard, self._heard_lately = frozenset(self._heard_lately), set()
        return heard

    def put_heard(self, heard: frozenset[Address]) -> None:
        """Take back what could not be told."""
        self._heard_lately |= heard

    def note_unlinked(self, provider: Address) -> None:
        """The link is gone; the grace runs from when it was last heard."""
        self._linked.discard(provider)

    def note_broken_off(self, provider: Address, *, now_ms: int) -> None:
        """The link is gone, and without a goodbye: the shorter grace runs from now."""
        self._linked.discard(provider)
        self._gone_ms[provider] = now_ms

    def is_linked(self, provider: Address) -> bool:
        """Say whether a link stands."""
        return provider in self._linked

    def decide(self, up: frozenset[Address], *, now_ms: int) -> Verdict:
        """Compare with the book: give who is to be called seen, and who lost.

        Those who are lost come with the grace that is over, in milliseconds.

        Args:
            up: the providers that the book calls up.
            now_ms: monotonic.
        """
        seen = tuple(sorted(self._linked - up))
        graces = {each: self._find_over(each, now_ms) for each in up - self._linked}
        lost = {each: grace for each, grace in sorted(graces.items()) if grace}
        for provider in self._heard_ms.keys() - self._linked - up:
            del self._heard_ms[provider]
            self._gone_ms.pop(provider, None)
        return seen, lost

    def _find_over(self, provider: Address, now_ms: int) -> int:
        """Give the grace of this provider that is over, 0 while none is."""
        gone_ms = self._gone_ms.get(provider)
        if gone_ms is not None and now_ms - gone_ms >= self._gone_after_ms:
            return self._gone_after_ms
        silent_ms = now_ms - self._heard_ms.get(provider, self._begun_ms)
        return self._lost_after_ms if silent_ms >= self._lost_after_ms else 0
