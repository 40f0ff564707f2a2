"""What the code has, the documents tell: words, codes, settings, verbs, links."""

import ast
import importlib.util
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

import sublet
from sublet.core.document import AnyDocument
from sublet.core.lease.phase import Fault, Phase
from tests.style.tree import ROOT, name_of, python_files, syntax_of, text_of

_CODE = re.compile(r"\A[a-z][a-z0-9]*(_[a-z0-9]+)*\Z")
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
_TICKED = re.compile(r"`([^`\s]+)`")


def ticked(name: str) -> set[str]:
    """Collect what a document sets in backticks."""
    return set(_TICKED.findall(text_of(name)))


def error_codes() -> dict[str, str]:
    """Find each error code in the source: a class's ``code``, an argument ``code=``."""
    found: dict[str, str] = {}
    for path in python_files("src"):
        for node in ast.walk(syntax_of(path)):
            values: list[ast.expr | None] = []
            if isinstance(node, ast.ClassDef):
                values = [
                    item.value
                    for item in node.body
                    if isinstance(item, ast.Assign | ast.AnnAssign)
                    and any(
                        isinstance(target, ast.Name) and target.id == "code"
                        for target in (
                            item.targets
                            if isinstance(item, ast.Assign)
                            else [item.target]
                        )
                    )
                ]
            elif isinstance(node, ast.Call):
                values = [word.value for word in node.keywords if word.arg == "code"]
            for value in values:
                if isinstance(value, ast.Constant) and _CODE.match(str(value.value)):
                    found.setdefault(str(value.value), name_of(path))
    return found


def markdown_files() -> list[Path]:
    """List every document of the repository."""
    return sorted(
        path
        for path in ROOT.rglob("*.md")
        if not {".venv", ".cache", "node_modules"} & set(path.parts)
        and not path.relative_to(ROOT).parts[0].startswith(".")
    )


def test_every_error_code_is_explained() -> None:
    missing = {
        c: where
        for c, where in error_codes().items()
        if c not in ticked("docs/errors.md")
    }
    assert not missing, "each code needs its line in docs/errors.md"


def test_no_error_is_explained_twice_or_for_nothing() -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|", text_of("docs/errors.md"), re.M)
    assert len(rows) == len(set(rows))
    assert not set(rows) - set(error_codes()), "no such code in the source any more"


def test_glossary_knows_every_document_and_phase() -> None:
    known = ticked("docs/glossary.md")
    documents = {document.__name__ for document in get_args(AnyDocument)}
    assert not documents - known
    assert not {phase.value for phase in Phase} - known
    assert not {fault.value for fault in Fault} - known


def test_every_setting_is_documented() -> None:
    missing = []
    for face in ("node", "provider"):
        for node in ast.walk(syntax_of(ROOT / f"src/sublet/{face}/config.py")):
            # What is read from a file refuses unknown keys; nothing else does.
            if isinstance(node, ast.ClassDef) and any(
                word.arg == "forbid_unknown_fields" for word in node.keywords
            ):
                missing += [
                    f"{face}: {field.target.id}"
                    for field in node.body
                    if isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and field.target.id not in ticked("docs/reference/settings.md")
                ]
    assert not missing


def test_reference_of_commands_is_current() -> None:
    spec = importlib.util.spec_from_file_location(
        "write_cli", ROOT / "docs/reference/write_cli.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert text_of("docs/reference/cli.md") == module.render(), "run: make reference"


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


def test_make_pins_the_locked_uv() -> None:
    lock = tomllib.loads(text_of("uv.lock"))
    locked = next(x["version"] for x in lock["package"] if x["name"] == "uv")
    assert f"UV_VERSION := {locked}\n" in text_of("Makefile")
