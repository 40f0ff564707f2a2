"""Answers: structs as JSON, bytes as they are."""

from aiohttp import web
from msgspec import Struct

from sublet.wire.codec import encode


def answer_json(value: Struct) -> web.Response:
    """Answer with a message."""
    return web.Response(body=encode(value), content_type="application/json")


def answer_text(text: str) -> web.Response:
    """Answer with plain text."""
    return web.Response(text=text, content_type="text/plain", charset="utf-8")


def answer_bytes(content: bytes, *, kind: str) -> web.Response:
    """Answer with bytes of this media type."""
    return web.Response(body=content, content_type=kind)
