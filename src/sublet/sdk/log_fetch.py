"""Raw bytes from a node's log API, bounded; foreign exceptions end here."""

from http import HTTPStatus

import aiohttp

from sublet.base.errors import PeerFault, Unavailable
from sublet.sdk.exchange import ask_market, read_answer

ANSWER_BYTES_MAX = 64 * 1024 * 1024


async def fetch_log(http: aiohttp.ClientSession, url: str, path: str) -> bytes:
    """Fetch one answer.

    Raises:
        Unavailable: nobody answers, or cannot just now.
        Refused: what the node says it refuses.
        PeerFault: the answer is longer than any can be.
    """
    parts, size = [], 0
    try:
        async with http.get(url + path, allow_redirects=False) as answer:
            async for part in answer.content.iter_any():
                size += len(part)
                if size > ANSWER_BYTES_MAX:
                    raise PeerFault(
                        "the market's answer is too long", code="bad_answer"
                    )
                parts.append(part)
            status = answer.status
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"no market answers at {url} ({str(error)[:200]})",
            code="market_unreachable",
        ) from error
    body = b"".join(parts)
    if status != HTTPStatus.OK:
        read_answer(ask_market(), status=status, body=body)  # raises what it says
    return body
