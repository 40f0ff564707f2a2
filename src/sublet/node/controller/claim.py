"""This node's right to act for one job: for a while, and as long as it is renewed.

The vault refuses what is written under an older claim; nothing is ordered or paid
before it was written. So a node that stood still does no harm; this is how it notices
by its own clock, too, and stops talking to a provider that another node talks to now.
"""

from sublet.service.ports import Clock
from sublet.service.vault_port import ClaimLost


class Claim:
    """One claim; once lost, it stays lost."""

    def __init__(self, epoch: int, *, since_ms: int, until_ms: int, clock: Clock):
        """Take the epoch, and between which moments of the clock it surely holds."""
        self.epoch = epoch
        self.since_ms = since_ms
        self._until_ms = until_ms
        self._is_lost = False
        self._clock = clock

    @property
    def is_lost(self) -> bool:
        """Say whether somebody else may hold the job by now."""
        self._is_lost = self._is_lost or self._clock.monotonic_ms() >= self._until_ms
        return self._is_lost

    def check(self) -> None:
        """Look before acting.

        Raises:
            ClaimLost: somebody else may hold the job by now.
        """
        if self.is_lost:
            raise ClaimLost

    def extend(self, until_ms: int) -> None:
        """Hear that it was renewed; too late is too late."""
        if not self.is_lost:
            self._until_ms = max(self._until_ms, until_ms)

    def lose(self) -> None:
        """Hear that it is another's."""
        self._is_lost = True
