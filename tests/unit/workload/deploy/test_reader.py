"""Reading a tree as a type: what fits, what does not, and holes."""

from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct, field

from sublet.workload.deploy.fault import FAULTS_MAX, Findings
from sublet.workload.deploy.reader import Reader
from sublet.workload.deploy.tree import read_tree


class Inner(Struct, frozen=True):
    """A part."""

    count: Annotated[int, Meta(ge=1, le=5, extra={"cure": "count from 1 to 5"})]
    ratio: float = 1.0


class Outer(Struct, frozen=True):
    """All that the reader knows."""

    name: str
    inner: Inner
    kind: Literal["a", "b"] = "a"
    is_on: bool = field(name="on", default=False)
    texts: tuple[str, ...] | None = None
    sizes: dict[str, int] | None = None
    either: Inner | tuple[Inner, ...] | str | None = None


def read(text: str, *, is_open: bool = False) -> tuple[Outer, Findings]:
    found = Findings("f.yaml")
    tree = read_tree(text.encode(), found)
    assert tree is not None
    reader = Reader(found, habits={"old": "write new:"}, is_open=is_open)
    return reader.read(tree, Outer), found


SOUND = "name: 1.10\ninner: {count: 2, ratio: .5}\n"


def test_reads_every_kind() -> None:
    text = SOUND + "kind: b\non: yes\ntexts: [a, 1]\nsizes: {x: 3}\neither: s\n"
    got, found = read(text)
    assert not found.faults
    assert got == Outer("1.10", Inner(2, 0.5), "b", True, ("a", "1"), {"x": 3}, "s")


def test_union_goes_by_the_form() -> None:
    assert read(SOUND + "either: {count: 1}\n")[0].either == Inner(1)
    assert read(SOUND + "either: [{count: 1}]\n")[0].either == (Inner(1),)


def test_empty_value_is_no_value() -> None:
    got, found = read(SOUND + "kind:\ntexts: ~\non: null\n")
    assert not found.faults and got.kind == "a" and got.texts is None


@pytest.mark.parametrize(
    ("text", "key", "cure"),
    [
        ("inner: {count: 2}\n", "name", "add name: a text"),
        ("name:\ninner: {count: 2}\n", "name", "add name: a text"),
        ("name: [a]\ninner: {count: 2}\n", "name", "write a text"),
        ("name: a\ninner: {count: 9}\n", "inner.count", "count from 1 to 5"),
        ("name: a\ninner: {count: '2'}\n", "inner.count", "count from 1 to 5"),
        ("name: a\ninner: {}\n", "inner.count", "count from 1 to 5"),
        (SOUND + "kind: c\n", "kind", "write one of a, b"),
        (SOUND + "on: maybe\n", "on", "true or false"),
        (SOUND + "texts: {a: b}\n", "texts", "a list"),
        (SOUND + "sizes: {x: y}\n", "sizes.x", "a whole number"),
        (SOUND + "kindd: a\n", "kindd", "did you mean kind?"),
        (SOUND + "old: a\n", "old", "write new:"),
        (SOUND + "x-mine: a\n", "x-mine", "remove it; known here: name"),
    ],
)
def test_tells_key_and_cure(text: str, key: str, cure: str) -> None:
    _, found = read(text)
    [fault] = found.faults
    assert fault.key == key and cure in fault.cure


def test_own_keys_may_be_passed_over() -> None:
    assert not read(SOUND + "x-mine: a\n", is_open=True)[1].faults


def test_faults_have_an_end() -> None:
    many = "".join(f"k{n}: 1\n" for n in range(FAULTS_MAX + 50))
    assert len(read(SOUND + many)[1].faults) == FAULTS_MAX
