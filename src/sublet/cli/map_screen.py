"""What a person sees of a map: a bar that lives in a terminal, else plain lines.

Progress goes to standard error; with ``--json`` events go to standard output, an object
a line. Names and words of workers are strangers' and lose what moves a cursor.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from sublet.base.units import format_duration, format_money
from sublet.cli.output import clean
from sublet.core.task.outlook import Outlook
from sublet.workload.map import event
from sublet.workload.map.result import MapResult, TaskResult

if TYPE_CHECKING:
    from rich.live import Live

    from sublet.workload.map.running import RunningMap

LINE_S = 5.0  # between two plain lines
DRAW_S = 0.25
BAR_WIDTH = 60  # columns; fewer in a narrow terminal
STDERR_LINES = 3  # of a failed task, that are shown


class MapScreen:
    """Plain lines, now and then."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self._running: RunningMap | None = None
        self._drawn_s = 0.0

    @contextlib.contextmanager
    def over(self, running: "RunningMap") -> Iterator[None]:
        """Show a map for as long as the context lasts."""
        self._running = running
        try:
            yield
        finally:
            self._running = None

    async def hear(self, said: event.AnyEvent) -> None:
        """Take an event."""
        for line in describe(said):
            self.write(line)
        now_s = time.monotonic()
        if self._running is not None and now_s - self._drawn_s > self.pause_s():
            self._drawn_s = now_s
            self.draw(self._running)

    def pause_s(self) -> float:
        """Give the seconds between two drawings."""
        return LINE_S

    def draw(self, running: "RunningMap") -> None:
        """Show how far it is."""
        self.write(format_outlook(running.look()))

    def write(self, text: str) -> None:
        """Write one line for people."""
        sys.stderr.write(f"sublet: {text}\n")
        sys.stderr.flush()

    def end(self, result: MapResult) -> None:
        """Say what it came to."""
        for line in summarize(result):
            self.write(line)


class LiveScreen(MapScreen):
    """A bar and a line for each worker, drawn over and over."""

    def __init__(self) -> None:
        """Show nothing yet."""
        super().__init__()
        self._live: Live | None = None

    @contextlib.contextmanager
    def over(self, running: "RunningMap") -> Iterator[None]:
        """Show a map for as long as the context lasts."""
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, highlight=False, markup=False)
        live = Live(console=console, auto_refresh=False, transient=True)
        with super().over(running), live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def pause_s(self) -> float:
        """Give the seconds between two drawings."""
        return DRAW_S

    def draw(self, running: "RunningMap") -> None:
        """Draw the bar and the workers."""
        from rich.text import Text

        if self._live is None:
            return
        look = running.look()
        bar = format_bar(look, width=min(self._live.console.size.width, BAR_WIDTH))
        workers = (f"  {line}" for line in running.workers())
        lines = [bar, format_outlook(look), *workers]
        room = max(self._live.console.size.height - 2, 1)
        self._live.update(
            Text("\n".join(lines[:room]), no_wrap=True, overflow="ellipsis"),
            refresh=True,
        )

    def write(self, text: str) -> None:
        """Write one line for people, above the bar."""
        if self._live is None:
            super().write(text)
        else:
            from rich.text import Text

            self._live.console.print(Text(f"sublet: {text}"))


class JsonScreen(MapScreen):
    """An object a line on standard output."""

    async def hear(self, said: event.AnyEvent) -> None:
        """Take an event; the many small moves become a look now and then."""
        if not isinstance(said, event.Moved):
            self._print(msgspec.to_builtins(said))
            return
        now_s = time.monotonic()
        if self._running is not None and now_s - self._drawn_s > 1.0:
            self._drawn_s = now_s
            look = msgspec.to_builtins(self._running.look())
            self._print({"type": "progress", "at_ms": said.at_ms, **look})

    def end(self, result: MapResult) -> None:
        """Say what it came to."""
        self._print({"type": "end", **msgspec.to_builtins(result)})

    def _print(self, value: object) -> None:
        sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
        sys.stdout.flush()


class QuietScreen(MapScreen):
    """Says nothing."""

    def write(self, text: str) -> None:
        """Drop it."""


def make_screen(*, as_json: bool, is_quiet: bool) -> MapScreen:
    """Choose how a map is shown."""
    if as_json:
        return JsonScreen()
    if is_quiet:
        return QuietScreen()
    return LiveScreen() if sys.stderr.isatty() else MapScreen()


# ---- words ----------------------------------------------------------------------------


def describe(said: event.AnyEvent) -> list[str]:
    """Say an event in lines; none for what needs no word."""
    match said:
        case event.Resumed():
            failed = f", {said.failed} that failed" if said.failed else ""
            return [
                f"{said.done} tasks are done already{failed}, for "
                f"{format_money(said.cost)}; the rest follows"
            ]
        case event.TaskKept() if not said.result.is_done:
            return describe_failure(said.result)
        case event.TaskDelayed():
            how = {
                "stalled": "makes no progress; it goes elsewhere",
                "slow": "takes unusually long; it is begun a second time elsewhere",
            }[said.reason]
            return [f"task {said.task} with worker {said.worker} {how}"]
        case event.WorkerBlamed():
            return [
                f"worker {said.worker} of {said.provider[:10]}… is left "
                f"({clean(said.reason)}); its task goes elsewhere"
            ]
        case event.WorkerLeft() if said.outcome not in ("cancelled", "stopped"):
            because = f": {clean(said.note)}" if said.note else ""
            return [f"worker {said.worker} ended ({clean(said.outcome)}{because})"]
        case _:
            return []


def describe_failure(result: TaskResult) -> list[str]:
    """Say which task failed, how, and with which last words."""
    how = result.note or f"{result.outcome}, exit code {result.exit_code}"
    lines = [f"task {result.id} failed after {result.attempts} attempts: {how}"]
    last = [line for line in result.stderr.splitlines() if line.strip()]
    return lines + [f"  {clean(line)[:200]}" for line in last[-STDERR_LINES:]]


def format_outlook(look: Outlook) -> str:
    """Say in one line how far a map is."""
    parts = [f"{look.done} of {look.tasks} done"]
    if look.failed:
        parts.append(f"{look.failed} failed")
    parts.append(f"{look.running} running")
    if look.workers or look.starting:
        starting = f" (+{look.starting} starting)" if look.starting else ""
        parts.append(f"{look.workers} workers{starting}")
    if look.left_ms > 0:
        parts.append(f"about {format_duration(max(1, look.left_ms // 1_000))} left")
    money = format_money(look.cost)
    if look.cost_expected > look.cost:
        money += f" of about {format_money(look.cost_expected)}"
    return ", ".join([*parts, money])


def format_bar(look: Outlook, *, width: int) -> str:
    """Draw how far a map is, in so many columns.

    >>> look = Outlook(4, 2, 1, 1, 0, 1, 0, 0, 0, 0)
    >>> format_bar(look, width=10)
    '[######..]'
    """
    room = max(width - 2, 1)
    full = room * (look.done + look.failed) // max(look.tasks, 1)
    return f"[{'#' * full}{'.' * (room - full)}]"


def summarize(result: MapResult) -> list[str]:
    """Say what a map came to, and how to go on where it is not whole."""
    cost = format_money(result.cost)
    if result.cost_before:
        cost += f" (and {format_money(result.cost_before)} before)"
    failed = f", {result.failed} failed" if result.failed else ""
    lines = [
        f"{result.done} of {result.tasks} tasks done{failed}; {cost}; results are in "
        f"{result.folder}"
    ]
    if result.done + result.failed < result.tasks:
        if result.message and result.outcome != "stopped":
            lines.insert(0, clean(result.message))
        lines.append("run the same command again to go on")
    return lines
