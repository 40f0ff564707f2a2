"""``python -m sublet.console``: a market, live, in a terminal.

Reads the public log of a node and nothing else. On a terminal it draws; elsewhere it
prints one line per event.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sublet.base import limits
from sublet.base.errors import SubletError
from sublet.console.drawing import draw, format_event
from sublet.console.picture import EventLine
from sublet.console.watch import Watch

PAUSE_S = 0.5  # between two looks
TIMEOUT_S = 10.0


def read_entries(url: str, *, first: int) -> list[bytes]:
    """Fetch a page of entries.

    Raises:
        OSError, HTTPException: nobody answers, or nobody sensible.
    """
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.netloc, timeout=TIMEOUT_S)
    try:
        limit = limits.PAGE_ENTRIES_MAX
        connection.request("GET", f"/v1/log/entries?first={first}&limit={limit}")
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise HTTPException(f"the node answered {answer.status}")
    return body.splitlines()


def catch_up(watch: Watch) -> list[EventLine]:
    """Fold everything that the node has; give what happened."""
    events: list[EventLine] = []
    while page := read_entries(watch.url, first=watch.size):
        for body in page:
            events += watch.take(body)
    return events


def follow(watch: Watch, *, show: Callable[[list[EventLine], str], None]) -> None:
    """Look again and again; never returns."""
    while True:
        trouble, events = "", []
        try:
            events = catch_up(watch)
        except (OSError, HTTPException) as error:
            trouble = f"no answer from {watch.url} ({error}); still trying"
        show(events, trouble)
        time.sleep(PAUSE_S)


def main(argv: Sequence[str] | None = None) -> int:
    """Follow a market until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="sublet console")
    parser.add_argument("--market", default="http://127.0.0.1:8470")
    parser.add_argument(
        "--plain", action="store_true", help="lines, even on a terminal"
    )
    wish = parser.parse_args(argv)
    watch = Watch(url=wish.market.rstrip("/"))
    console = Console(highlight=False)
    try:
        if console.is_terminal and not wish.plain:
            _draw(watch, console)
        else:
            _print(watch)
    except KeyboardInterrupt:
        return 0
    except SubletError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


def _draw(watch: Watch, console: Console) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(events: list[EventLine], trouble: str) -> None:
            del events  # the picture remembers them
            if trouble:
                live.update(Text(trouble, style="red"), refresh=True)
            else:
                picture = watch.picture(now_s=int(time.time()))
                live.update(draw(picture), refresh=True)

        follow(watch, show=show)


def _print(watch: Watch) -> None:
    told = ""

    def show(events: list[EventLine], trouble: str) -> None:
        nonlocal told
        for event in events:
            sys.stdout.write(format_event(event) + "\n")
        if trouble and trouble != told:
            sys.stderr.write(trouble + "\n")
        told = trouble
        sys.stdout.flush()

    follow(watch, show=show)


if __name__ == "__main__":
    sys.exit(main())
