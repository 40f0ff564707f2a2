"""From errors to HTTP: which status a refusal has, and its body.

The one place where a node turns an error into a status code.
"""

from aiohttp import web

from sublet.base.errors import (
    Broken,
    Faults,
    PeerFault,
    Refused,
    SubletError,
    Unavailable,
)
from sublet.wire.codec import encode
from sublet.wire.message import Fault
from sublet.wire.request import Unauthorized

FAULT_HEADER = "Sublet-Fault"  # a WebSocket client never sees the body


class Forbidden(Refused):
    """This is not yours to see or do; use the key that it belongs to."""

    code = "forbidden"


class NotFound(Refused):
    """There is no such thing here; check the id and the market."""

    code = "not_found"


class Conflict(Refused):
    """The state of things does not allow this now; look at it again, then decide."""

    code = "conflict"


class TooLarge(Refused):
    """The request is too large; send less at a time."""

    code = "too_large"


class TooMany(Refused):
    """Too many requests; wait, then try again."""

    code = "too_many_requests"


_STATUS_OF_TYPE: dict[type[SubletError], int] = {
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    TooMany: 429,
    Refused: 400,
    PeerFault: 400,
    Unavailable: 503,
    Broken: 500,
}

# Refusals of the book and of the codec, where 400 would say too little.
_STATUS_OF_CODE: dict[str, int] = {
    "no_match": 409,
    "insufficient_credit": 409,
    "too_large": 413,
    "unknown_lease": 404,
    "unknown_offer": 404,
    "unavailable": 503,
}


def status_of(error: SubletError) -> int:
    """Find the HTTP status of an error."""
    if error.code in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[error.code]
    for kind in type(error).__mro__:
        if kind in _STATUS_OF_TYPE:
            return _STATUS_OF_TYPE[kind]
    return 500


def fault_of(error: SubletError) -> Fault:
    """Write an error as the body of an answer."""
    detail = dict(error.detail)
    if isinstance(error, Faults):
        detail["faults"] = len(error.faults)
    return Fault(
        code=error.code,
        message=error.message,
        field=error.field,
        retry_after_s=getattr(error, "retry_after_s", 0),
        detail=detail,
    )


def answer_fault(fault: Fault, *, status: int) -> web.Response:
    """Make the HTTP answer of a fault."""
    headers = {FAULT_HEADER: fault.code}
    if status in (429, 503):
        headers["Retry-After"] = str(fault.retry_after_s or 1)
    if status == 401:
        headers["WWW-Authenticate"] = "Sublet"
    return web.Response(
        body=encode(fault),
        status=status,
        headers=headers,
        content_type="application/json",
    )
