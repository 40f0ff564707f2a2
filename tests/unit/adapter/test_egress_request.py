"""What clients of the way out may ask for, and what they may not."""

import pytest

from sublet.adapter.egress_request import Denied, parse_http, parse_socks


def test_reads_connect() -> None:
    ask = parse_http(b"CONNECT [2001:db8::1]:22 HTTP/1.0\r\n\r\n")
    assert (str(ask.target), ask.head, ask.body_bytes) == ("[2001:db8::1]:22", b"", -1)


def test_writes_a_plain_request_anew() -> None:
    ask = parse_http(
        b"GET http://deb.debian.org/pool HTTP/1.1\r\nHost: other\r\nConnection: x\r\n"
        b"Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nRange: bytes=1-\r\n\r\n"
    )
    assert str(ask.target) == "deb.debian.org:80"
    assert ask.body_bytes == 0
    assert ask.head == (
        b"GET /pool HTTP/1.1\r\nHost: deb.debian.org\r\nRange: bytes=1-\r\n"
        b"Connection: close\r\n\r\n"
    )


@pytest.mark.parametrize("path", [b"", b"?q=1"])
def test_a_path_begins_with_a_slash(path: bytes) -> None:
    ask = parse_http(b"GET http://a.org" + path + b" HTTP/1.1\r\n\r\n")
    assert ask.head.startswith(b"GET /" + path + b" HTTP/1.1\r\n")


BAD = {
    "no address": (b"GET / HTTP/1.1\r\n\r\n", "405"),
    "another scheme": (b"GET ftp://a.org/ HTTP/1.1\r\n\r\n", "405"),
    "a user in it": (b"GET http://x@a.org/ HTTP/1.1\r\n\r\n", "405"),
    "a pattern": (b"GET http://*.a.org/ HTTP/1.1\r\n\r\n", "403"),
    "another protocol": (b"GET http://a.org/ SIP/2.0\r\n\r\n", "405"),
    "a folded header": (b"GET http://a.org/ HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n", "400"),
    "a header in a header": (
        b"GET http://a.org/ HTTP/1.1\r\nA: b\nc: d\r\n\r\n",
        "400",
    ),
    "a space before the colon": (
        b"POST http://a.org/ HTTP/1.1\r\nContent-Length : 3\r\n\r\n",
        "400",
    ),
    "two lengths": (
        b"POST http://a.org/ HTTP/1.1\r\nContent-Length: 1\r\n"
        b"Content-Length: 2\r\n\r\n",
        "400",
    ),
    "a strange length": (
        b"POST http://a.org/ HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        "400",
    ),
    "no length": (
        b"POST http://a.org/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "411",
    ),
}


@pytest.mark.parametrize(("header", "status"), BAD.values(), ids=BAD)
def test_refuses_other_requests(header: bytes, status: str) -> None:
    with pytest.raises(Denied) as caught:
        parse_http(header)
    assert caught.value.status[:3] == status
    assert caught.value.http().startswith(b"HTTP/1.1 " + status.encode())


def test_reads_socks() -> None:
    assert str(parse_socks(b"\x05\x01\x00\x03\x05a.org\x00\x16").target) == "a.org:22"
    assert str(parse_socks(b"\x05\x01\x00\x01\x08\x08\x08\x08\x01\xbb").target) == (
        "8.8.8.8:443"
    )
    six = b"\x05\x01\x00\x04" + bytes.fromhex("20010db8" + "0" * 23 + "1") + b"\x00\x50"
    assert str(parse_socks(six).target) == "[2001:db8::1]:80"


@pytest.mark.parametrize(
    "request_",
    [
        b"\x05\x02\x00\x03\x05a.org\x00\x16",  # listen
        b"\x05\x03\x00\x03\x05a.org\x00\x16",  # UDP
        b"\x05\x01\x00\x03\x05a\0.rg\x00\x16",
        b"\x05\x01\x00\x03\x05*.org\x00\x16",
        b"\x05\x01\x00\x03\x05a.org\x00\x00",
    ],
)
def test_refuses_other_socks(request_: bytes) -> None:
    with pytest.raises(Denied):
        parse_socks(request_)
