"""What a Python script says it needs: inline metadata, PEP 723. Pure.

Read strictly, because it comes from a stranger and ends up in a command line: known
keys only, plain requirements by name only (PEP 508; no URLs, no paths, no options),
everything limited.
"""

import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from sublet.base.errors import Faults, Refused, SubletError
from sublet.base.toml import BadToml, parse_toml

SCRIPT_BYTES_MAX = 4 << 20  # of a script whose head is looked at
METADATA_LENGTH_MAX = 65_536  # characters
DEPENDENCIES_MAX = 256
REQUIREMENT_LENGTH_MAX = 512

_FIRST = re.compile(r"# /// (?P<type>[a-zA-Z0-9-]+)\Z")
_LAST = "# ///"
_KEYS = {"dependencies", "requires-python", "tool"}


class BadScriptMetadata(Refused):
    """The script's ``# /// script`` block cannot be used; write it as PEP 723 says."""

    code = "bad_script_metadata"


class Requirements(Struct, frozen=True):
    """What a script needs, in normal form: sorted, each once."""

    requires_python: str = ""  # "" for any
    dependencies: tuple[str, ...] = ()


def read_requirements(script: str) -> Requirements:
    """Read the script block of a Python file; a file without one needs nothing.

    Raises:
        Refused: the block is broken.
        Faults: values in it are wrong; all of them are listed.
    """
    if len(script) > SCRIPT_BYTES_MAX:
        raise BadScriptMetadata(f"the script is larger than {SCRIPT_BYTES_MAX} bytes")
    blocks = [text for kind, text in _find_blocks(script) if kind == "script"]
    if not blocks:
        return Requirements()
    if len(blocks) > 1:
        raise BadScriptMetadata(
            "the script has more than one '# /// script' block; keep one"
        )
    try:
        metadata = parse_toml(blocks[0], length_max=METADATA_LENGTH_MAX)
    except BadToml as error:
        raise BadScriptMetadata(
            f"the script's metadata is not TOML: {error}"
        ) from error
    return check_metadata(metadata)


def _find_blocks(script: str) -> Iterator[tuple[str, str]]:
    """Give the type and the content of each block, as PEP 723's expression has them.

    That expression takes time by the square of a long comment; this takes each line
    once. A block ends at the last end line of its comment.
    """
    comment: list[str] = []
    for line in [*script.replace("\r\n", "\n").split("\n"), ""]:
        if line == "#" or line.startswith("# "):
            comment.append(line)
            continue
        yield from _find_block(comment)
        comment = []


def _find_block(comment: list[str]) -> Iterator[tuple[str, str]]:
    last = len(comment) - 1
    while last > 1 and comment[last] != _LAST:
        last -= 1
    for number in range(last - 1):  # one line of content at least
        if first := _FIRST.match(comment[number]):
            lines = (line[2:] for line in comment[number + 1 : last])
            yield first["type"], "\n".join(lines)
            return


def check_metadata(metadata: dict[str, Any]) -> Requirements:
    """Check the keys and values of a script block.

    Raises:
        Faults: what is wrong, all of it.
    """
    faults: list[SubletError] = [
        BadScriptMetadata(f"unknown key {key!r} in the script's metadata; remove it")
        for key in sorted(metadata.keys() - _KEYS)
    ]
    python = metadata.get("requires-python", "")
    listed = metadata.get("dependencies", [])
    if not isinstance(python, str) or not _is_specifier(python):
        faults.append(
            BadScriptMetadata(f"requires-python {python!r} is not like '>=3.11'")
        )
    if not isinstance(listed, list) or len(listed) > DEPENDENCIES_MAX:
        faults.append(
            BadScriptMetadata(f"dependencies is not a list of up to {DEPENDENCIES_MAX}")
        )
        listed = []
    dependencies = set()
    for requirement in listed:
        try:
            dependencies.add(check_requirement(requirement))
        except Refused as fault:
            faults.append(fault)
    if faults:
        raise Faults(faults)
    return Requirements(python, tuple(sorted(dependencies)))


def check_requirement(text: object) -> str:
    """Give a requirement in normal form.

    Raises:
        Refused: it is not one, or it points past the registry.

    >>> check_requirement("NumPy >= 1.26,<3 ; python_version > '3.8'")
    'NumPy<3,>=1.26; python_version > "3.8"'
    """
    if not isinstance(text, str) or len(text) > REQUIREMENT_LENGTH_MAX:
        raise BadScriptMetadata(
            f"a dependency is a text of up to {REQUIREMENT_LENGTH_MAX} characters"
        )
    try:
        requirement = Requirement(text)
    except (InvalidRequirement, InvalidSpecifier, RecursionError) as error:
        line = " ".join(str(error).split())
        raise BadScriptMetadata(
            f"dependency {text!r} cannot be read: {line}"
        ) from error
    if requirement.url:
        raise BadScriptMetadata(
            f"dependency {text!r} is not from the package registry; name a package "
            "and a version, or ship the code as --input"
        )
    return str(requirement)


def check_python(requirements: Requirements, *, version: str) -> None:
    """Check that this Python is one that the script accepts.

    Raises:
        Refused: it is not.
    """
    wanted = SpecifierSet(requirements.requires_python)
    if not wanted.contains(Version(version), prereleases=True):
        raise Refused(
            f"the script requires Python {wanted}, this provider has {version}; "
            "relax requires-python or order elsewhere",
            code="unsuitable_python",
            field="requires-python",
        )


def _is_specifier(text: str) -> bool:
    if len(text) > REQUIREMENT_LENGTH_MAX:
        return False
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        return False
    return True
