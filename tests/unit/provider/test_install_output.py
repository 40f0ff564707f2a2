"""uv's output, as people get to see it."""

import pytest

from sublet.provider.install_output import explain, translate
from sublet.service.ports import SandboxState


def ended(reason: str, *, exit_code: int = 1) -> SandboxState:
    return SandboxState("ended", 1, 0, 0, 0, 0, exit_code, reason)


LINES = {
    "Resolved 5 packages in 12ms": "installing 5 packages",
    "Downloading numpy (15.9MiB)": "downloading numpy (15.9MiB)",
    "Building docopt==0.6.2": "building docopt==0.6.2",
    "Installed 5 packages in 1.20s": "installed 5 packages",
    "Resolved \x1b[31mred\x1b[0m in 1ms": "installing [31mred[0m",  # no escape
    "Using Python 3.11.7 environment at: /env": None,
    "": None,
}


@pytest.mark.parametrize(("line", "expected"), LINES.items())
def test_says_it_for_people(line: str, expected: str | None) -> None:
    assert translate(line) == expected


def test_cuts_long_lines() -> None:
    assert len(translate("Downloading " + "x" * 1_000) or "") == 120


def test_explains_with_the_last_lines() -> None:
    log = "\n".join(f"line {number}" for number in range(100))
    lines = explain(ended("exited"), log).splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("line 88", "line 99", 12)


REASONS = {"out_of_memory": "memory", "disk_full": "too large", "timeout": "too long"}


@pytest.mark.parametrize(("reason", "word"), REASONS.items())
def test_explains_why_it_was_stopped(reason: str, word: str) -> None:
    assert word in explain(ended(reason), "")


def test_always_says_something() -> None:
    assert explain(ended("exited", exit_code=3), "\n\n") == "uv ended with code 3"


def test_explanation_is_limited_and_printable() -> None:
    text = explain(ended("exited"), "\x07" + "é\x1b" * 10_000)
    assert len(text) == 2_000
    assert text.isprintable()
