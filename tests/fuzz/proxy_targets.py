"""What a job says to the way out: plain HTTP, CONNECT, SOCKS5, TLS."""

import asyncio
from typing import cast

from sublet.adapter.client_hello import read_length, read_server_name
from sublet.adapter.egress_proxy import _read_header, _read_socks
from sublet.adapter.egress_request import Denied, parse_http, parse_socks
from tests.fuzz.target import target
from tests.unit.adapter.test_client_hello import hello

_LOOP = asyncio.new_event_loop()


class _Deaf:
    """The other end of a client that reads nothing."""

    def write(self, content: bytes) -> None:
        """Take it."""


def _stream(raw: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(loop=_LOOP)
    reader.feed_data(raw)
    reader.feed_eof()
    return reader


@target(
    "proxy_http",
    seeds=[
        b"CONNECT pypi.org:443 HTTP/1.1\r\nHost: pypi.org\r\n\r\n",
        b"GET http://a.org:81/x?y HTTP/1.1\r\nHost: b\r\nRange: 1\r\n\r\n",
        b"POST http://a.org/ HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
    ],
    words=[b"\r\n", b"\r\nHost: x", b"\r\nContent-Length: 1", b"http://", b"\t", b"\0"],
    answers=(Denied, asyncio.IncompleteReadError),
)
def _proxy_http(raw: bytes) -> None:
    first, rest = raw[:1], _stream(raw[1:])
    ask = parse_http(first + _LOOP.run_until_complete(_read_header(rest)))
    lines = ask.head.split(b"\r\n")
    if ask.head:
        hosts = [line for line in lines if line[:5].lower() == b"host:"]
        assert len(hosts) == 1 and ask.head.endswith(b"\r\n\r\n")
        assert not any(b"\r" in line or b"\n" in line for line in lines)
        assert ask.head.count(b"\r\n\r\n") == 1


@target(
    "proxy_socks",
    seeds=[
        b"\x01\x00\x05\x01\x00\x03\x08pypi.org\x01\xbb",
        b"\x02\x00\x02\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50",
        b"\x01\x00\x05\x01\x00\x04" + bytes(15) + b"\x01\x00\x50",
    ],
    answers=(Denied, asyncio.IncompleteReadError),
)
def _proxy_socks(raw: bytes) -> None:
    writer = cast(asyncio.StreamWriter, _Deaf())
    request = _LOOP.run_until_complete(_read_socks(_stream(raw), writer))
    assert parse_socks(request).target.port


@target("client_hello", seeds=[hello("PyPI.org")], answers=(EOFError,))
def _client_hello(raw: bytes) -> None:
    if len(raw) < 5:
        raise EOFError  # the proxy reads five bytes, or nothing
    name = read_server_name(raw[5 : 5 + read_length(raw[:5])])
    assert name == name.lower()
