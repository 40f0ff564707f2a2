"""The port of the journal: what is sent to a chain, written down before it is done.

Methods block, and what they wrote is on the disk when they return.
"""

from typing import Protocol

from sublet.base.ids import Address
from sublet.core.rail.sending import Sending


class Journal(Protocol):
    """Sendings on one chain. All methods raise ``Unavailable``."""

    def add(self, sending: Sending) -> Sending:
        """Keep a new one; where there is one of this id, give that, unchanged."""
        ...

    def put(self, sending: Sending) -> None:
        """Keep it in place of the one of the same id.

        Raises:
            Broken: another one of the same sender has its nonce.
        """
        ...

    def find(self, errand: str) -> Sending | None:
        """Give one, or None where there is none of this id."""
        ...

    def list_open(self, sender: Address) -> tuple[Sending, ...]:
        """Give those that have not ended, in the order in which they were added."""
        ...

    def next_nonce(self, sender: Address) -> int:
        """Give the lowest nonce above all that this sender was ever given; or 0."""
        ...

    def close(self) -> None:
        """Release what it holds; calling it twice is harmless."""
        ...
