"""A log, folded so far: the book, the Merkle tree, the time of the last entry.

Not here: where entries come from and whether they are true (``replay``, ``audit``).
"""

from sublet.core.book.book import Book
from sublet.core.book.step import Step, step
from sublet.core.document import Fact
from sublet.core.merkle import Frontier


class Fold:
    """What a reader of the log knows after ``size`` entries."""

    def __init__(self) -> None:
        """Begin with the empty log."""
        self.book = Book()
        self.tree = Frontier()
        self.leaves: list[bytes] = []  # all of them, for proofs; 32 bytes each
        self.at_s = 0  # when the last entry was heard

    @property
    def size(self) -> int:
        """Entries folded."""
        return len(self.leaves)

    def take(self, fact: Fact, *, leaf: bytes) -> Step:
        """Fold the next entry.

        Raises:
            Broken: an invariant of the book fell.
        """
        step_taken = step(self.book, fact)
        self.tree.append(leaf)
        self.leaves.append(leaf)
        self.at_s = max(self.at_s, fact.at_s)
        return step_taken
