"""The interpreter for jobs: it is there, and inside it has a path of its own."""

import subprocess
import sys

from sublet.adapter.job_python import find_job_python


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
