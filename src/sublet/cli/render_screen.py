"""What a person sees of a render: lines, or a picture of it that lives in a terminal.

The page (``render_page``) is written beside the frames, whatever the terminal shows.
Progress goes to standard error; with ``--json`` events go to standard output.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from sublet.base.errors import Refused
from sublet.base.units import format_duration, format_money
from sublet.cli.map_screen import DRAW_S, LINE_S, describe, format_bar
from sublet.cli.output import clean
from sublet.cli.render_page import format_page, tell_left
from sublet.core.render.look import RenderLook
from sublet.core.render.money import RenderQuote, compare_tiers
from sublet.core.task.outlook import Outlook
from sublet.workload.map import event

if TYPE_CHECKING:
    from rich.live import Live

    from sublet.wire.message import Quote
    from sublet.workload.render.render import RenderJob, RenderResult, RunningRender

PAGE_S = 3.0
BAR_WIDTH = 60
PAGE = "index.html"


class RenderScreen:
    """Plain lines, now and then."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self._running: RunningRender | None = None
        self._drawn_s = self._paged_s = 0.0

    @contextlib.contextmanager
    def over(self, running: "RunningRender") -> Iterator[None]:
        """Show a render for as long as the context lasts; keep its page."""
        self._running = running
        try:
            yield
        finally:
            self._running = None
            write_page(running.job.asked.output, running.look())

    async def hear(self, said: event.AnyEvent) -> None:
        """Take an event of the map."""
        if not isinstance(said, event.Moved):
            self.show(said)
        now_s = time.monotonic()
        running = self._running
        if running is None:
            return
        if now_s - self._paged_s > PAGE_S:
            self._paged_s = now_s
            write_page(running.job.asked.output, running.look())
        if now_s - self._drawn_s > self.pause_s():
            self._drawn_s = now_s
            self.draw(running)

    async def tell(self, text: str) -> None:
        """Say something of the render itself."""
        self.write(clean(text))

    def show(self, said: event.AnyEvent) -> None:
        """Say an event, where it needs words."""
        for line in describe(said):
            self.write(line)

    def pause_s(self) -> float:
        """Give the seconds between two drawings."""
        return LINE_S

    def draw(self, running: "RunningRender") -> None:
        """Show how far it is."""
        self.write(format_look(running.look()))

    def write(self, text: str) -> None:
        """Write one line for people."""
        sys.stderr.write(f"sublet: {text}\n")
        sys.stderr.flush()

    def show_quote(
        self, job: "RenderJob", quote: RenderQuote | None, found: "Quote"
    ) -> None:
        """Say what it will cost."""
        for line in format_quote(job, quote, found):
            self.write(line)

    def approve(self, question: str) -> bool:
        """Ask, where somebody sits at a terminal.

        Raises:
            Refused: ``not_approved``: nobody does.
        """
        if not sys.stdin.isatty():
            raise Refused(
                "nobody is at this terminal to approve the quote; add --approve",
                code="not_approved",
                field="--approve",
            )
        return typer.confirm(question, err=True)

    def end(self, result: "RenderResult") -> None:
        """Say what it came to."""
        for line in summarize(result):
            self.write(line)


class LiveScreen(RenderScreen):
    """A bar and a line for each machine, drawn over and over."""

    def __init__(self) -> None:
        """Show nothing yet."""
        super().__init__()
        self._live: Live | None = None

    @contextlib.contextmanager
    def over(self, running: "RunningRender") -> Iterator[None]:
        """Show a render for as long as the context lasts."""
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

    def draw(self, running: "RunningRender") -> None:
        """Draw the bar and the machines."""
        from rich.text import Text

        if self._live is None:
            return
        look = running.look()
        width = min(self._live.console.size.width, BAR_WIDTH)
        counts = Outlook(look.units, look.units_done, 0, 0, 0, 0, 0, 0, 0, 0)
        workers = (f"  {line}" for line in running.workers())
        lines = [format_bar(counts, width=width), format_look(look), *workers]
        room = max(self._live.console.size.height - 2, 1)
        text = Text("\n".join(lines[:room]), no_wrap=True, overflow="ellipsis")
        self._live.update(text, refresh=True)

    def write(self, text: str) -> None:
        """Write one line for people, above the bar."""
        if self._live is None:
            super().write(text)
        else:
            from rich.text import Text

            self._live.console.print(Text(f"sublet: {text}"))


class JsonScreen(RenderScreen):
    """An object a line on standard output."""

    async def tell(self, text: str) -> None:
        """Say something of the render itself."""
        self._print({"type": "said", "text": text})

    def show(self, said: event.AnyEvent) -> None:
        """Say an event."""
        self._print(msgspec.to_builtins(said))

    def pause_s(self) -> float:
        """Give the seconds between two looks."""
        return 1.0

    def draw(self, running: "RunningRender") -> None:
        """Give the whole look."""
        self._print({"type": "look", **msgspec.to_builtins(running.look())})

    def show_quote(
        self, job: "RenderJob", quote: RenderQuote | None, found: "Quote"
    ) -> None:
        """Give the quote, and the market's."""
        both = {"quote": quote, "market": found}
        self._print({"type": "quote", **msgspec.to_builtins(both)})

    def end(self, result: "RenderResult") -> None:
        """Say what it came to."""
        self._print({"type": "end", **msgspec.to_builtins(result)})

    def _print(self, value: Any) -> None:
        sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
        sys.stdout.flush()


class QuietScreen(RenderScreen):
    """Says nothing."""

    def write(self, text: str) -> None:
        """Drop it."""


def make_screen(*, as_json: bool, is_quiet: bool) -> RenderScreen:
    """Choose how a render is shown."""
    if as_json:
        return JsonScreen()
    if is_quiet:
        return QuietScreen()
    return LiveScreen() if sys.stderr.isatty() else RenderScreen()


def write_page(folder: Path, look: RenderLook) -> None:
    """Write the page anew; a browser sees all of it or the one before."""
    draft = folder / f"{PAGE}.part"
    with contextlib.suppress(OSError):  # the frames matter, and say so themselves
        draft.write_text(format_page(look), "utf-8")
        draft.replace(folder / PAGE)


# ---- words ----------------------------------------------------------------------------


def format_look(look: RenderLook) -> str:
    """Say in one line how far a render is."""
    frames = sum(frame.state == "done" for frame in look.frames)
    parts = [
        f"{frames} of {len(look.frames)} frames",
        f"{look.units_done} of {look.units} units",
        f"{look.units_checked} checked",
        f"{look.machines} machines",
    ]
    if look.left_ms > 0:
        parts.append(f"about {tell_left(look)} left")
    money = format_money(look.cost)
    if look.cost_likely > look.cost:
        money += f" of about {format_money(look.cost_likely)}"
    return ", ".join([*parts, money])


def format_quote(
    job: "RenderJob", quote: RenderQuote | None, found: "Quote"
) -> list[str]:
    """Say what a render will cost, and what Render Network would take."""
    plan, recipe = job.plan, job.plan.recipe
    lines = [
        f"{len(plan.frames)} frames of {recipe.width}x{recipe.height}, "
        f"{recipe.samples} samples, {recipe.engine} on {recipe.device}, in "
        f"{len(plan.units)} units; {recipe.build}"
    ]
    if quote is None:
        fault = found.fault
        return [*lines, clean(fault.message) if fault else "no machine fits now"]
    work = quote.work
    minutes = [ms / 60_000 for ms in (work.likely_ms, work.low_ms, work.high_ms)]
    lines += [
        f"about {minutes[0]:.1f} reference minutes ({minutes[1]:.1f} to "
        f"{minutes[2]:.1f}), at {format_money(quote.price_hour)} an hour",
        f"about {format_money(quote.likely)} ({format_money(quote.low)} to "
        f"{format_money(quote.high)}), never more than {format_money(quote.cap)}; "
        f"{quote.check_milli / 10:.1f} % of it for checking",
        f"about {format_duration(max(1, quote.finish_ms // 1_000))} on {job.machines} "
        "machines",
        *_compare(job, work.likely_ms),
    ]
    return lines


def _compare(job: "RenderJob", likely_ms: int) -> list[str]:
    if job.plan.recipe.device == "cpu":
        return ["Render Network sells no processor time: nothing to compare with"]
    model = str(job.options.get("gpu", "")).split(":")[0].split("/")[0]
    prices = compare_tiers(model, gpu_ms=likely_ms)
    if not prices:
        return [f"no OctaneBench score of {model or 'this GPU'} was published"]
    return [
        f"Render Network, {one.tier}: {one.credits_milli / 1_000:.2f} credits "
        f"({one.source})"
        for one in prices
    ]


def summarize(result: "RenderResult") -> list[str]:
    """Say what a render came to, and how to go on where it is not whole."""
    cost = format_money(result.cost)
    if result.cost_before:
        cost += f" (and {format_money(result.cost_before)} before)"
    lines = [
        f"{result.frames_done} of {result.frames} frames are in "
        f"{result.folder}/frames; {result.units_checked} of {result.units} units were "
        f"checked by another provider; {cost}",
        f"who rendered what: {result.folder}/{PAGE}",
    ]
    lines += [f"caught: {who}: {clean(why)}" for who, why in result.dismissed.items()]
    lines += [f"{result.video}"] if result.video else []
    if result.frames_done < result.frames:
        if result.message and result.outcome != "stopped":
            lines.insert(0, clean(result.message))
        lines.append("run the same command again to go on")
    return lines
