"""What the code has, the documents tell: words, codes, settings, verbs, links."""

import ast
import importlib.util
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

import sublet
from sublet.cli import root
from sublet.core.document import AnyDocument
from sublet.core.lease.phase import Fault, Phase
from tests.style.tree import ROOT, name_of, syntax_of, text_of

_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
_TICKED = re.compile(r"`([^`\s]+)`")


def ticked(name: str) -> set[str]:
    """Collect what a document sets in backticks."""
    return set(_TICKED.findall(text_of(name)))


def load(script: str) -> Any:
    """Import one of the programs that write pages of the reference."""
    path = ROOT / f"docs/reference/{script}.py"
    spec = importlib.util.spec_from_file_location(script, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[script] = module
    spec.loader.exec_module(module)
    return module


def markdown_files() -> list[Path]:
    """List every document of the repository."""
    return sorted(
        path
        for path in ROOT.rglob("*.md")
        if not {".venv", ".cache", "node_modules"} & set(path.parts)
        and not path.relative_to(ROOT).parts[0].startswith(".")
    )


def test_glossary_knows_every_document_and_phase() -> None:
    known = ticked("docs/glossary.md")
    documents = {document.__name__ for document in get_args(AnyDocument)}
    assert not documents - known
    assert not {phase.value for phase in Phase} - known
    assert not {fault.value for fault in Fault} - known


def test_every_setting_is_documented() -> None:
    missing = []
    places = ("node/config", "provider/config", "witness/config")
    places += ("provider/owner_file", "provider/bids_file", "adapter/price_settings")
    for place in places:
        for node in ast.walk(syntax_of(ROOT / f"src/sublet/{place}.py")):
            # What is read from a file refuses unknown keys; nothing else does.
            if isinstance(node, ast.ClassDef) and any(
                word.arg == "forbid_unknown_fields" for word in node.keywords
            ):
                missing += [
                    f"{place}: {field.target.id}"
                    for field in node.body
                    if isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and field.target.id not in ticked("docs/reference/settings.md")
                ]
    assert not missing


@pytest.mark.parametrize(
    ("script", "page"),
    [("write_cli", "docs/reference/cli.md"), ("write_errors", "docs/errors.md")],
)
def test_generated_pages_are_current(script: str, page: str) -> None:
    assert text_of(page) == load(script).render(), "run: make reference"


def test_every_error_says_what_to_do() -> None:
    found = load("write_errors").find_codes().values()
    silent = [one.code for one in found if len(one.text.split()) < 3]
    assert not silent, "give these a message or a docstring"


def test_public_names_are_documented() -> None:
    assert sublet.__all__
    assert not set(sublet.__all__) - ticked("docs/reference/python.md")


@pytest.mark.parametrize("path", markdown_files(), ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    dead = [
        target
        for target in _LINK.findall(text)
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert not dead


def documented_commands() -> list[tuple[str, str]]:
    """Collect (document, command line) of every ``$ sublet …`` in the documents."""
    return [
        (name_of(path), line.removeprefix("$ ").partition("  #")[0].strip())
        for path in markdown_files()
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("$ sublet ")
    ]


@pytest.mark.parametrize(("document", "line"), documented_commands())
def test_documented_commands_are_real(document: str, line: str) -> None:
    command: Any = typer.main.get_command(root.app)
    words, context = shlex.split(line)[1:], typer.Context(command)
    path = ["sublet"]
    while hasattr(command, "get_command") and words:
        command = command.get_command(context, words[0])
        assert command is not None, f"{document}: there is no {words[0]}"
        path.append(words.pop(0))
    # Parses the options and arguments, and runs nothing.
    command.make_context(" ".join(path), words)


def test_make_pins_the_locked_uv() -> None:
    lock = tomllib.loads(text_of("uv.lock"))
    locked = next(x["version"] for x in lock["package"] if x["name"] == "uv")
    assert f"UV_VERSION := {locked}\n" in text_of("Makefile")
