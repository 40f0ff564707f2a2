"""YAML as a tree that knows its lines; nothing is resolved, nothing is made.

Built from PyYAML's events, so that no depth of brackets reaches a recursion, no alias
multiplies without a bound, and no tag names a Python class. Scalars stay the texts that
they are: what ``on`` or ``1.10`` mean is for whoever knows what the key holds.

Not here: what keys there are (``reader``).
"""

import yaml
from msgspec import Struct

from sublet.workload.deploy.fault import Findings, Path, shorten

FILE_BYTES_MAX = 262_144
DEPTH_MAX = 32
NODES_MAX = 20_000  # aliases count as often as they stand there
NULLS = frozenset({"", "~", "null", "Null", "NULL"})
MERGE = "<<"
_TAG_NAMES = ("str", "int", "float", "bool", "null", "map", "seq")
_TAGS = frozenset({"", "!", *(f"tag:yaml.org,2002:{name}" for name in _TAG_NAMES)})


class Scalar(Struct, frozen=True):
    """One text."""

    line: int
    text: str
    is_plain: bool = True  # no quotes around it

    @property
    def is_null(self) -> bool:
        """Nothing is written here."""
        return self.is_plain and self.text in NULLS


class Sequence(Struct, frozen=True):
    """A list."""

    line: int
    items: list["Node"]


class Mapping(Struct, frozen=True):
    """Keys with their values, in the order of the file."""

    line: int
    entries: dict[str, "Node"]
    lines: dict[str, int]  # of each key


Node = Scalar | Sequence | Mapping


def read_tree(raw: bytes, found: Findings) -> Mapping | None:
    """Read one YAML document whose top is a mapping; faults go into ``found``.

    The lines of all keys go there as well. None where nothing could be read.
    """
    if len(raw) > FILE_BYTES_MAX:
        _add(found, 1, f"has {len(raw)} bytes", f"keep it under {FILE_BYTES_MAX}")
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = raw.count(b"\n", 0, fault.start) + 1
        _add(found, line, "is not UTF-8", "save it as UTF-8 text")
        return None
    builder = _Builder(found)
    try:
        top = builder.build(text)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        line = mark.line + 1 if mark else 1
        problem = f"is not YAML: {shorten(fault.problem or 'it cannot be read')}"
        _add(found, line, problem, "mind indentation, quotes and colons")
        return None
    except yaml.YAMLError as fault:
        _add(found, 1, f"is not YAML: {shorten(str(fault))}", "save it as plain text")
        return None
    if top is None:
        return None
    if not isinstance(top, Mapping):
        _add(found, top.line, "is not a mapping", "begin with keys, such as services:")
        return None
    _note_lines(top, found)
    return top


def _add(found: Findings, line: int, problem: str, cure: str) -> None:
    place: Path = (f"line {line}",)
    found.lines[place] = line
    found.add(place, f"the file {problem}", cure, code="bad_yaml")


class _Stop(Exception):
    """What was found makes the rest meaningless."""


class _Builder:
    """Puts a tree together, event by event."""

    def __init__(self, found: Findings) -> None:
        self._found = found
        self._anchors: dict[str, tuple[Node, int]] = {}  # with their sizes
        self._open: list[tuple[Node, str, int]] = []  # node, anchor, count before
        self._keys: list[Scalar | None] = []  # of the open mappings, by depth
        self._merges: list[list[Node]] = []
        self._count = 0
        self._top: Node | None = None
        self._documents = 0

    def build(self, text: str) -> Node | None:
        try:
            for event in yaml.parse(text, Loader=yaml.SafeLoader):
                self._take(event)
        except _Stop:
            return None
        if self._top is None:
            _add(self._found, 1, "is empty", "begin with keys, such as services:")
        return self._top

    def _take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._stop(line, "has several documents", "keep one, without ---")
            case yaml.ScalarEvent():
                self._check_tag(event, line)
                is_plain = event.style is None and event.tag in (None, "")
                self._put(Scalar(line, event.value, is_plain), event.anchor or "")
            case yaml.AliasEvent():
                self._put_alias(event.anchor or "", line)
            case yaml.SequenceStartEvent():
                self._check_tag(event, line)
                self._begin(Sequence(line, []), event.anchor or "", line)
            case yaml.MappingStartEvent():
                self._check_tag(event, line)
                self._begin(Mapping(line, {}, {}), event.anchor or "", line)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._end()
            case _:
                pass

    def _check_tag(self, event: yaml.NodeEvent, line: int) -> None:
        tag = str(getattr(event, "tag", None) or "")
        if tag not in _TAGS:
            self._stop(line, f"has the tag {shorten(tag)}", "write it without")

    def _stop(self, line: int, problem: str, cure: str) -> None:
        _add(self._found, line, problem, cure)
        raise _Stop

    def _tally(self, count: int, line: int) -> None:
        self._count += count
        if self._count > NODES_MAX:
            self._stop(
                line,
                f"has more than {NODES_MAX} values, aliases counted as often as used",
                "split it",
            )

    def _begin(self, node: Node, anchor: str, line: int) -> None:
        if self._needs_key():
            self._stop(line, "has a key that is no text", "write a plain word as key")
        if len(self._open) >= DEPTH_MAX:
            self._stop(line, f"is nested deeper than {DEPTH_MAX}", "flatten it")
        self._open.append((node, anchor, self._count))
        self._keys.append(None)
        self._merges.append([])
        self._tally(1, line)

    def _end(self) -> None:
        node, anchor, before = self._open.pop()
        self._keys.pop()
        merges = self._merges.pop()
        if isinstance(node, Mapping):
            for other in merges:
                self._merge(node, other)
        if anchor:
            self._anchors[anchor] = node, self._count - before
        self._attach(node)

    def _put(self, node: Scalar, anchor: str) -> None:
        self._tally(1, node.line)
        if anchor:
            self._anchors[anchor] = node, 1
        if self._needs_key():
            self._take_key(node)
        else:
            self._attach(node)

    def _put_alias(self, name: str, line: int) -> None:
        if name not in self._anchors:
            self._stop(line, f"uses *{shorten(name)} before it is whole", "define it")
        if self._needs_key():
            self._stop(line, "has an alias for a key", "write the key itself")
        node, size = self._anchors[name]
        self._tally(size, line)
        self._attach(node)

    def _needs_key(self) -> bool:
        return bool(self._open) and (
            isinstance(self._open[-1][0], Mapping) and self._keys[-1] is None
        )

    def _take_key(self, key: Scalar) -> None:
        node = self._open[-1][0]
        if not isinstance(node, Mapping):
            raise AssertionError("only a mapping waits for a key")
        is_merge = key.is_plain and key.text == MERGE
        if key.text in node.entries and not is_merge:
            _add(
                self._found,
                key.line,
                f"has the key {shorten(key.text)!r} a second time "
                f"(first in line {node.lines[key.text]})",
                "keep one of them",
            )
        self._keys[-1] = key

    def _attach(self, node: Node) -> None:
        if not self._open:
            self._top = node
            return
        parent = self._open[-1][0]
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif isinstance(parent, Mapping):
            key = self._keys[-1]
            self._keys[-1] = None
            if key is None:
                raise AssertionError("a value stands behind its key")
            if key.is_plain and key.text == MERGE:
                self._merges[-1].append(node)
            else:
                parent.entries.setdefault(key.text, node)
                parent.lines.setdefault(key.text, key.line)

    def _merge(self, node: Mapping, other: Node) -> None:
        parts = other.items if isinstance(other, Sequence) else [other]
        for part in parts:
            if not isinstance(part, Mapping):
                self._stop(part.line, "merges what is no mapping", "name a mapping")
            else:
                for key, value in part.entries.items():
                    node.entries.setdefault(key, value)
                    node.lines.setdefault(key, part.lines[key])


def _note_lines(top: Node, found: Findings) -> None:
    """Enter the line of each key; an alias's keys stand where it was defined."""
    todo: list[tuple[Path, Node]] = [((), top)]
    while todo:
        path, node = todo.pop()
        if isinstance(node, Mapping):
            for key, value in node.entries.items():
                found.lines[*path, key] = node.lines[key]
                todo.append(((*path, key), value))
        elif isinstance(node, Sequence):
            for index, value in enumerate(node.items):
                found.lines[*path, index] = value.line
                todo.append(((*path, index), value))
