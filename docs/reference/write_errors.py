"""Write ``docs/errors.md`` from the source itself: ``make reference``.

An error's message carries its cure, so the page is the messages, sorted by who must
act. Codes are found where they are given: a class's ``code``, an argument ``code=``.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/errors.md"
BRANCHES = {
    "Refused": "Refused: fix the request",
    "Unavailable": "Unavailable: try again later",
    "PeerFault": "PeerFault: the other side broke the protocol",
    "Broken": "Broken: one of Sublet's own invariants fell",
}
# Where a message is a variable, what it holds.
WORDS_OF = {
    "said.message": "… (the provider could not be reached in time)",
    "'and more'": "and more faults than are listed",
    "reason": "the log cannot be written: …",
}
HEAD = """# Errors

Generated from the source by `make reference`; do not edit.

Every error has a stable code and a message that says what to do. Over HTTP it comes as
`{"code", "message", "field", "retry_after_s", "detail"}`; on the command line as one line,
with `--json` as an object. The branch says who must act now. A code may stand for several
messages; the longest is shown, `…` for what differs.
"""

_CODE = re.compile(r"\A[a-z][a-z0-9]*(_[a-z0-9]+)*\Z")


@dataclass(frozen=True)
class Found:
    """One place in the source that gives an error its code."""

    code: str
    branch: str
    text: str


def find_codes() -> dict[str, Found]:
    """Find every code of the source; a class's own words before a call's."""
    trees = [ast.parse(p.read_text("utf-8")) for p in sorted(ROOT.glob("src/**/*.py"))]
    branches = _branches(trees)
    found: dict[str, Found] = {}
    for look in (_of_class, _of_call):
        seen: dict[str, Found] = {}
        for code, name, text in (
            x for t in trees for n in ast.walk(t) for x in look(n)
        ):
            if _CODE.match(code):
                one = Found(code, branches.get(name, "Refused"), text)
                seen[code] = max(seen.get(code, one), one, key=_words)
        found = {**seen, **found}
    return found


def _words(found: Found) -> int:
    return len(re.findall(r"[a-zA-Z]{2,}", found.text))


def render() -> str:
    """Write the whole page."""
    found = sorted(find_codes().values(), key=lambda one: one.code)
    page = [HEAD]
    for branch, title in BRANCHES.items():
        page.append(f"\n## {title}\n| code | what it says |\n|---|---|\n")
        page += [f"| `{x.code}` | {x.text} |\n" for x in found if x.branch == branch]
    return "".join(page)


def _branches(trees: list[ast.Module]) -> dict[str, str]:
    """Say of each error class which branch it belongs to."""
    bases = {
        node.name: [ast.unparse(base) for base in node.bases]
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }

    def branch_of(name: str) -> str:
        if name in BRANCHES:
            return name
        return next(filter(None, map(branch_of, bases.get(name, []))), "")

    return {name: branch_of(name) for name in bases if branch_of(name)}


def _of_class(node: ast.AST) -> Iterator[tuple[str, str, str]]:
    if not isinstance(node, ast.ClassDef):
        return
    for item in node.body:
        if (
            isinstance(item, ast.Assign)
            and isinstance(item.targets[0], ast.Name)
            and item.targets[0].id == "code"
            and isinstance(item.value, ast.Constant)
        ):
            words = (ast.get_docstring(node) or "").partition("\n\n")[0]
            yield str(item.value.value), node.name, _cell(words)


def _of_call(node: ast.AST) -> Iterator[tuple[str, str, str]]:
    if not isinstance(node, ast.Call):
        return
    for word in node.keywords:
        if word.arg == "code" and isinstance(word.value, ast.Constant):
            said = [*node.args, *(k.value for k in node.keywords if k.arg == "message")]
            texts = [WORDS_OF.get(ast.unparse(one)) or _text(one) for one in said]
            name = ast.unparse(node.func).rpartition(".")[2]
            yield str(word.value.value), name, _cell(max(texts, key=len, default=""))


def _text(node: ast.AST) -> str:
    """Read a message as written, with a blank for each part that differs."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
