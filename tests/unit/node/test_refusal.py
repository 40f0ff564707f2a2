"""Errors as HTTP: the status says who must act, the body what is wrong."""

import msgspec
import pytest

from sublet.base.errors import (
    Broken,
    Faults,
    PeerFault,
    Refused,
    SubletError,
    Unavailable,
)
from sublet.node.refusal import (
    FAULT_HEADER,
    Conflict,
    Forbidden,
    NotFound,
    TooLarge,
    TooMany,
    answer_fault,
    fault_of,
    status_of,
)
from sublet.wire.request import Unauthorized

STATUSES: tuple[tuple[SubletError, int], ...] = (
    (Refused("no"), 400),
    (PeerFault("no"), 400),
    (Unauthorized("who"), 401),
    (Forbidden(), 403),
    (NotFound(), 404),
    (Refused("no", code="unknown_lease"), 404),  # by its code
    (Conflict(), 409),
    (Refused("no", code="no_match"), 409),
    (TooLarge(), 413),
    (PeerFault("no", code="too_large"), 413),
    (TooMany(), 429),
    (Broken("fell"), 500),
    (SubletError("vague"), 500),
    (Unavailable("later"), 503),
)


@pytest.mark.parametrize(("error", "status"), STATUSES)
def test_status_follows_the_branch(error: SubletError, status: int) -> None:
    assert status_of(error) == status


def test_fault_carries_all_but_objects() -> None:
    error = Unavailable(
        "later", code="busy", field="f", detail={"n": 1}, retry_after_s=7
    )
    fault = fault_of(error)
    assert (fault.code, fault.message, fault.field) == ("busy", "later", "f")
    assert (fault.retry_after_s, fault.detail) == (7, {"n": 1})


def test_several_faults_are_all_told() -> None:
    fault = fault_of(Faults([Refused("one"), Refused("two")]))
    assert fault.message == "one\ntwo"
    assert fault.detail == {"faults": 2}


@pytest.mark.parametrize(
    ("status", "header", "value"),
    [
        (503, "Retry-After", "7"),
        (429, "Retry-After", "7"),
        (401, "WWW-Authenticate", "Sublet"),
    ],
)
def test_answer_says_what_to_do(status: int, header: str, value: str) -> None:
    fault = fault_of(Unavailable("later", code="busy", retry_after_s=7))
    answer = answer_fault(fault, status=status)
    assert answer.headers[header] == value
    assert answer.headers[FAULT_HEADER] == "busy"
    assert isinstance(answer.body, bytes)
    assert msgspec.json.decode(answer.body)["code"] == "busy"
