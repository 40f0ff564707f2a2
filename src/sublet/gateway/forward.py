"""Requests that were paid for go on to the service behind; its answers come back.

Answers that say how long they are, and are short, come back whole, with what was taken
for them; others, such as a model's words as they come, are passed on in pieces.
"""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from sublet.wire import x402

BODY_BYTES_MAX = 64 << 20  # of a request
WHOLE_BYTES_MAX = 4 << 20  # of an answer that is not passed on in pieces
PIECE_BYTES = 64 << 10
CONNECT_S = 10.0
ANSWER_S = 3_600.0  # a long generation
# They are of one connection (RFC 9110), of the length that we say anew, or the gateway's.
_OWN = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        x402.PAYMENT_HEADER.lower(),
        x402.REQUIRED_HEADER.lower(),
        x402.RESPONSE_HEADER.lower(),
    }
)


class Forwarder:
    """Passes requests on to one service. Use it as an async context."""

    def __init__(self, upstream: str) -> None:
        """Take where the service is: ``http://127.0.0.1:8000``."""
        self._upstream = upstream.rstrip("/")
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),  # one payer's are not another's
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """Answer as the service does; 502 where it does not answer: that costs nothing."""
        assert self._http is not None, "use it as an async context"
        if not request.raw_path.startswith("/"):  # a proxy's absolute form, or "*"
            return web.json_response({"error": "ask for a path"}, status=400)
        # Put together as texts: joined as addresses, //host/ would lead elsewhere.
        url = URL(self._upstream + request.raw_path, encoded=True)
        try:
            async with self._http.request(
                request.method,
                url,
                headers=_keep(request.headers),
                data=await request.read(),
                allow_redirects=False,
            ) as answer:
                return await _pass_on(request, answer)
        except (aiohttp.ClientError, TimeoutError):
            return web.json_response(
                {"error": "the service behind this gateway does not answer"}, status=502
            )


async def _pass_on(
    request: web.Request, answer: aiohttp.ClientResponse
) -> web.StreamResponse:
    length = answer.content_length
    headers = _keep(answer.headers)
    if request.method == "HEAD" or (length is not None and length <= WHOLE_BYTES_MAX):
        body = await answer.read()
        return web.Response(status=answer.status, headers=headers, body=body)
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    try:
        async for piece in answer.content.iter_chunked(PIECE_BYTES):
            try:
                await response.write(piece)
            except ConnectionError:
                return response  # the payer hung up; that makes nothing cheaper
    except (aiohttp.ClientError, TimeoutError, asyncio.CancelledError):
        # It has begun; breaking it off is the only way to say that it is not whole.
        if request.transport is not None:
            request.transport.abort()
        raise
    await response.write_eof()
    return response


def _keep(headers: Mapping[str, str]) -> CIMultiDict[str]:
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        if name.lower() not in _OWN:
            kept.add(name, value)
    return kept
