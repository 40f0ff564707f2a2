"""YAML as a tree: lines are kept, bombs are refused."""

import pytest

from sublet.workload.deploy.fault import Findings
from sublet.workload.deploy.tree import (
    DEPTH_MAX,
    FILE_BYTES_MAX,
    Mapping,
    Scalar,
    Sequence,
    read_tree,
)


def read(text: str | bytes) -> tuple[Mapping | None, Findings]:
    found = Findings("f.yaml")
    raw = text if isinstance(text, bytes) else text.encode()
    return read_tree(raw, found), found


def test_keeps_texts_and_lines() -> None:
    tree, found = read("a: 1.10\nb:\n  - 'on'\n  - {c: ~}\n")
    assert tree is not None and not found.faults
    assert tree.entries["a"] == Scalar(1, "1.10", True)
    items = tree.entries["b"]
    assert isinstance(items, Sequence) and items.items[0] == Scalar(3, "on", False)
    assert found.lines["b", 1, "c"] == 4


def test_alias_and_merge_are_followed() -> None:
    tree, found = read("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz: *x\n")
    assert tree is not None and not found.faults
    values = {
        key: {name: node.text for name, node in tree.entries[key].entries.items()}
        for key in "xyz"
    }
    assert values == {
        "x": {"a": "1", "b": "2"},
        "y": {"b": "3", "a": "1"},
        "z": {"a": "1", "b": "2"},
    }


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)

REFUSED = [
    (BOMB, 5, "aliases counted"),
    ("a: &a [*a]\n", 1, "before it is whole"),
    ("a: " + "[" * 100_000, 1, f"deeper than {DEPTH_MAX}"),
    ("a: 1\nb: 2\na: 3\n", 3, "second time (first in line 1)"),
    ("a: 1\n---\nb: 2\n", 2, "several documents"),
    ("a: !!python/object/apply:os.system [id]\n", 1, "has the tag"),
    ("- a\n", 1, "is not a mapping"),
    ("", 1, "is empty"),
    ("a: [1\nb: 2\n", 2, "is not YAML"),
    ("a: 1\n\tb: 2\n", 2, "is not YAML"),
    ("a: \x00\n", 1, "is not YAML"),
    (b"a: 1\nb: \xff\n", 2, "is not UTF-8"),
    ("? [a]\n: 1\n", 1, "key that is no text"),
    ("a: &k b\n*k : 1\n", 2, "alias for a key"),
    ("a:\n  <<: 5\n", 2, "merges what is no mapping"),
    (b"#" * (FILE_BYTES_MAX + 1), 1, "bytes"),
]


@pytest.mark.parametrize(("text", "line", "words"), REFUSED)
def test_refuses_with_the_line(text: str | bytes, line: int, words: str) -> None:
    _, found = read(text)
    [fault] = found.faults
    assert (fault.line, fault.code) == (line, "bad_yaml")
    assert words in fault.problem and fault.cure
