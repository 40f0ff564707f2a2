"""Following a market: pages of entries over real HTTP, trouble told once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from sublet.console import screen
from sublet.console.picture import EventLine
from sublet.console.watch import Watch
from sublet.core.document import Entry
from sublet.wire.codec import DocumentCodec
from tests.unit.core.book.world import World

PAGE = 2  # entries in one answer of the test's node


@contextmanager
def serving(bodies: list[bytes], *, status: int = 200) -> Iterator[str]:
    """Serve a log as a node does, a few entries at a time."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            first = int(parse_qs(urlsplit(self.path).query)["first"][0])
            page = b"".join(body + b"\n" for body in bodies[first : first + PAGE])
            self.send_response(status)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def log_of_a_market() -> list[bytes]:
    """Write the log of a small market: five entries and more."""
    world = World()
    world.add_credit()
    world.add_provider(machine="rig-1")
    codec = DocumentCodec()
    return [codec.write_entry(Entry(fact, bytes(65))) for fact in world.facts]


def test_catches_up_page_by_page() -> None:
    bodies = log_of_a_market()
    assert len(bodies) > PAGE
    with serving(bodies) as url:
        watch = Watch(url=url)
        events = screen.catch_up(watch)
        assert watch.size == len(bodies)
        assert "rig-1 is offered" in [event.text for event in events]
        assert screen.catch_up(watch) == []


def test_answer_of_trouble_is_no_entry() -> None:
    with (
        serving(log_of_a_market(), status=503) as url,
        pytest.raises(HTTPException, match="503"),
    ):
        screen.read_entries(url, first=0)


def test_silence_is_told_and_survived() -> None:
    said: list[tuple[list[EventLine], str]] = []

    class Enough(Exception):
        """The test has seen what it came for."""

    def show(events: list[EventLine], trouble: str) -> None:
        said.append((events, trouble))
        if len(said) == 2:
            raise Enough

    with serving([]) as url:
        gone = url
    with pytest.raises(Enough):
        screen.follow(Watch(url=gone), show=show)
    assert all("no answer from" in trouble for _, trouble in said)
