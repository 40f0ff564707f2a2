"""What an install says: uv's output as progress for the tenant, and as the reason
why it failed. Lines are cut and cleaned, they show on a stranger's screen.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from sublet.service.ports import SandboxState

Say = Callable[[str], None]  # takes one line for people

_ERROR_LINES = 12
_ERROR_LENGTH_MAX = 2_000
_LINE_LENGTH_MAX = 120
_WATCH_S = 0.2
_STEPS = {  # uv's first words, and what to tell people
    "Resolved": "installing",
    "Downloading": "downloading",
    "Building": "building",
    "Installed": "installed",
}
_REASONS = {
    "out_of_memory": "it needs more memory than installs get here",
    "disk_full": "the packages are too large for this provider",
    "timeout": "it took too long",
}


def explain(state: SandboxState, log: str) -> str:
    """Say to the tenant why an install failed: the last lines, nothing unprintable."""
    lines = [
        _printable(line)
        for line in log.splitlines()
        if line.strip() and not line.startswith("Using ")
    ]
    text = "\n".join([*lines[-_ERROR_LINES:], _REASONS.get(state.reason, "")]).strip()
    return text[-_ERROR_LENGTH_MAX:] or f"uv ended with code {state.exit_code}"


def translate(line: str) -> str | None:
    """Turn a line of uv's output into one for people, or None.

    >>> translate("Resolved 5 packages in 12ms")
    'installing 5 packages'
    """
    words = _printable(line).split()
    if not words or words[0] not in _STEPS:
        return None
    rest = " ".join(words[1:]).partition(" in ")[0]
    return f"{_STEPS[words[0]]} {rest}"[:_LINE_LENGTH_MAX]


def _printable(line: str) -> str:
    return "".join(letter for letter in line.rstrip() if letter.isprintable())


async def follow(
    ending: Awaitable[SandboxState], *, log: Path, say: Say
) -> SandboxState:
    """Wait for an install, and pass on what it says meanwhile."""
    task = asyncio.ensure_future(ending)
    told = 0
    try:
        while True:
            await asyncio.wait({task}, timeout=_WATCH_S)
            lines = _read_lines(log)
            for line in lines[told:]:
                if text := translate(line):
                    say(text)
            told = len(lines)
            if task.done():
                return task.result()
    finally:
        task.cancel()


def _read_lines(log: Path) -> list[str]:
    try:
        return log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
