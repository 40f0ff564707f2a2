"""The walls: how long a file, a function, a class, a line may be.

What stands over a wall is listed in ``ratchet.json`` with its size, and may only
shrink: a smaller size, or none, has to be written there too.
"""

import ast
import json

from tests.style.tree import ROOT, name_of, python_files, walk

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70  # of the body, its docstring apart
CLASS_LINES_MAX = 300
LINE_LENGTH_MAX = 100

RATCHET = ROOT / "tests/style/ratchet.json"


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function's body without its docstring."""
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def over_the_walls() -> dict[str, int]:
    """Measure everything; give what is too large, by name."""
    over: dict[str, int] = {}
    for path in python_files():
        name = name_of(path)
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > FILE_LINES_MAX:
            over[name] = lines
        for scope, node in walk(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size, wall = body_lines(node), FUNCTION_LINES_MAX
            elif isinstance(node, ast.ClassDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                wall = CLASS_LINES_MAX
            else:
                continue
            if size > wall:
                over[f"{name}:{scope}"] = size
    return over


def test_nothing_grows_over_a_wall() -> None:
    allowed: dict[str, int] = json.loads(RATCHET.read_text())
    grown = {
        name: f"{size} lines, {allowed.get(name, 'none')} allowed"
        for name, size in over_the_walls().items()
        if size > allowed.get(name, 0)
    }
    assert not grown, "split these, or make them shorter"


def test_ratchet_turns_one_way() -> None:
    allowed: dict[str, int] = json.loads(RATCHET.read_text())
    over = over_the_walls()
    shrunk = {
        name: over.get(name) for name in allowed if over.get(name, 0) < allowed[name]
    }
    assert not shrunk, "good: write these sizes into ratchet.json (None: remove)"


def test_lines_fit_the_page() -> None:
    long = [
        f"{name_of(path)}:{number}"
        for path in python_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > LINE_LENGTH_MAX
    ]
    assert not long


def test_measures_a_body_without_docstring() -> None:
    source = 'def f():\n    """Doc.\n\n    More.\n    """\n    a = 1\n    return a\n'
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    assert body_lines(function) == 2
