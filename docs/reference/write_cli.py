"""Write ``cli.md`` beside this file from the command tree itself: ``make reference``.

A test holds the page to the program, so that no verb and no flag goes undocumented.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from sublet.cli.prices import find_token_command
from sublet.cli.root import app

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# The command line

Generated from the program by `make reference`; do not edit. `sublet COMMAND --help` says the same.
Exit codes: of `sublet run`, the job's own. Else 0: done; 1: something was found wrong;
2: refused, fix the request; 3: try again later; 4: the other side broke the protocol;
70: a fault of Sublet itself; 130: Ctrl-C.
"""


def render() -> str:
    """Write the whole page."""
    root = typer.main.get_command(app)
    return HEAD + "".join(_sections(root, ("sublet",)))


def _sections(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    if getattr(command, "hidden", False):
        return
    is_group = hasattr(command, "list_commands")
    if not is_group or len(path) > 1:
        yield _section(command, path)
    if path == ("sublet", "prices"):  # one word of it is a command of its own
        yield _section(find_token_command(), (*path, "token"))
    if is_group:
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from _sections(command.get_command(context, name), (*path, name))


def _section(command: Any, path: tuple[str, ...]) -> str:
    words = [f"`{' '.join(path)}`"]
    rows = []
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "hidden", False):
            continue
        text = " ".join((getattr(parameter, "help", None) or "").split())
        if parameter.param_type_name == "argument":
            name = parameter.make_metavar(typer.Context(command))
            words.append(f"`{name}`")
            rows.append(f"| `{name}` | {text} |")
        else:
            rows.append(
                f"| {_flags(parameter, command)} | {text}{_default(parameter)} |"
            )
    doc = _paragraphs(command.help or "")
    table = "".join(f"{row}\n" for row in rows)
    head = "\n| | |\n|---|---|\n" if rows else ""
    return f"\n## {' '.join(words)}\n{doc}\n{head}{table}"


def _paragraphs(text: str) -> str:
    """Keep paragraphs; what was marked as laid out already becomes a block."""
    parts = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            parts.append(f"```\n{paragraph[2:]}\n```")
        else:
            parts.append(" ".join(paragraph.split()))
    return "\n\n".join(parts)


def _flags(parameter: Any, command: Any) -> str:
    names = ", ".join(
        f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts]
    )
    return names if parameter.is_flag else f"{names} {_metavar(parameter, command)}"


def _metavar(parameter: Any, command: Any) -> str:
    return f"*{parameter.make_metavar(typer.Context(command))}*"


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.is_flag or callable(value) or value in (None, "", (), []):
        return ""
    return f" Default: `{value}`."


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
