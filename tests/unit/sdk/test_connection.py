"""Addresses of markets; a market that nobody serves."""

import pytest

from sublet.adapter.clock_system import SystemClock
from sublet.base.errors import Refused, Unavailable
from sublet.sdk.connection import Connection
from sublet.sdk.nodes import parse_url
from tests.fakes.world import make_key

URLS = [
    ("http://127.0.0.1:8470", "http://127.0.0.1:8470"),
    ("https://market.example/", "https://market.example"),
    (" http://[::1]:8470 ", "http://[::1]:8470"),
]


@pytest.mark.parametrize(("text", "url"), URLS)
def test_address_is_read(text: str, url: str) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:8470",
        "ftp://x",
        "http://",
        "http://x/path",
        "http://x?y",
        "http://user@x",
        "http://x:0",
        "http://x:99999",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="--market"):
        parse_url(text)


async def test_nobody_there_is_said_with_a_cure() -> None:
    connection = Connection(
        "http://127.0.0.1:9", key=make_key("tenant"), clock=SystemClock()
    )
    async with connection:
        with pytest.raises(Unavailable, match="sublet up"):
            await connection.market()
