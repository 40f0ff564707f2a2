"""Reads a tree as a type: the msgspec types are the grammar, all faults are told.

msgspec itself stops at the first fault and knows no lines. This walks the same types
(``msgspec.inspect``) over the tree: unknown keys, missing ones, wrong values, each with
its line and a cure. Where something is missing, a hole of its type is put in, so that
what else is wrong can be told in the same go.

A text takes any scalar, as YAML for people does: ``TAG: 1.10`` is "1.10". An empty value
is no value. Not here: what the values mean (``sdl_check``, ``compose``, ``own``).
"""

import re
from collections.abc import Mapping as AnyMapping
from difflib import get_close_matches
from typing import Any, TypeVar, cast

from msgspec import inspect

from sublet.workload.deploy.fault import Findings, Path, shorten
from sublet.workload.deploy.tree import Mapping, Node, Scalar, Sequence

T = TypeVar("T")

_INTEGER = re.compile(r"\A[-+]?[0-9]{1,18}\Z")
_NUMBER = re.compile(r"\A[-+]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})\Z")
_TRUE = frozenset({"true", "True", "TRUE", "yes", "Yes", "on", "On"})
_FALSE = frozenset({"false", "False", "FALSE", "no", "No", "off", "Off"})


class Reader:
    """Reads one file's tree."""

    def __init__(
        self,
        found: Findings,
        *,
        habits: AnyMapping[str, str],
        is_open: bool = False,
    ) -> None:
        """Take where faults go, and the cures of keys that people write elsewhere.

        Args:
            found: of this file.
            habits: cure by unknown key.
            is_open: keys that begin with ``x-`` are the writer's own, and passed over.
        """
        self._found = found
        self._habits = habits
        self._is_open = is_open

    def read(self, node: Node, kind: type[T]) -> T:
        """Give what the tree says, with holes where it is faulty."""
        return cast(T, self._read(node, inspect.type_info(kind), ()))

    def _read(self, node: Node, kind: inspect.Type, path: Path) -> Any:
        if isinstance(kind, inspect.Metadata):
            cure = str((kind.extra or {}).get("cure", ""))
            return self._read_one(node, kind.type, path, cure)
        return self._read_one(node, kind, path, "")

    def _read_one(self, node: Node, kind: inspect.Type, path: Path, cure: str) -> Any:
        if isinstance(kind, inspect.UnionType):
            return self._read_union(node, kind, path, cure)
        match kind:
            case inspect.StructType() if isinstance(node, Mapping):
                return self._read_struct(node, kind, path)
            case inspect.DictType() if isinstance(node, Mapping):
                return self._read_dict(node, kind, path)
            case inspect.VarTupleType() if isinstance(node, Sequence):
                return tuple(
                    self._read(item, kind.item_type, (*path, index))
                    for index, item in enumerate(node.items)
                )
            case _ if isinstance(node, Scalar):
                ok, value = _read_scalar(node, kind)
                if ok:
                    return value
        self._found.add(
            path,
            f"is {_show(node)}",
            cure or f"write {_describe(kind)}",
            code="bad_value",
        )
        return make_hole(kind)

    def _read_union(
        self, node: Node, kind: inspect.UnionType, path: Path, cure: str
    ) -> Any:
        if isinstance(node, Scalar) and node.is_null and kind.includes_none:
            return None
        for one in kind.types:
            bare = one.type if isinstance(one, inspect.Metadata) else one
            if _fits(node, bare):
                return self._read_one(node, bare, path, cure)
        cures = (cure, *map(_cure, kind.types))
        self._found.add(
            path,
            f"is {_show(node)}",
            next(filter(None, cures), "") or f"write {_describe(kind)}",
            code="bad_value",
        )
        return make_hole(kind)

    def _read_struct(self, node: Mapping, kind: inspect.StructType, path: Path) -> Any:
        fields = {field.encode_name: field for field in kind.fields}
        values: dict[str, Any] = {}
        for key, value in node.entries.items():
            if key in fields:
                field = fields[key]
                is_null = isinstance(value, Scalar) and value.is_null
                if not is_null or _takes_null(field.type):
                    values[field.name] = self._read(value, field.type, (*path, key))
            elif not (self._is_open and key.startswith("x-")):
                self._refuse_key(key, fields, path)
        for field in kind.fields:
            if field.name not in values and field.required:
                self._found.add(
                    (*path, field.encode_name),
                    "is missing",
                    _cure(field.type)
                    or f"add {field.encode_name}: {_describe(field.type)}",
                    code="missing_key",
                )
                values[field.name] = make_hole(field.type)
        return kind.cls(**values)

    def _refuse_key(self, key: str, fields: AnyMapping[str, Any], path: Path) -> None:
        cure = self._habits.get(key) or self._habits.get(key.lower(), "")
        if not cure:
            close = get_close_matches(key[:64], fields, 1, 0.75)
            cure = (
                f"did you mean {close[0]}?"
                if close
                else f"remove it; known here: {', '.join(fields) or 'nothing'}"
            )
        self._found.add((*path, key), "is no known key", cure, code="unknown_key")

    def _read_dict(self, node: Mapping, kind: inspect.DictType, path: Path) -> Any:
        values = {}
        for key, value in node.entries.items():
            ok, _ = _read_scalar(Scalar(node.line, key), kind.key_type)
            if ok and self._is_open and key.startswith("x-") and not path:
                continue
            values[key] = self._read(value, kind.value_type, (*path, key))
            if not ok:  # after what lies in it: a key at fault hides that
                self._found.add(
                    (*path, key),
                    f"{shorten(key)!r} is no name for this{_name_foreign(key)}",
                    _cure(kind.key_type) or f"write {_describe(kind.key_type)}",
                    code="bad_value",
                )
        return values


def _name_foreign(text: str) -> str:
    """Point at a letter that only looks like one of ours.

    >>> _name_foreign("web"), _name_foreign("w\u0435b")
    ('', ' (letter 2 is U+0435, which is not on an English keyboard)')
    """
    place = next((i for i, char in enumerate(text, 1) if not char.isascii()), 0)
    if not place:
        return ""
    code = f"U+{ord(text[place - 1]):04X}"
    return f" (letter {place} is {code}, which is not on an English keyboard)"


def _bare(kind: inspect.Type) -> inspect.Type:
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _cure(kind: inspect.Type) -> str:
    extra = kind.extra if isinstance(kind, inspect.Metadata) else None
    return str((extra or {}).get("cure", ""))


def _takes_null(kind: inspect.Type) -> bool:
    bare = _bare(kind)
    return isinstance(bare, inspect.UnionType) and bare.includes_none


def _fits(node: Node, kind: inspect.Type) -> bool:
    if isinstance(node, Mapping):
        return isinstance(kind, inspect.StructType | inspect.DictType)
    if isinstance(node, Sequence):
        return isinstance(kind, inspect.VarTupleType)
    return _read_scalar(node, kind)[0]


def _read_scalar(node: Scalar, kind: inspect.Type) -> tuple[bool, Any]:
    """Say whether a scalar is one of this type, and give its value."""
    text = node.text
    match kind:
        case inspect.Metadata():
            return _read_scalar(node, kind.type)
        case inspect.StrType():
            if node.is_null or (kind.min_length or 0) > len(text):
                return False, None
            return not kind.pattern or bool(re.fullmatch(kind.pattern, text)), text
        case inspect.LiteralType():
            return text in map(str, kind.values) and not node.is_null, text
        case inspect.BoolType() if node.is_plain:
            return text in _TRUE or text in _FALSE, text in _TRUE
        case inspect.IntType() if node.is_plain and _INTEGER.match(text):
            value = int(text)
            is_over = kind.le is not None and value > kind.le
            is_under = kind.ge is not None and value < kind.ge
            return not (is_over or is_under), value
        case inspect.FloatType() if node.is_plain and _NUMBER.match(text):
            return True, float(text)
        case _:
            return False, None


def make_hole(kind: inspect.Type) -> Any:
    """Give an empty value of a type, to stand in for what is faulty."""
    match kind:
        case inspect.Metadata():
            return make_hole(kind.type)
        case inspect.UnionType():
            return None if kind.includes_none else make_hole(kind.types[0])
        case inspect.StructType():
            holes = {f.name: make_hole(f.type) for f in kind.fields if f.required}
            return kind.cls(**holes)
        case inspect.DictType():
            return {}
        case inspect.VarTupleType():
            return ()
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.IntType() | inspect.FloatType():
            return kind.ge or 0
        case inspect.BoolType():
            return False
        case _:
            return ""


def _show(node: Node) -> str:
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    return "empty" if node.is_null else repr(shorten(node.text))


def _describe(kind: inspect.Type) -> str:
    """Say what is expected, in a person's words."""
    match kind:
        case inspect.Metadata():
            return _describe(kind.type)
        case inspect.UnionType():
            named = (_describe(one) for one in kind.types)
            return " or ".join(dict.fromkeys(text for text in named if text))
        case inspect.NoneType():
            return ""
        case inspect.StructType():
            keys = ", ".join(field.encode_name for field in kind.fields)
            return f"a mapping ({keys})"
        case inspect.DictType():
            return "a mapping"
        case inspect.VarTupleType():
            return f"a list (- {_describe(kind.item_type)})"
        case inspect.LiteralType():
            return "one of " + ", ".join(map(str, kind.values))
        case inspect.IntType():
            if kind.ge is not None and kind.le is not None:
                return f"a whole number from {kind.ge} to {kind.le}"
            if kind.ge is not None:
                return f"a whole number, at least {kind.ge}"
            return "a whole number"
        case inspect.FloatType():
            return "a number"
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType(pattern=pattern) if pattern:
            return f"a text that matches {pattern}"
        case _:
            return "a text"
