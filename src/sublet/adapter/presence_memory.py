"""Who is there, where there is one node: what it hears itself is all there is."""

from collections.abc import Collection

from sublet.base.ids import Address


class MemoryPresence:
    """The presence of a single node; at its first beat nobody was there before."""

    def __init__(self) -> None:
        """Begin with nobody there."""
        self._is_attended = False

    def beat(self, heard: Collection[Address]) -> bool:
        """Say that this node is at work; False the first time."""
        was_attended, self._is_attended = self._is_attended, True
        return was_attended

    def find_silent(
        self, providers: Collection[Address], *, silent_ms: int
    ) -> frozenset[Address]:
        """Give all of them: nobody else could have heard them."""
        return frozenset(providers)

    def close(self) -> None:
        """Nothing to release."""
