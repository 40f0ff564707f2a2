"""Small numbers for repeated texts, so that columns can hold and compare them."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# What is kept at most: so many tables, of no more values each.
TABLES_MAX = 256
VALUES_MAX = 4_096


class Vocabulary:
    """Numbers values in the order of their arrival, and finds them by their words.

    A region "US-CA" has the words "US-CA" and "US"; a set of sandboxes has its
    members; every text is a word of its own. A query by word is then one lookup and one gather.
    Numbers are private to one process: they are in no snapshot.
    """

    def __init__(self) -> None:
        """Start without any value."""
        self._numbers: dict[object, int] = {}
        self._values: list[object] = []
        self._by_word: dict[str, list[int]] = {}
        self._tables: dict[tuple[str, ...], NDArray[np.bool_]] = {}

    def intern(self, value: object, *, words: Iterable[str] = ()) -> int:
        """Give the value's number; a new one where it is seen for the first time."""
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self._values)
            self._values.append(value)
            self._tables.clear()
            for word in dict.fromkeys(words):
                if word != value:
                    self._by_word.setdefault(word, []).append(number)
        return number

    def has(self, word: str) -> bool:
        """Say whether any value that was ever seen has this word."""
        return word in self._by_word or word in self._numbers

    def __len__(self) -> int:
        """Count the values."""
        return len(self._values)

    def value(self, number: int) -> object:
        """Give the value that has this number."""
        return self._values[number]

    def values(self) -> tuple[object, ...]:
        """Give all values, each at the place that is its number."""
        return tuple(self._values)

    def table(self, words: Iterable[str]) -> NDArray[np.bool_]:
        """Say of each number whether its value has any of these words.

        ``table[column]`` then says it of the cells of a column. Unknown words match
        nothing. Tables are kept, as orders ask for the same words again and again.
        """
        key = tuple(words)
        table = self._tables.get(key)
        if table is None:
            table = np.zeros(max(1, len(self._values)), dtype=np.bool_)
            table[list(self.numbers_of(key))] = True
            if table.size <= VALUES_MAX:
                if len(self._tables) >= TABLES_MAX:
                    self._tables.clear()
                self._tables[key] = table
        return table

    def numbers_of(self, words: Iterable[str]) -> set[int]:
        """Give the numbers of all values that have any of these words."""
        return {number for word in words for number in self._having(word)}

    def _having(self, word: str) -> Iterable[int]:
        number = self._numbers.get(word)
        others = self._by_word.get(word, ())
        return others if number is None else (number, *others)
