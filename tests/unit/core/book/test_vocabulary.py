"""Numbers for texts: the same again, and found by word."""

import numpy as np

from sublet.core.book.vocabulary import Vocabulary


def test_same_value_same_number() -> None:
    words = Vocabulary()
    assert [words.intern(v, words=[v]) for v in ("a", "b", "a")] == [0, 1, 0]


def test_matches_any_of_the_words() -> None:
    words = Vocabulary()
    numbers = [
        words.intern(value, words=[value, value[:2]]) for value in ("US-CA", "US", "DE")
    ]
    column = np.array([*numbers, numbers[0]], dtype=np.int64)
    assert words.table(["US"])[column].tolist() == [True, True, False, True]
    assert words.table(["US-CA", "DE"])[column].tolist() == [
        True,
        False,
        True,
        True,
    ]
    assert not words.table(["FR"])[column].any()
    assert not words.table([])[column].any()


def test_empty_vocabulary_matches_nothing() -> None:
    column = np.zeros(3, dtype=np.int64)
    assert not Vocabulary().table(["a"])[column].any()


def test_knows_the_words_that_it_has_seen() -> None:
    words = Vocabulary()
    words.intern(("a", "b"), words=("a", "b"))
    assert (words.has("b"), words.has("c")) == (True, False)
