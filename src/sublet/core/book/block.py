"""Blocks of rows that are alike, so that a match looks at few of them.

The rows of a table lie in blocks of 128, in the order of a key: rows of the same kind
and of about the same price share a block. A full block is split in two.

Not here: what the rows say, and how good a block can be (``offer_table``).
"""

from bisect import bisect_right, insort
from copy import copy

BLOCK_ROWS = 128

Key = tuple[int, ...]  # no two rows have the same


class BlockOrder:
    """Which block a key belongs to, and which rows of each block are blank."""

    def __init__(self, *, used: list[tuple[Key, int]] | None = None) -> None:
        """Lay the blocks out.

        Args:
            used: for each block its least key and how many of its rows are taken, in
                the order of the keys; the first block takes every lesser key, too.
                None for one empty block.
        """
        used = used or [((), 0)]
        self._firsts = [(() if n == 0 else key, n) for n, (key, _) in enumerate(used)]
        self._blank = [
            list(range((n + 1) * BLOCK_ROWS - 1, n * BLOCK_ROWS + count - 1, -1))
            for n, (_, count) in enumerate(used)
        ]

    def copy(self) -> "BlockOrder":
        """Give an independent order."""
        twin = copy(self)
        twin._firsts = self._firsts.copy()
        twin._blank = [rows.copy() for rows in self._blank]
        return twin

    def __len__(self) -> int:
        """Count the blocks."""
        return len(self._blank)

    def home(self, key: Key) -> int:
        """Give the block that the key belongs to."""
        place = bisect_right(self._firsts, key, key=lambda first: first[0])
        return self._firsts[place - 1][1]

    def take(self, block: int) -> int | None:
        """Give a blank row of the block, which is taken from now on; None if full."""
        blank = self._blank[block]
        return blank.pop() if blank else None

    def give(self, row: int) -> None:
        """Let a row be blank."""
        self._blank[row // BLOCK_ROWS].append(row)

    def add(self, first: Key) -> int:
        """Add a block, empty, for keys from ``first`` on; give its number."""
        block = len(self._blank)
        self._blank.append(
            list(range((block + 1) * BLOCK_ROWS))[: -BLOCK_ROWS - 1 : -1]
        )
        insort(self._firsts, (first, block))
        return block
