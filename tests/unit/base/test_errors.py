"""Errors: a code that stays, a message that cures, plain values."""

import pytest

from sublet.base.errors import (
    Broken,
    Faults,
    PeerFault,
    Refused,
    SubletError,
    Unavailable,
)

BRANCHES = [
    (Refused, "refused"),
    (Unavailable, "unavailable"),
    (PeerFault, "peer_fault"),
    (Broken, "broken"),
]


@pytest.mark.parametrize(("kind", "code"), BRANCHES)
def test_docstring_is_the_default_message(kind: type[SubletError], code: str) -> None:
    error = kind()
    assert error.code == code
    assert error.message == str(error) == (kind.__doc__ or "").splitlines()[0]
    assert (error.field, error.detail) == ("", {})


@pytest.mark.parametrize(("kind", "code"), BRANCHES)
def test_branches_are_distinct(kind: type[SubletError], code: str) -> None:
    assert issubclass(kind, SubletError)
    others = [other for other, _ in BRANCHES if other is not kind]
    assert not any(issubclass(kind, other) for other in others)


def test_error_takes_what_is_said() -> None:
    error = Refused("too large", code="too_large", field="--memory", detail={"most": 7})
    assert (str(error), error.code, error.field) == (
        "too large",
        "too_large",
        "--memory",
    )
    assert error.detail == {"most": 7}


def test_detail_is_a_copy() -> None:
    detail: dict[str, str | int] = {"most": 7}
    error = Refused("x", detail=detail)
    detail["most"] = 8
    assert error.detail == {"most": 7}


def test_subclass_brings_its_code_and_text() -> None:
    class NoMatch(Refused):
        """Nobody offers this; ask for less."""

        code = "no_match"

    assert NoMatch().code == "no_match"
    assert NoMatch().message == "Nobody offers this; ask for less."
    assert NoMatch(code="other").code == "other"


def test_unavailable_says_when_to_retry() -> None:
    assert Unavailable().retry_after_s == 0
    assert Unavailable("busy", retry_after_s=5).retry_after_s == 5


def test_faults_list_all_of_them() -> None:
    first, second = Refused("one", field="a"), PeerFault("two")
    faults = Faults([first, second])
    assert faults.faults == (first, second)
    assert faults.message == "one\ntwo"
    assert faults.code == "faults"
    assert isinstance(faults, Refused)
