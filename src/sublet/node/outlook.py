"""What an (unsigned) order may expect: looked for beside the market."""

from aiohttp import web

from sublet.base import limits
from sublet.core.document import Order
from sublet.node.answer import answer_json
from sublet.node.intake import read_body
from sublet.node.state import Node
from sublet.wire.codec import decode


async def post_outlook(node: Node, request: web.Request) -> web.StreamResponse:
    """Say when this order would begin, and when its work would be done."""
    body = await read_body(node, request)
    order = decode(body, Order, size_max=limits.DOCUMENT_BYTES_MAX)
    return answer_json(await node.lookout.look_ahead(order))
