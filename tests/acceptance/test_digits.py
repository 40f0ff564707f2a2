"""The example job is a real one: it learns, and it survives a kill without a trace."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "examples/digits/train.py"
SMALL = ["--hidden", "64", "--epochs", "24", "--every", "2"]

pytestmark = pytest.mark.registry


def command(*arguments: str) -> list[str]:
    """Run the script as a user would, with the dependencies at its head."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert uv, "uv comes with the provider extra"
    return [uv, "run", "--quiet", "--script", str(SCRIPT), *SMALL, *arguments]


def train(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the script to its end in this folder."""
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, check=False
    )


def test_resumed_run_ends_the_same(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train(whole).returncode == 0
    broken.mkdir()
    with subprocess.Popen(
        command(), cwd=broken, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 4/"):
                break
        os.killpg(process.pid, signal.SIGKILL)
    assert not (broken / "out").exists()

    done = train(broken)

    assert "going on after epoch" in done.stdout
    metrics = json.loads((broken / "out/metrics.json").read_text())
    assert metrics["resumed_after_epoch"] >= 4
    assert metrics["accuracy"] >= 0.95
    assert (broken / "out/confusion.png").read_bytes().startswith(b"\x89PNG")
    with (
        np.load(whole / "out/model.npz") as one,
        np.load(broken / "out/model.npz") as two,
    ):
        assert all(np.array_equal(one[name], two[name]) for name in one.files)


def test_bad_model_is_a_failure(tmp_path: Path) -> None:
    done = train(tmp_path / "strict", "--epochs", "1", "--accuracy", "0.999")
    assert done.returncode == 1
