"""What a Python script says it needs: inline metadata, PEP 723. Pure.

Read strictly, because it comes from a stranger and ends up in a command line: known
keys only, plain requirements by name only (PEP 508; no URLs, no paths, no options),
everything limited.
"""

import re
import tomllib
from typing import Any

from msgspec import Struct
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from sublet.base.errors import Faults, Refused, SubletError

SCRIPT_BYTES_MAX = 4 << 20  # of a script whose head is looked at
METADATA_BYTES_MAX = 65_536
DEPENDENCIES_MAX = 256
REQUIREMENT_LENGTH_MAX = 512

# The expression that PEP 723 itself gives.
_BLOCK = re.compile(
    r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
)
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
    blocks = [
        match.group("content")
        for match in _BLOCK.finditer(script.replace("\r\n", "\n"))
        if match.group("type") == "script"
    ]
    if not blocks:
        return Requirements()
    if len(blocks) > 1:
        raise BadScriptMetadata(
            "the script has more than one '# /// script' block; keep one"
        )
    lines = [line[2:] for line in blocks[0].splitlines()]
    text = "\n".join(lines)
    if len(text) > METADATA_BYTES_MAX:
        raise BadScriptMetadata(
            f"the script's metadata is larger than {METADATA_BYTES_MAX} bytes"
        )
    try:
        return check_metadata(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadScriptMetadata(
            f"the script's metadata is not TOML: {error}"
        ) from error


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
    except InvalidRequirement as error:
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
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        return False
    return len(text) <= REQUIREMENT_LENGTH_MAX
