"""The command line as a whole: light, lazy, one line for each error."""

import subprocess
import sys
from pathlib import Path

import pytest

from sublet.base.errors import Broken, Faults, PeerFault, Refused, Unavailable
from sublet.cli import root

HEAVY = ("aiohttp", "asyncssh", "coincurve", "msgspec", "numpy", "rich")
PROGRAM = """
import sys
from sublet.cli.root import run_command
code = run_command(["--help"])
print(code, sorted(set(sys.modules) & set({heavy!r})), file=sys.stderr)
"""


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip() == "0 []"
    for verb in root.VERBS:
        assert f"  {verb} " in done.stdout


def test_door_loads_next_to_nothing() -> None:
    program = (
        "import sys; before = set(sys.modules); import sublet.cli.main; "
        "print(len([m for m in sys.modules if m in ('typer', 'asyncio', 'typing', "
        "'msgspec', 'pathlib')]))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(root.__file__).parents[2])},
    )
    assert done.stdout.strip() == "0"


@pytest.mark.parametrize("verb", root.VERBS)
def test_every_verb_can_be_loaded(verb: str) -> None:
    assert root.find_command(verb) is not None


ERRORS = [
    (Refused("fix it"), 2, "sublet: fix it\n"),
    (Unavailable("later"), 3, "sublet: later\n"),
    (PeerFault("liar"), 4, "sublet: liar\n"),
    (Broken("fell"), 70, "sublet: fell\n"),
    (Faults([Refused("one"), Refused("two")]), 2, "sublet: one\nsublet: two\n"),
    (Refused("a\x1b[31mb"), 2, "sublet: a[31mb\n"),
]


@pytest.mark.parametrize(("fault", "code", "text"), ERRORS)
def test_error_is_a_line_and_a_code(
    capsys: pytest.CaptureFixture[str], fault: Exception, code: int, text: str
) -> None:
    assert root._tell(fault) == code
    assert capsys.readouterr().err == text
