"""What a person sees: a job's own streams, notices, tables.

A job's text is a stranger's as soon as it reaches a terminal: there it loses every
control character but those that lay out lines. Into a pipe or a file it goes byte by
byte. Notices go to standard error, and wait for a second where nobody may be looking.
"""

import codecs
import os
import select
import sys
import time
from collections.abc import Sequence

from sublet.base.units import format_duration, format_money, format_size
from sublet.core.job import state
from sublet.workload.run import event
from sublet.workload.run.result import JobResult

NOTICE_AFTER_S = 1.0
LINE_BYTES_MAX = 65_536  # of one of several machines, before it is cut
PIPE_BYTES = 4_096  # that a writable pipe takes without blocking
_KEPT = "\n\t\r"


class Screen:
    """One stream of a job on its way to one of ours."""

    def __init__(self, number: int) -> None:
        """Take the file descriptor."""
        self.number = number
        self.is_terminal = os.isatty(number)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def render(self, content: bytes) -> bytes:
        """Give what is to be written."""
        if not self.is_terminal:
            return content
        text = self._decoder.decode(content)
        return "".join(
            c if _is_harmless(c) else "\N{REPLACEMENT CHARACTER}" for c in text
        ).encode()

    async def write(self, content: bytes) -> None:
        """Write all of it, without holding up what else goes on.

        Raises:
            BrokenPipeError: nobody reads.
        """
        import asyncio

        content = self.render(content)
        if len(content) <= PIPE_BYTES and select.select([], [self.number], [], 0)[1]:
            written = os.write(self.number, content)
            content = content[written:]
        if content:
            await asyncio.to_thread(self._write_all, content)

    def _write_all(self, content: bytes) -> None:
        while content:
            content = content[os.write(self.number, content) :]


def _is_harmless(char: str) -> bool:
    return char in _KEPT or not (ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0)


class Notices:
    """Short lines about how a job goes, on standard error."""

    def __init__(self, *, is_quiet: bool) -> None:
        """Say nothing at all where ``is_quiet``."""
        self._is_quiet = is_quiet
        self._is_terminal = sys.stderr.isatty()
        self._start_s = time.monotonic()
        self._waiting: list[str] = []

    def say(self, text: str) -> None:
        """Write a line, or keep it until the second is over."""
        if self._is_quiet:
            return
        self._waiting.append(text)
        if self._is_terminal or time.monotonic() - self._start_s > NOTICE_AFTER_S:
            self.flush()

    def flush(self) -> None:
        """Write what has waited; to be called once more when the second is over."""
        lines = "".join(f"sublet: {text}\n" for text in self._waiting)
        self._waiting.clear()
        sys.stderr.write(lines)
        sys.stderr.flush()


class Ranked:
    """The streams of several machines on their way to one: by whole lines, each's named.

    Of a job on one machine all goes through as it comes.
    """

    def __init__(self) -> None:
        """Begin with no line begun."""
        self._begun: dict[tuple[str, int], bytes] = {}

    def take(self, said: event.Wrote) -> bytes:
        """Give what can be shown now; the rest of a line waits for its end."""
        if said.rank is None:
            return said.data
        key = (said.stream, said.rank)
        whole, newline, rest = (self._begun.get(key, b"") + said.data).rpartition(b"\n")
        if len(rest) > LINE_BYTES_MAX:  # a line without an end is shown in pieces
            whole, newline, rest = whole + newline + rest, b"\n", b""
        self._begun[key] = rest
        return _prefix(whole, said.rank) if newline else b""

    def end(self) -> list[tuple[str, bytes]]:
        """Give the lines that never ended, each with its stream."""
        return [
            (stream, _prefix(rest, rank))
            for (stream, rank), rest in self._begun.items()
            if rest
        ]


def _prefix(lines: bytes, rank: int) -> bytes:
    return b"".join(b"[%d] %s\n" % (rank, line) for line in lines.split(b"\n"))


def describe(said: event.AnyEvent) -> str:
    """Say an event in one line; "" for what needs no word."""
    text = _describe(said)
    if said.rank is None or not text:
        return text
    if isinstance(said, event.Waiting):  # all members wait for the same
        return text if said.rank == 0 else ""
    return f"[{said.rank}] {text}"


def _describe(said: event.AnyEvent) -> str:
    match said:
        case event.Waiting():
            return f"waiting: {said.message}"
        case event.Matched():
            again = f" (attempt {said.attempt})" if said.attempt > 1 else ""
            return (
                f"matched {said.machine} of {said.provider[:10]}… at "
                f"{format_money(said.price_hour)}/h{again}"
            )
        case event.Uploading():
            return f"uploading {format_size(said.bytes)}"
        case event.Preparing():
            return said.text or "preparing"
        case event.Running():
            return "running"
        case event.Secured():
            return f"checkpoint at {format_duration(said.ran_ms // 1_000)} stored here"
        case event.Unkept():
            return said.message
        case event.Notified():
            return f"the owner wants the machine back in {said.stops_in_s}s"
        case event.Disconnected():
            return f"disconnected: {said.message}"
        case event.Left(outcome=state.RECALLED):
            return "stopped, to begin again with the others"
        case event.Left():
            # The last thing that it said explains a failure, and nothing else.
            because = f": {said.note}" if said.note and said.outcome == "failed" else ""
            return (
                f"{said.provider[:10]}… did not finish ({said.outcome}{because}); "
                "moving on to another provider"
            )
        case event.Collecting():
            return f"fetching {said.files} files, {format_size(said.bytes)}"
        case event.Missing():
            return f"output {said.path!r} was never made"
        case event.Erased():
            return f"the provider states erasure ({said.claim}): {said.path}"
        case _:
            return ""


def summarize(result: JobResult) -> str:
    """Say in one line what a job came to."""
    count = len(result.attempts)
    seconds = result.ran_ms / 1_000
    line = f"{seconds:.1f}s, {format_money(result.cost)}"
    if result.members:
        line += f", {len(result.members)} machines"
        count = len(result.members[0].attempts)
    if count > 1:
        line += f", {count} attempts"
    return f"job {result.job_id}: {line}"


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under their heads, in columns as wide as they need."""
    lines = [list(head), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def clean(text: str) -> str:
    """A stranger's words without anything for a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def format_time(at_ms: int) -> str:
    """Write a time of day, here; "-" for never."""
    if not at_ms:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1_000))
