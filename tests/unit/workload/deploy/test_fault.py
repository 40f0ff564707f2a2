"""Faults of a file: sorted by line, one of each key, safe to show."""

import pytest

from sublet.base.errors import Faults
from sublet.workload.deploy.fault import Findings


def test_inner_fault_of_a_faulty_key_is_not_told() -> None:
    found = Findings("f.yaml")
    found.lines.update({("a",): 7, ("b",): 3})
    found.add(("a",), "is wrong", "mend it", code="bad_value")
    found.add(("a", 0, "c"), "is wrong", "mend it", code="bad_value")
    found.add(("b",), "is wrong", "mend it", code="bad_value")
    with pytest.raises(Faults) as caught:
        found.check()
    assert caught.value.message == (
        "f.yaml:3: b: is wrong; mend it\nf.yaml:7: a: is wrong; mend it"
    )


def test_line_is_that_of_the_nearest_key_around() -> None:
    found = Findings("f.yaml")
    found.lines["a",] = 7
    assert found.find_line(("a", "b", 0)) == 7
    assert found.find_line(("x",)) == 1


def test_what_a_file_says_cannot_move_a_cursor() -> None:
    found = Findings("f.yaml")
    found.add(("a\x1b[2J" + "x" * 200,), "is wrong", "mend it", code="bad_value")
    [fault] = found.faults
    assert fault.key.isprintable() and len(fault.key) == 60


def test_nothing_wrong_raises_nothing() -> None:
    Findings("f.yaml").check()
