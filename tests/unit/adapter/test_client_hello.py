"""The name in a client hello: real ones from OpenSSL, and broken ones."""

import ssl

import pytest

from sublet.adapter.client_hello import (
    RECORD_HEADER_BYTES,
    read_length,
    read_server_name,
)
from sublet.base.errors import PeerFault


def hello(name: str | None) -> bytes:
    """Let OpenSSL write the first message of a TLS client."""
    context = ssl.create_default_context()
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def test_reads_the_name_of_a_real_hello() -> None:
    message = hello("PyPI.org")
    header, record = message[:RECORD_HEADER_BYTES], message[RECORD_HEADER_BYTES:]
    assert read_length(header) == len(record)
    assert read_server_name(record) == "pypi.org"


def test_refuses_a_hello_without_name() -> None:
    with pytest.raises(PeerFault, match="names no server"):
        read_server_name(hello(None)[RECORD_HEADER_BYTES:])


def test_refuses_every_shortened_hello() -> None:
    record = hello("pypi.org")[RECORD_HEADER_BYTES:]
    for length in range(len(record)):
        with pytest.raises(PeerFault):
            read_server_name(record[:length])


HEADERS = {
    "plain HTTP": b"GET /",
    "application data before a handshake": b"\x17\x03\x01\x00\x10",
    "SSL 2": b"\x16\x02\x00\x00\x10",
    "longer than TLS allows": b"\x16\x03\x01\xff\xff",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_refuses_what_is_not_tls(header: bytes) -> None:
    with pytest.raises(PeerFault, match="does not speak TLS"):
        read_length(header)


def test_refuses_another_handshake_message() -> None:
    record = hello("pypi.org")[RECORD_HEADER_BYTES:]
    with pytest.raises(PeerFault, match="not a client hello"):
        read_server_name(b"\x02" + record[1:])
