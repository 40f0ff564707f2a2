"""Habits that a machine can hold: what no file of the house may contain."""

import ast
import re
import tokenize
from pathlib import Path

import pytest

from tests.style.tree import ROOT, name_of, python_files, walk

HOMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "types"}

# Where `except Exception` may stand: a face's outermost loop, a task supervisor, the
# plug-in door. Each of them logs and converts. Written as file:function.
BROAD_EXCEPT_ALLOWED = {
    "src/sublet/node/controller/controllers.py:Controllers._fly",
    "src/sublet/cli/root.py:run_command",
    "src/sublet/node/app.py:_serve",
    "src/sublet/provider/agent.py:Agent._supervise",
    "src/sublet/provider/desk.py:Desk._supervise",
    "src/sublet/provider/roster.py:Roster._supervise",
    "src/sublet/provider/ssh_server.py:LeaseServer._serve",
}

_BARE_IGNORE = re.compile(r"#\s*type:\s*ignore(?!\[)")


def comments_of(path: Path) -> list[tuple[int, str]]:
    """List (line, text) of a file's comments."""
    with path.open("rb") as file:
        return [
            (token.start[0], token.string)
            for token in tokenize.tokenize(file.readline)
            if token.type == tokenize.COMMENT
        ]


def imported_names(node: ast.AST) -> list[str]:
    """Name what an import statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Say whether a handler catches everything, and does not pass it on."""
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    caught = handler.type
    parts = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(
        part is None
        or (isinstance(part, ast.Name) and part.id in {"Exception", "BaseException"})
        for part in parts
    )


@pytest.mark.parametrize("path", python_files(), ids=name_of)
def test_module_says_what_is_in_it(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree), "open the file with a docstring"


def test_no_mocks_anywhere() -> None:
    found = [
        f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        for path in python_files()
        for _, node in walk(path)
        if any("unittest.mock" in name for name in imported_names(node))
    ]
    assert not found, "a test that needs a mock shows a missing port"


def test_ignored_types_say_which() -> None:
    bare = [
        f"{name_of(path)}:{line}"
        for path in python_files()
        for line, text in comments_of(path)
        if _BARE_IGNORE.search(text)
    ]
    assert not bare, "write type: ignore[code] and the reason"


def test_broad_excepts_stand_at_doors() -> None:
    found = {
        f"{name_of(path)}:{scope}"
        for path in python_files("src")
        for scope, node in walk(path)
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    }
    assert found == BROAD_EXCEPT_ALLOWED


def test_every_module_has_a_home() -> None:
    homeless = [
        name_of(path)
        for path in python_files()
        if HOMELESS & set(path.relative_to(ROOT).with_suffix("").parts)
    ]
    assert not homeless, "a thing without a home shows a missing noun: find it"


def test_unit_tests_mirror_the_source() -> None:
    strangers = []
    for path in python_files("tests/unit"):
        if path.name == "conftest.py" or not path.name.startswith("test_"):
            continue
        folder = path.relative_to(ROOT / "tests/unit").parent
        module = ROOT / "src/sublet" / folder / path.name.removeprefix("test_")
        package = module.with_suffix("")
        if not module.is_file() and not package.is_dir():
            strangers.append(name_of(path))
    assert not strangers, "name a unit test after the module that it tests"
