"""The program of a step's workers: environments, messages, timeouts, what comes back."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sublet.workload.map.harness import STDOUT_BYTES_MAX
from sublet.workload.openjd import session

ROOT = "/root-of-the-tenant"
HERE = f"{ROOT}/session"


def act(text: str, *, timeout_s: float = 0, notify_s: float = 0) -> dict[str, Any]:
    """Write an action that is a shell script."""
    return {
        "command": "bash",
        "args": ["-c", text],
        "timeout_s": timeout_s,
        "notify_s": notify_s,
    }


def environment(name: str, **given: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"variables": {}, "files": [], "enter": None, "exit": None}
    return {"name": name, **empty, **given}


class Ended(NamedTuple):
    """What came of a task, or of the last of several."""

    returncode: int
    stdout: str  # of its actions
    stderr: str
    said: list[dict[str, Any]]


def run(folder: Path, *actions: Any, files: Any = (), is_kept: bool = False) -> Ended:
    """Run one task as a worker does: its action, then the environments around it."""
    tasks = [{"files": list(files), "run": actions[0]}]
    return run_all(folder, tasks, *actions[1:], is_kept=is_kept)


def run_all(
    folder: Path, tasks: list[Any], *environments: Any, is_kept: bool = True
) -> Ended:
    step = {
        "root": ROOT,
        "session": HERE,
        "is_kept": is_kept,
        "folders": ["job/template/out"],
        "path_mapping": {"version": "pathmapping-1.0", "path_mapping_rules": []},
        "environments": environments,
    }
    (folder / "step.json").write_text(json.dumps(step))
    lines = []
    for number, task in enumerate(tasks):
        place = folder / f"files{number or ''}"
        place.mkdir(exist_ok=True)
        lines.append(json.dumps({"task": "x", "data": task, "output": str(place)}))
    ended = subprocess.run(
        [sys.executable, session.__file__],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "GIVEN": "1"},
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    said = [json.loads(line) for line in ended.stdout.splitlines()]
    done = [one for one in said if "done" in one]
    assert len(done) == len(tasks)
    output = "".join(one["result"]["output"] for one in done)
    return Ended(done[-1]["exit_code"], output, ended.stderr, said)


def test_puts_what_changed_where_it_is_fetched(tmp_path: Path) -> None:
    old = tmp_path / "job/template/in.txt"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    (tmp_path / "job/template/same.txt").write_text("same")
    text = (
        f"pwd; echo new > {ROOT}/job/template/out/a.txt; echo trash > here.txt; "
        f"echo longer > {ROOT}/job/template/in.txt; ln -s / {ROOT}/job/template/link"
    )
    ended = run(tmp_path, act(text))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{tmp_path}/session\n"
    kept = {p.name: p for p in (tmp_path / "files").rglob("*") if p.is_file()}
    assert kept.keys() == {"a.txt", "in.txt"}
    assert kept["a.txt"].relative_to(tmp_path / "files") == Path("template/out/a.txt")
    assert not (tmp_path / "session").exists()


def test_environments_are_entered_and_left_in_order(tmp_path: Path) -> None:
    outer = environment(
        "outer",
        variables={"A": "1", "B": "1"},
        enter=act(
            "echo in-outer $A $B; echo openjd_env: C=3; echo openjd_unset_env: B"
        ),
        exit=act("echo out-outer $A ${B-none} $C ${D-none}"),
    )
    inner = environment(
        "inner",
        variables={"A": "2"},
        enter=act("echo 'openjd_env: \"D=x\\ny\"'; echo in-inner $A ${B-none} $C"),
        exit=act('echo out-inner $A "$D"'),
    )
    task = act('echo task $A ${B-none} $C "$D" $GIVEN; echo openjd_env: C=no')
    ended = run(tmp_path, task, outer, inner)
    assert ended.returncode == 0, ended.stderr
    shown = [one for one in ended.stdout.splitlines() if not one.startswith("openjd")]
    assert shown == [
        "in-outer 1 1",
        "in-inner 2 none 3",
        "task 2 none 3 x",
        "y 1",
        "out-inner 2 x",
        "y",
        "out-outer 1 none 3 none",
    ]


def test_failed_environment_is_left_and_no_task_runs(tmp_path: Path) -> None:
    first = environment("first", exit=act("echo left first"))
    bad = environment(
        "bad",
        enter=act("echo openjd_fail: no licence; exit 7"),
        exit=act("echo left bad"),
    )
    never = environment("never", enter=act("echo never"))
    ended = run(tmp_path, act("echo task"), first, bad, never)
    assert ended.returncode == 7
    assert "never" not in ended.stdout
    assert "task" not in ended.stdout
    assert ended.stdout.index("left bad") < ended.stdout.index("left first")
    assert ended.stderr == (
        "openjd_fail: no licence\n"
        "openjd: onEnter of bad failed with exit code 7: no licence\n"
    )


def test_failed_task_says_how_far_it_came(tmp_path: Path) -> None:
    text = (
        "echo openjd_progress: 40; echo openjd_progress: 400; "
        "echo openjd_status: loading; echo openjd_fail: no disk >&2; exit 3"
    )
    left = environment("left", exit=act("echo left"))
    ended = run(tmp_path, act(text), left)
    assert ended.returncode == 3
    assert "onRun failed with exit code 3, at 40 %, last at: loading: no disk" in (
        ended.stderr
    )
    assert ended.stdout.endswith("left\n")
    told = [(one["progress"], one["text"]) for one in ended.said if "done" not in one]
    assert told == [(0.4, ""), (0.4, "loading")]


def test_environment_that_cannot_be_left_fails_the_task(tmp_path: Path) -> None:
    ended = run(tmp_path, act("true"), environment("sticky", exit=act("exit 9")))
    assert ended.returncode == 9


@pytest.mark.parametrize(
    "line",
    [
        "openjd_env: 1A=x",  # no name of a variable
        "openjd_env: A",  # no value
        'openjd_env: "A=x',  # no JSON
        "OpenJD_env: A=x",  # as the library has it: nearly right is wrong
        "openjd_unset_env: A=x",
    ],
)
def test_malformed_message_fails_the_action(tmp_path: Path, line: str) -> None:
    began_s = time.monotonic()
    enter = act(f"echo '{line}'; sleep 50")
    ended = run(tmp_path, act("echo task"), environment("odd", enter=enter))
    assert ended.returncode not in (0, 7)
    assert "onEnter of odd failed" in ended.stderr
    assert "task" not in ended.stdout
    assert time.monotonic() - began_s < 45


def test_like_looking_words_are_output(tmp_path: Path) -> None:
    ended = run(tmp_path, act("echo openjd_environment: ready; echo openjd_env_x: y"))
    assert (ended.returncode, len(ended.stdout.splitlines())) == (0, 2)


def test_redacted_values_are_not_shown(tmp_path: Path) -> None:
    enter = act("echo 'openjd_redacted_env: \"KEY=top\\nsecret\"'")
    text = 'echo "$KEY"; echo it is topsecret; echo openjd_fail: $KEY; exit 1'
    ended = run(tmp_path, act(text), environment("key", enter=enter))
    assert "secret" not in ended.stdout + ended.stderr
    assert ended.stdout.count(session.REDACTED) >= 4


def test_timeout_kills_the_whole_tree(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    # Its grandchild is in a session of its own, and its parent gone.
    text = f"(setsid sleep 30; touch {mark}) & sleep 30"
    began_s = time.monotonic()
    ended = run(tmp_path, act(text, timeout_s=0.5))
    assert ended.returncode == session.EXIT_TIMEOUT
    assert "it took longer than 0.5 s" in ended.stderr
    assert time.monotonic() - began_s < 25
    left = subprocess.run(
        ["pgrep", "-f", str(mark)], capture_output=True, text=True, check=False
    )
    assert left.stdout == ""


def test_notice_comes_before_the_end(tmp_path: Path) -> None:
    text = "trap 'cat cancel.info; exit 5' TERM; while :; do sleep 0.05; done"
    ended = run(tmp_path, act(text, timeout_s=0.5, notify_s=40))
    assert "NotifyEnd = 20" in ended.stdout
    assert ended.returncode == session.EXIT_TIMEOUT


def test_background_process_of_an_environment_lives_until_the_end(
    tmp_path: Path,
) -> None:
    server = environment(
        "server",
        enter=act("(while :; do sleep 0.05; done) & echo openjd_env: SERVER=$!"),
        exit=act("kill -0 $SERVER && echo alive"),
    )
    ended = run(tmp_path, act("kill -0 $SERVER && echo there"), server)
    assert (ended.returncode, ended.stderr) == (0, "")
    shown = [one for one in ended.stdout.splitlines() if not one.startswith("openjd")]
    assert shown == ["there", "alive"]


def test_embedded_files_are_written(tmp_path: Path) -> None:
    file = {
        "path": f"{HERE}/files/task/x.sh",
        "data": "echo from $0",
        "runnable": False,
    }
    runnable = {
        "path": f"{HERE}/files/task/y.sh",
        "data": f"#!/bin/sh\necho {ROOT}\n",
        "runnable": True,
    }
    text = f"bash {HERE}/files/task/x.sh; {HERE}/files/task/y.sh; cat path_mapping.json"
    ended = run(tmp_path, act(text), files=[file, runnable])
    lines = ended.stdout.splitlines()
    assert lines[0] == f"from {tmp_path}/session/files/task/x.sh"
    assert lines[1] == str(tmp_path)
    assert json.loads(lines[2])["version"] == "pathmapping-1.0"


def test_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    action = {**act(""), "command": "no-such-program"}
    ended = run(tmp_path, action)
    assert ended.returncode == session.EXIT_NOT_FOUND
    assert "no-such-program: No such file or directory" in ended.stderr


def test_long_lines_are_output_and_nothing_else(tmp_path: Path) -> None:
    size = 2 * session.LINE_BYTES_MAX
    text = f"printf 'x%.0s' $(seq {size}); echo; echo openjd_fail: seen; exit 1"
    ended = run(tmp_path, act(text))
    assert ended.stdout.count("x") == size
    assert "seen" in ended.stderr


def test_only_the_last_of_the_output_travels(tmp_path: Path) -> None:
    # The dearest characters in JSON: six bytes each.
    text = "for n in $(seq 30); do head -c 10000 /dev/zero; echo $n; done"
    ended = run(tmp_path, act(text))
    assert len(ended.stdout) <= session.OUTPUT_LENGTH_MAX
    assert ended.stdout.endswith("30\n")
    assert len(json.dumps(ended.said[-1]).encode()) < STDOUT_BYTES_MAX


def test_kept_session_is_entered_once(tmp_path: Path) -> None:
    enter = act("echo entered; echo openjd_env: ONE=1; echo 1 > mark")
    tasks = [
        {"files": [], "run": act(f"cat mark; echo {n} > {ROOT}/job/template/out/f{n}")}
        for n in range(3)
    ]
    ended = run_all(tmp_path, tasks, environment("one", enter=enter))
    shown = [x for x in ended.stdout.splitlines() if not x.startswith("openjd")]
    assert shown == ["entered", "1", "1", "1"]
    # Each task has its own files, and not those of the ones before it.
    for n in range(3):
        place = tmp_path / f"files{n or ''}/template/out"
        assert [one.name for one in place.iterdir()] == [f"f{n}"]


def test_kept_session_ends_with_a_failure(tmp_path: Path) -> None:
    enter = act("echo entered")
    tasks = [{"files": [], "run": act(text)} for text in ("true", "exit 4", "true")]
    ended = run_all(tmp_path, tasks, environment("one", enter=enter))
    assert ended.stdout.splitlines() == ["entered", "entered"]
    codes = [one["exit_code"] for one in ended.said if "done" in one]
    assert codes == [0, 4, 0]
