"""What is wrong with a deployment file: file, line, key, and what to do about it."""

from collections.abc import Iterable

from msgspec import Struct

from sublet.base.errors import Faults, Refused, SubletError

FAULTS_MAX = 200  # that are told of one file
SHOWN_LENGTH_MAX = 60  # characters of a file's own text that a message repeats

Path = tuple[str | int, ...]


class Fault(Struct, frozen=True):
    """One thing that is wrong, where, and its cure."""

    file: str
    line: int  # from 1
    key: str  # "services.web.expose[0].port"; "" for the file as a whole
    problem: str
    cure: str
    code: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " + (f"{self.key}: " if self.key else "")
        return f"{where}{self.problem}; {self.cure}"


class Findings:
    """Collects the faults of one file, in the order of its lines."""

    def __init__(self, file: str) -> None:
        """Take the file's name, for people."""
        self.file = file
        self.lines: dict[Path, int] = {}  # where each key stands
        self._faults: dict[Path, Fault] = {}

    def add(self, path: Path, problem: str, cure: str, *, code: str) -> None:
        """Remember a fault; of one key only the first is told."""
        if len(self._faults) < FAULTS_MAX and not self.is_faulty(path):
            self._faults[path] = Fault(
                self.file, self.find_line(path), spell(path), problem, cure, code
            )

    def is_faulty(self, path: Path) -> bool:
        """Say whether this key, or one that it lies in, was found at fault before."""
        return any(path[:end] in self._faults for end in range(1, len(path) + 1))

    def is_faulty_below(self, path: Path) -> bool:
        """Say whether anything in this key was found at fault, or the key itself."""
        return self.is_faulty(path) or any(
            known[: len(path)] == path for known in self._faults
        )

    def find_line(self, path: Path) -> int:
        """Give the line of a key, or of the nearest one around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 1

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults, by their lines."""
        return tuple(sorted(self._faults.values(), key=lambda fault: fault.line))

    def check(self) -> None:
        """Raise what was found.

        Raises:
            Faults: there was something.
        """
        if self.faults:
            raise Faults(refuse_all(self.faults))


def refuse_all(faults: Iterable[Fault]) -> list[SubletError]:
    """Give each fault as the error that faces show."""
    return [
        Refused(
            str(fault),
            code=fault.code,
            field=fault.key,
            detail={"file": fault.file, "line": fault.line, "cure": fault.cure},
        )
        for fault in faults
    ]


def spell(path: Path) -> str:
    """Write a path as people do.

    >>> spell(("services", "web", "expose", 0, "port"))
    'services.web.expose[0].port'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + shorten(part)
    return text


def shorten(text: str) -> str:
    """A file's own words, short and without anything for a terminal."""
    clean = "".join(char if char.isprintable() else "?" for char in text)
    if len(clean) <= SHOWN_LENGTH_MAX:
        return clean
    return clean[: SHOWN_LENGTH_MAX - 1] + "…"
