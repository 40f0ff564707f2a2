"""The nodes of one market, as a client knows them: which one it talks to, and the others.

Pure: nothing is opened here. All nodes of a market say the same, so a client stays
with one until that does not answer, and then turns to the next.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from sublet.base.errors import Refused

NODES_MAX = 16  # of one market that a client remembers


def parse_url(text: str) -> str:
    """Read a market's address: http or https, a host, nothing behind it.

    Raises:
        Refused: something else.

    >>> parse_url("http://127.0.0.1:8470/")
    'http://127.0.0.1:8470'
    """
    try:
        parts = urlsplit(text.strip())
        is_plain = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise _refuse(text) from None
    rest = (parts.path.strip("/"), parts.query, parts.fragment, parts.username)
    # Spaces and control characters would be cut off, or shown, later.
    is_plain &= parts.netloc.isprintable() and " " not in parts.netloc
    if parts.scheme not in ("http", "https") or not is_plain or any(rest):
        raise _refuse(text)
    return f"{parts.scheme}://{parts.netloc}"


def _refuse(text: str) -> Refused:
    return Refused(
        f"--market: {text[:200]!r} is not a market's address; write it like "
        "http://127.0.0.1:8470",
        code="bad_market",
        field="--market",
    )


def parse_urls(text: str) -> tuple[str, ...]:
    """Read the addresses of one market's nodes, with commas between them.

    Raises:
        Refused: one of them is none, or there are too many.

    >>> parse_urls("http://a:1, http://b:2/")
    ('http://a:1', 'http://b:2')
    """
    urls = tuple(dict.fromkeys(parse_url(part) for part in text.split(",")))
    if len(urls) > NODES_MAX:
        raise Refused(
            f"--market: {len(urls)} addresses are too many; give at most {NODES_MAX}",
            code="bad_market",
            field="--market",
        )
    return urls


class Nodes:
    """Where one client turns to."""

    def __init__(self, urls: Iterable[str]) -> None:
        """Begin with the first of these."""
        self._urls = list(dict.fromkeys(urls))

    def __len__(self) -> int:
        """Count the nodes that are known."""
        return len(self._urls)

    @property
    def current(self) -> str:
        """The address that is talked to now."""
        return self._urls[0]

    def move(self, *, away_from: str) -> None:
        """Turn to the next, unless somebody has already turned away from this one."""
        if self.current == away_from:
            self._urls.append(self._urls.pop(0))

    def learn(self, urls: Iterable[str]) -> tuple[str, ...]:
        """Take what a market announces; give all that is known now.

        What is no address is passed over: a market cannot break its clients by it.
        """
        for text in urls:
            try:
                url = parse_url(text)
            except Refused:
                continue
            if url not in self._urls and len(self._urls) < NODES_MAX:
                self._urls.append(url)
        return tuple(self._urls)
