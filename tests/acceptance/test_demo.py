"""``make demo`` keeps every promise that it checks, and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples/digits/demo.py"

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.registry,
    pytest.mark.timeout(900),
]


def test_job_outlives_its_machine(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]
    assert "SIGKILL to all of" in done.stdout
    assert (tmp_path / "demo-output/confusion.png").read_bytes().startswith(b"\x89PNG")
