"""The lines that bind a worker to its results: what is one is found, nothing else."""

from hashlib import sha256

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sublet.core.task.commitment import (
    Commitment,
    commit,
    read_commitments,
    write_given,
)

LINE = commit("7", given=b"in", wrote=b"out")


def test_a_line_hashes_both() -> None:
    both = sha256(b"in").digest() + sha256(b"out").digest()
    assert Commitment("7", sha256(both).hexdigest()) == LINE
    assert commit("7", given=b"ino", wrote=b"ut") != LINE


def test_lines_are_found_among_others() -> None:
    stream = b'noise\n{"task": 3}\n' + msgspec.json.encode(LINE) + b"\n\xff\n[[["
    assert list(read_commitments(stream)) == [LINE]


def test_what_was_given_has_one_form() -> None:
    first = write_given({"b": [1, True, None], "a": {"y": "ü", "x": ""}})
    assert first == write_given({"a": {"x": "", "y": "ü"}, "b": [1, True, None]})
    assert first == b'{"a": {"x": "", "y": "\\u00fc"}, "b": [1, true, null]}'


@given(stream=st.binary())
def test_no_stream_breaks_it(stream: bytes) -> None:
    for line in read_commitments(stream):
        assert isinstance(line, Commitment)
