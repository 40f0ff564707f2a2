"""Small numbers for repeated texts, so that columns can hold and compare them."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class Vocabulary:
    """Numbers values in the order of their arrival, and finds them by their words.

    A region "US-CA" has the words "US-CA" and "US"; a set of sandboxes has its
    members; every text is a word of its own. A query by word is then one lookup and one gather.
    Numbers are private to one process: they are in no snapshot.
    """

    def __init__(self) -> None:
        """Start without any value."""
        self._numbers: dict[object, int] = {}
        self._by_word: dict[str, list[int]] = {}

    def intern(self, value: object, *, words: Iterable[str] = ()) -> int:
        """Give the value's number; a new one where it is seen for the first time."""
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self._numbers)
            for word in dict.fromkeys(words):
                if word != value:
                    self._by_word.setdefault(word, []).append(number)
        return number

    def has(self, word: str) -> bool:
        """Say whether any value that was ever seen has this word."""
        return word in self._by_word or word in self._numbers

    def match(
        self, column: NDArray[np.int64], *, words: Iterable[str]
    ) -> NDArray[np.bool_]:
        """Say which cells hold a value that has any of these words.

        Args:
            column: numbers that ``intern`` gave, shape (n_rows,).
            words: wanted; unknown ones match nothing.

        Returns:
            One truth per cell, shape (n_rows,).
        """
        numbers = self.numbers_of(words)
        if len(numbers) == 1:  # by far the most common, and the quickest to compare
            is_it: NDArray[np.bool_] = column == numbers.pop()
            return is_it
        if column.size < len(self._numbers):  # few cells: look at these alone
            return np.array([number in numbers for number in column.tolist()], np.bool_)
        has_word = np.zeros(max(1, len(self._numbers)), dtype=np.bool_)
        has_word[list(numbers)] = True
        return has_word[column]

    def numbers_of(self, words: Iterable[str]) -> set[int]:
        """Give the numbers of all values that have any of these words."""
        return {number for word in words for number in self._having(word)}

    def _having(self, word: str) -> Iterable[int]:
        number = self._numbers.get(word)
        others = self._by_word.get(word, ())
        return others if number is None else (number, *others)
