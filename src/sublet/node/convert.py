"""Quotes for tokens, where the operator is a maker."""

from aiohttp import web

from sublet.base import limits
from sublet.node.answer import answer_json
from sublet.node.intake import read_body, read_caller
from sublet.node.refusal import Forbidden
from sublet.node.state import Node
from sublet.wire.codec import decode
from sublet.wire.exchange import QuoteWish


async def post_convert_quote(node: Node, request: web.Request) -> web.StreamResponse:
    """Say what the caller's tokens are given for, into its channel to a provider."""
    caller = await read_caller(node, request)
    if node.maker is None:
        raise Forbidden(
            "this node gives no dollars for tokens; deposit the market's dollar token, "
            "or ask its operator",
            code="no_maker",
        )
    body = await read_body(node, request)
    wish = decode(body, QuoteWish, size_max=limits.DOCUMENT_BYTES_MAX)
    return answer_json(await node.maker.quote(caller, wish))
