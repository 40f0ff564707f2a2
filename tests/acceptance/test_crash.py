"""Some thirty kills of node, providers and database; the benchmark does ten thousand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLS = 30


@pytest.mark.sandbox
@pytest.mark.timeout(600)  # half a minute on an idle machine
def test_kills_lose_and_double_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.crash"],
        cwd=ROOT,
        env={**os.environ, "KILLS": str(KILLS), "SEED": "11"},
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for whose in ("providers", "databases", "nodes"):
        assert f"now {whose}" in " ".join(done.stdout.split())
    words = done.stdout.strip().splitlines()[-1].split()
    assert words[:2] == ["result:", "crash"]
    figures = {name: int(value) for name, value in (x.split("=") for x in words[2:])}
    assert figures["kills"] == KILLS
    assert figures["acknowledged"] > 0
    assert figures["jobs"] > 0
    assert (figures["lost"], figures["created"], figures["doubled"]) == (0, 0, 0)
