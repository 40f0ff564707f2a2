"""Write ``cli.md`` beside this file from the command tree itself: ``make reference``.

A test holds the page to the program, so that no verb and no flag goes undocumented.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from sublet.cli.main import app

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# The command line

Generated from the program by `make reference`; do not edit. `sublet COMMAND --help` says the same.
Exit codes: of `sublet run`, the job's own; else 0 for done,
1 for refused or failed, 2 for a wrong command line, 130 for Ctrl-C.
"""


def render() -> str:
    """Write the whole page."""
    root = typer.main.get_command(app)
    return HEAD + "".join(_sections(root, ("sublet",)))


def _sections(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    if getattr(command, "hidden", False):
        return
    children = getattr(command, "commands", {})
    if not children or len(path) > 1:
        yield _section(command, path)
    for name, child in children.items():
        yield from _sections(child, (*path, name))


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
    doc = " ".join((command.help or "").split())
    table = "".join(f"{row}\n" for row in rows)
    head = "\n| | |\n|---|---|\n" if rows else ""
    return f"\n## {' '.join(words)}\n{doc}\n{head}{table}"


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
