"""Reading requests: bodies, queries and path parts, each with its limit."""

import asyncio
import re
from contextlib import suppress

from aiohttp import web

from sublet.base import limits
from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Address, Digest
from sublet.node.refusal import TooLarge
from sublet.node.state import Node

_DIGEST = re.compile(r"\A0x[0-9a-f]{64}\Z")
_COUNT = re.compile(r"\A\d{1,15}\Z")


async def read_body(node: Node, request: web.Request) -> bytes:
    """Read the whole body.

    Raises:
        TooLarge: more than a node reads.
        Refused: compressed, or it came too slowly.
    """
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Refused("send the body uncompressed", code="bad_encoding")
    length = request.content_length
    if length is not None and length > limits.REQUEST_BYTES_MAX:
        raise _too_large()
    try:
        async with asyncio.timeout(node.config.limits.body_s):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except TimeoutError:
        raise Refused("the body came too slowly", code="too_slow") from None


async def read_caller(node: Node, request: web.Request) -> Address:
    """Say who signed this request.

    Raises:
        Unauthorized: nobody did, or not as it must be.
    """
    caller = node.door.admit(
        request.headers.get("Authorization"),
        method=request.method,
        path=request.raw_path,
        body=await read_body(node, request),
        now_s=node.clock.now_s(),
    )
    # What another node acknowledged to this caller is known here, too.
    with suppress(Unavailable):
        await node.market.hear_others()
    return caller


def read_lease_id(request: web.Request) -> Digest:
    """Read the lease's id from the path.

    Raises:
        Refused: it is not an id.
    """
    text = request.match_info["id"]
    if _DIGEST.match(text) is None:
        raise Refused(
            "a lease's id is 0x and 64 lower-case hex digits",
            code="bad_id",
            field="id",
        )
    return text


def read_count(request: web.Request, name: str, *, default: int | None = None) -> int:
    """Read a non-negative whole number from the query.

    Raises:
        Refused: it is something else, or missing without a default.
    """
    text = request.query.get(name)
    if text is None and default is not None:
        return default
    if text is None or _COUNT.match(text) is None:
        raise Refused(
            f"?{name}= must be a whole number from 0 on", code="bad_query", field=name
        )
    return int(text)


def read_page(request: web.Request) -> tuple[int, int]:
    """Read ``first`` and ``limit``; the limit is cut to what one answer holds.

    Raises:
        Refused: one of them is no number.
    """
    first = read_count(request, "first", default=0)
    limit = read_count(request, "limit", default=limits.PAGE_ENTRIES_MAX)
    return first, min(limit, limits.PAGE_ENTRIES_MAX)


def _too_large() -> TooLarge:
    return TooLarge(
        f"the body is larger than {limits.REQUEST_BYTES_MAX} bytes; send less at a time"
    )
