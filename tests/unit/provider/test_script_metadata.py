"""PEP 723 metadata from strangers: what is read, and what is refused."""

import pytest

from sublet.base.errors import Refused
from sublet.provider.script_metadata import (
    Requirements,
    check_python,
    read_requirements,
)


def script(block: str) -> str:
    lines = [f"# {line}".rstrip() for line in block.splitlines()]
    return "\n".join(
        ["#!/usr/bin/env python", "# /// script", *lines, "# ///", "print()"]
    )


GOOD = {
    "no metadata": ("print('hello')\n", Requirements()),
    "an empty script": ("", Requirements()),
    "a block of another type": ("# /// pyproject\n# x = 1\n# ///\n", Requirements()),
    "only a Python": (script('requires-python = ">=3.11"'), Requirements(">=3.11", ())),
    "sorted, each once, in normal form": (
        script('dependencies = ["numpy >= 1.26", "Pillow", "numpy>=1.26"]'),
        Requirements("", ("Pillow", "numpy>=1.26")),
    ),
    "over several lines, with a comment": (
        script(
            'dependencies = [\n  "six",  # old\n]\n\n[tool.uv]\nexclude-newer = "x"'
        ),
        Requirements("", ("six",)),
    ),
    "extras and markers": (
        script("dependencies = [\"ray[default]>=2; python_version<'3.14'\"]"),
        Requirements("", ('ray[default]>=2; python_version < "3.14"',)),
    ),
    "line ends of another system": (
        script('dependencies = ["six"]').replace("\n", "\r\n"),
        Requirements("", ("six",)),
    ),
}


@pytest.mark.parametrize(("text", "expected"), GOOD.values(), ids=GOOD)
def test_reads_what_a_script_needs(text: str, expected: Requirements) -> None:
    assert read_requirements(text) == expected


BAD = {
    "an option instead of a package": 'dependencies = ["--index-url=https://evil/"]',
    "an option behind a package": 'dependencies = ["six --no-build"]',
    "a URL": 'dependencies = ["six @ https://evil.example/six.whl"]',
    "a repository": 'dependencies = ["six @ git+https://evil.example/six"]',
    "a file of the host": 'dependencies = ["six @ file:///etc/passwd"]',
    "a path": 'dependencies = ["../../etc"]',
    "two lines in one": 'dependencies = ["six\\n--index-url https://evil/"]',
    "a requirements file": 'dependencies = ["-r /etc/passwd"]',
    "a number": "dependencies = [1]",
    "a text instead of a list": 'dependencies = "six"',
    "a very long requirement": f'dependencies = ["six{"x" * 600}"]',
    "very many requirements": "dependencies = [" + '"six",' * 300 + "]",
    "no specifier": 'requires-python = "three"',
    "a specifier of another type": "requires-python = 3.11",
    "an unknown key": 'dependences = ["six"]',
    "no TOML": "dependencies = [",
}


@pytest.mark.parametrize("block", BAD.values(), ids=BAD)
def test_refuses_what_is_no_requirement(block: str) -> None:
    with pytest.raises(Refused):
        read_requirements(script(block))


def test_refuses_two_blocks() -> None:
    block = '# /// script\n# dependencies = ["six"]\n# ///\n'
    with pytest.raises(Refused, match="more than one"):
        read_requirements(block + "\n" + block)


def test_refuses_too_much_metadata() -> None:
    comment = "\n".join(["# padding"] * 10_000)
    with pytest.raises(Refused, match="larger"):
        read_requirements(script(comment))


def test_names_all_faults_at_once() -> None:
    with pytest.raises(Refused) as caught:
        read_requirements(script('colour = 1\ndependencies = ["a b", "--x"]'))
    assert len(caught.value.message.splitlines()) == 3


def test_reads_a_hostile_script_in_time() -> None:
    # An unclosed block of many lines must not make the expression try all splits.
    assert read_requirements("# /// script\n" + "#\n" * 20_000) == Requirements()


@pytest.mark.parametrize("wanted", ["", ">=3.11", ">=3.11,<3.12", "==3.11.*"])
def test_accepts_a_suitable_python(wanted: str) -> None:
    check_python(Requirements(wanted), version="3.11.7")


@pytest.mark.parametrize("wanted", [">=3.12", "<3.11", "==3.10.*"])
def test_refuses_an_unsuitable_python(wanted: str) -> None:
    with pytest.raises(Refused, match=r"this provider has 3\.11\.7") as caught:
        check_python(Requirements(wanted), version="3.11.7")
    assert caught.value.code == "unsuitable_python"
