"""The interpreter for jobs: it is there, and inside it has a path of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

from sublet.adapter.job_python import OWN_FOLDER, find_job_python, find_portable_python


def test_is_our_own_version() -> None:
    python = find_job_python()
    code = "import sys; print(sys.version_info[:3])"
    answer = subprocess.run(
        [python.outside, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == str(sys.version_info[:3])


def test_inside_is_reachable_by_a_bind() -> None:
    python = find_job_python()
    targets = [bind.target for bind in python.binds]
    assert python.inside.startswith(("/usr/", *targets))
    assert not any(bind.is_writable for bind in python.binds)


def test_portable_one_brings_all_that_it_needs(tmp_path: Path) -> None:
    python = find_portable_python()
    for bind in python.binds:
        assert bind.target.startswith(f"{OWN_FOLDER}/")
        place = tmp_path / bind.target.removeprefix(f"{OWN_FOLDER}/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if Path(bind.source).is_dir():
            place.symlink_to(bind.source)
        else:
            shutil.copy(bind.source, place)
    # It is another folder here than inside, and finds its own all the same.
    command = [word.replace(OWN_FOLDER, str(tmp_path)) for word in python.command]
    code = "import asyncio, os, sys; print(sys.prefix); print(os.environ)"
    answer = subprocess.run(
        [*command, "-I", "-S", "-c", code],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    prefix, env = answer.stdout.splitlines()
    assert prefix == str(tmp_path / "python")
    assert "LD_LIBRARY_PATH" not in env
