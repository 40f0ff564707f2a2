"""The name that a TLS client asks for, read from its first message. Pure.

A proxy that lets a client speak TLS to "the registry" at a shared content network
would let it speak to every customer of that network; so the name is compared.
"""

from sublet.base.errors import PeerFault

RECORD_HEADER_BYTES = 5
RECORD_BYTES_MAX = 16_384  # of one record's content, as TLS has it
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0


def read_length(header: bytes) -> int:
    """Read how long the record after this header is.

    Raises:
        PeerFault: not TLS, or longer than TLS allows.
    """
    length = int.from_bytes(header[3:5], "big")
    if header[0] != _HANDSHAKE or header[1] != 3 or length > RECORD_BYTES_MAX:
        raise PeerFault("the client does not speak TLS", code="not_tls")
    return length


def read_server_name(record: bytes) -> str:
    """Read the server name (SNI) of a client hello, in lower case.

    Args:
        record: the content of the first record, without its header.

    Raises:
        PeerFault: it is no whole client hello, or names nobody.
    """
    try:
        hello = _Cursor(record)
        if hello.number(1) != _CLIENT_HELLO:
            raise PeerFault("not a client hello", code="not_tls")
        hello = _Cursor(hello.block(3))
        hello.take(2 + 32)  # version, random
        for size in (1, 2, 1):  # session, cipher suites, compression
            hello.block(size)
        extensions = _Cursor(hello.block(2))
        while extensions.left():
            kind, content = extensions.number(2), extensions.block(2)
            if kind == _SERVER_NAME:
                names = _Cursor(_Cursor(content).block(2))
                if names.number(1) == _HOST_NAME:
                    return names.block(2).decode("ascii").lower()
    except (EOFError, UnicodeDecodeError) as error:
        raise PeerFault("the client hello is broken", code="not_tls") from error
    raise PeerFault("the client names no server", code="no_server_name")


class _Cursor:
    """Reads numbers and length-prefixed blocks; EOFError where there is no more."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def left(self) -> int:
        return len(self._content) - self._at

    def take(self, size: int) -> bytes:
        if self.left() < size:
            raise EOFError
        self._at += size
        return self._content[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size: int) -> bytes:
        return self.take(self.number(size))
