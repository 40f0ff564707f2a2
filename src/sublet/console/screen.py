"""Follow a market live: fetch its entries, fold them, draw or print.

Reads the public log of a node and nothing else. On a terminal it draws; elsewhere it
prints one line per event.
"""

import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NoReturn
from urllib.parse import urlsplit

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from sublet.base import limits
from sublet.console.drawing import draw, format_event
from sublet.console.picture import EventLine
from sublet.console.watch import Watch

PAUSE_S = 0.5  # between two looks
TIMEOUT_S = 10.0

Show = Callable[[list[EventLine], str], None]


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


def follow(
    watch: Watch, *, show: Show, check: Callable[[], None] = lambda: None
) -> NoReturn:
    """Look again and again; never returns."""
    while True:
        trouble, events = "", []
        try:
            events = catch_up(watch)
        except (OSError, HTTPException) as error:
            trouble = f"no answer from {watch.url} ({error}); still trying"
        show(events, trouble)
        check()
        time.sleep(PAUSE_S)


def follow_live(
    watch: Watch,
    *,
    console: Console,
    foot: RenderableType = "",
    is_plain: bool = False,
    check: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Show a market until somebody interrupts or ``check`` raises; never returns.

    Args:
        watch: what was folded so far.
        console: a terminal or not.
        foot: stands under the picture.
        is_plain: print lines even on a terminal.
        check: called at each look.
    """
    if console.is_terminal and not is_plain:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            follow(watch, show=_drawing(watch, live, foot), check=check)
    follow(watch, show=_printing(), check=check)


def _drawing(watch: Watch, live: Live, foot: RenderableType) -> Show:
    def show(events: list[EventLine], trouble: str) -> None:
        del events  # the picture remembers them
        picture = draw(watch.picture(now_s=int(time.time())))
        live.update(Group(picture, Text(trouble, "red"), foot), refresh=True)

    return show


def _printing() -> Show:
    told = ""

    def show(events: list[EventLine], trouble: str) -> None:
        nonlocal told
        for event in events:
            sys.stdout.write(format_event(event) + "\n")
        if trouble and trouble != told:
            sys.stderr.write(trouble + "\n")
        told = trouble
        sys.stdout.flush()

    return show
