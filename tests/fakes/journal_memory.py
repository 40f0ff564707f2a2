"""A journal in memory that keeps the port's promises."""

from sublet.base.errors import Broken
from sublet.core.rail.sending import Sending


class MemoryJournal:
    """Passes ``tests/ports/test_journal.py``, as the real one does."""

    def __init__(self) -> None:
        self._kept: dict[str, Sending] = {}

    def add(self, sending: Sending) -> Sending:
        return self._kept.setdefault(sending.id, sending)

    def put(self, sending: Sending) -> None:
        for other in self._kept.values():
            if (
                other.id != sending.id
                and other.sender == sending.sender
                and other.nonce is not None
                and other.nonce == sending.nonce
            ):
                raise Broken("two transactions with one nonce", code="journal_forked")
        self._kept[sending.id] = sending

    def find(self, errand: str) -> Sending | None:
        return self._kept.get(errand)

    def list_open(self, sender: str) -> tuple[Sending, ...]:
        return tuple(
            one
            for one in self._kept.values()
            if one.sender == sender and not one.is_ended
        )

    def next_nonce(self, sender: str) -> int:
        nonces = [
            one.nonce
            for one in self._kept.values()
            if one.sender == sender and one.nonce is not None
        ]
        return max(nonces, default=-1) + 1

    def close(self) -> None:
        pass
