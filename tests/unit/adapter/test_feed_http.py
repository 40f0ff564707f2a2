"""How feeds are asked: small, quick, no detours, and the key stays where it belongs."""

import logging
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from sublet.adapter.feed_coingecko import CoinGeckoFeed
from sublet.adapter.feed_http import (
    ANSWER_BYTES_MAX,
    FeedKey,
    check_url,
    read_key,
)
from sublet.adapter.feed_pyth import PythFeed
from sublet.base.errors import Refused, SubletError
from sublet.service.price_port import FeedDown
from tests.rig.price_server import PriceServer, serve_prices

SECRET = "k3y-that-nobody-may-see"


async def ask(server: PriceServer, *, kind: str = "pyth") -> None:
    async with aiohttp.ClientSession() as http:
        key = FeedKey(SECRET)
        if kind == "pyth":
            feed = PythFeed(http, url=server.url, ids={"T": "ab" * 32}, key=key)
            await feed.read(["T"], at_s=1)
        else:
            other = CoinGeckoFeed(http, url=server.url, ids={"T": "t"}, key=key)
            await other.read(["T"], at_s=1)


ANSWERS = [
    # an answer: the code that it comes to
    (web.Response(status=429), "feed_busy"),
    (web.Response(status=401), "feed_refused"),
    (web.Response(status=403), "feed_refused"),
    (web.Response(status=500), "feed_down"),
    (
        web.Response(status=302, headers={"Location": "/v2/updates/price/latest"}),
        "feed_down",
    ),
    (web.Response(body=b"{" * (ANSWER_BYTES_MAX + 1)), "bad_price"),
    (web.Response(body=b"\xff\xfe"), "bad_price"),
    (web.Response(body=b"", headers={"Content-Encoding": "gzip"}), "bad_price"),
]


@pytest.mark.parametrize("number", range(len(ANSWERS)))
async def test_tells_what_went_wrong(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer, code = ANSWERS[number]
    caplog.set_level(logging.DEBUG)
    async with serve_prices() as server:
        server.answer = answer
        with pytest.raises(SubletError) as caught:
            await ask(server)
        assert len(server.seen) == 1  # no detour
    assert caught.value.code == code
    assert SECRET not in caplog.text + repr(caught.value) + str(caught.value.detail)


async def test_says_how_long_a_busy_feed_wants_to_rest() -> None:
    for told, retry_after_s in [("60", 60), ("999999", 3_600), ("soon", 0)]:
        async with serve_prices() as server:
            server.answer = web.Response(status=429, headers={"Retry-After": told})
            with pytest.raises(SubletError) as caught:
                await ask(server, kind="coingecko")
        assert getattr(caught.value, "retry_after_s") == retry_after_s  # noqa: B009


@pytest.mark.parametrize(
    ("kind", "header", "value"),
    [
        ("pyth", "Authorization", f"Bearer {SECRET}"),
        ("coingecko", "x-cg-demo-api-key", SECRET),
    ],
)
async def test_key_goes_into_its_header_alone(
    kind: str, header: str, value: str
) -> None:
    async with serve_prices() as server:
        await ask(server, kind=kind)
        (request,) = server.seen
    assert request.headers[header] == value
    assert SECRET not in str(request.rel_url)
    assert SECRET not in repr(FeedKey(SECRET))


async def test_nobody_there_is_a_feed_that_is_down() -> None:
    async with serve_prices() as server:
        gone = server.url
    async with aiohttp.ClientSession() as http:
        feed = PythFeed(http, url=gone, ids={"T": "ab" * 32})
        with pytest.raises(FeedDown):
            await feed.read(["T"], at_s=1)


@pytest.mark.parametrize(
    "content", [b"", b"two words", b"a\r\nb", b"\xff", b"x" * 2_000]
)
def test_refuses_a_file_without_a_key(content: bytes, tmp_path: Path) -> None:
    place = tmp_path / "key"
    place.write_bytes(content)
    with pytest.raises(Refused) as caught:
        read_key(place)
    assert caught.value.code == "bad_feed_key"
    with pytest.raises(Refused):
        read_key(tmp_path / "missing")


def test_reads_a_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\n")
    assert read_key(tmp_path / "key").reveal() == SECRET


URLS = [
    ("https://api.coingecko.com/api/v3/", True),
    ("http://127.0.0.1:8080", True),
    ("http://[::1]:8080/x", True),
    ("http://localhost", True),
    ("http://api.coingecko.com", False),  # anybody on the way would read the key
    ("http://127.0.0.1.example.org", False),
    ("https://user:word@example.org", False),
    ("ftp://example.org", False),
    ("https://", False),
    ("", False),
    ("https://[::1", False),
]


@pytest.mark.parametrize(("url", "is_good"), URLS)
def test_takes_addresses_that_nobody_overhears(url: str, is_good: bool) -> None:
    if is_good:
        assert check_url(url, field="pyth.url") == url.rstrip("/")
    else:
        with pytest.raises(Refused):
            check_url(url, field="pyth.url")
