"""The source tree, as the style tests read it: files, syntax trees, documents."""

import ast
import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ("src", "tests", "benchmarks", "examples", "docs")


def python_files(*folders: str) -> list[Path]:
    """List the Python files below these folders of the repository, in order."""
    return sorted(
        path
        for folder in folders or CODE
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def name_of(path: Path) -> str:
    """Name a file relative to the repository."""
    return path.relative_to(ROOT).as_posix()


@cache
def syntax_of(path: Path) -> ast.Module:
    """Parse a file, once.

    Without garbage collection: a finalizer that raises in the middle of a parse, of
    something that another test left behind, has Python 3.11 lose count of its depth.
    """
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    finally:
        gc.enable()


@cache
def text_of(name: str) -> str:
    """Read a document of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def walk(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Give every node of a file with the dotted name of what it stands in."""

    def below(node: ast.AST, scope: str) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            inner = scope
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = f"{scope}.{child.name}".lstrip(".")
            yield inner, child
            yield from below(child, inner)

    return below(syntax_of(path), "")
