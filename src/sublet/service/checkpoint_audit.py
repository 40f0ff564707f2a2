"""Signed checkpoints against the tree that an audit computes.

Every note that the log keeps, and every one that the auditor kept itself, is held
against the root as it is at that size. So the first one that differs tells between
which two sizes the log was changed.
"""

from collections.abc import Sequence
from typing import Protocol

from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import Digest
from sublet.core.merkle import Frontier
from sublet.service.replay import ReadNote, SignedTree
from sublet.service.verdict import say_wrong


class NoteSource(Protocol):
    """Where the stored notes come from."""

    def read_checkpoints(self, *, first: int, limit: int) -> list[tuple[int, bytes]]:
        """Give (size, note) of sizes from ``first`` on, in order."""
        ...


class CheckpointAudit:
    """Goes along with one pass over one log."""

    def __init__(
        self,
        source: NoteSource,
        *,
        market: Digest,
        verifier_key: str,
        read_note: ReadNote,
        held: Sequence[bytes],
    ) -> None:
        """Take the log's name and key, and the auditor's own notes.

        Raises:
            Refused: one of these is not of this log (``foreign_checkpoint``).
        """
        self._source = source
        self._origin = f"sublet/{market[2:]}"
        self._verifier_key = verifier_key
        self._read_note = read_note
        self._page: dict[int, bytes] = {}
        self._held: dict[int, list[SignedTree]] = {}
        for note in held:
            signed = self._read_held(note)
            self._held.setdefault(signed.size, []).append(signed)
        self.newest: SignedTree | None = None  # of those that were found true
        self.count = 0  # found true
        self._held_size = 0  # entries that the newest true one of ``held`` covers

    @property
    def held_sizes(self) -> list[int]:
        """The sizes that the auditor's own notes speak of, in order."""
        return sorted(self._held)

    def begin(self) -> None:
        """Look for what no page would show: a note over no entries."""
        for size, _ in self._source.read_checkpoints(first=0, limit=1):
            if size < 1:
                say_wrong("checkpoint", "a checkpoint is filed for no entries", 0)

    def turn_page(self, *, first: int, last: int) -> None:
        """Fetch the notes over more than ``first`` and up to ``last`` entries."""
        pairs = self._source.read_checkpoints(first=first + 1, limit=last - first)
        self._page = {size: note for size, note in pairs if size <= last}

    def check(self, tree: Frontier) -> None:
        """Hold the tree as it is against all that was signed at its size."""
        note = self._page.get(tree.size)
        if note is not None:
            stored = self._read_stored(tree.size, note)
            self._check_root(stored, tree, whose="the", since=self._true_size)
            self.newest = stored
        for held in self._held.get(tree.size, ()):
            # What the log's keeper signed meanwhile tells nothing about this one.
            self._check_root(held, tree, whose="your own", since=self._held_size)
            self._held_size = held.size
            self.newest = held

    def find_claim(self, size: int) -> int:
        """Give the largest known size beyond ``size`` that was signed for, or 0."""
        claims = [held for held in self._held if held > size]
        for filed, note in self._source.read_checkpoints(first=size + 1, limit=1):
            claims.append(self._read_stored(filed, note).size)
        return max(claims, default=0)

    @property
    def _true_size(self) -> int:
        return self.newest.size if self.newest is not None else 0

    def _check_root(
        self, signed: SignedTree, tree: Frontier, *, whose: str, since: int
    ) -> None:
        if signed.root != tree.root():
            first, last = since, signed.size - 1
            entries = (
                f"entry {first}" if first == last else f"entries {first} to {last}"
            )
            why = (
                f"{whose} checkpoint over {signed.size} entries was signed for other "
                f"entries than these: {entries} changed after it was signed"
            )
            say_wrong("root", why, min(first, last), last=last)
        self.count += 1

    def _read_stored(self, size: int, note: bytes) -> SignedTree:
        try:
            signed = self._read(note)
        except PeerFault as error:
            why = f"the checkpoint over {size} entries: {error.message}"
            say_wrong("checkpoint", why, size - 1, code=error.code)
        if signed.size != size:
            why = f"the checkpoint filed for {size} entries says {signed.size}"
            say_wrong("checkpoint", why, size - 1)
        return signed

    def _read_held(self, note: bytes) -> SignedTree:
        try:
            return self._read(note)
        except PeerFault as error:
            raise Refused(
                f"a checkpoint that you gave is not of this log: {error.message}",
                code="foreign_checkpoint",
                field="--checkpoint",
            ) from error

    def _read(self, note: bytes) -> SignedTree:
        signed = self._read_note(note, verifier_key=self._verifier_key)
        if signed.origin != self._origin:
            raise PeerFault(f"it speaks of another log, {signed.origin}")
        return signed
