"""Runs tasks in the sandbox, one after the other: the program of a worker's lease.

It travels as text and knows the standard library only. Tasks lie in ``.sublet/in``
(see ``clerk``); what came of each goes to ``.sublet/out/TASK.json``, the files that it
left in ``$SUBLET_OUTPUT`` to ``.sublet/out/TASK/``. A file is renamed into place when
it is whole, so whoever looks sees all of it or nothing; nothing is lost when the
tenant's connection breaks.
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BOX = Path(".sublet")
STDOUT_BYTES_MAX = 1_048_576  # of one task, that travel with its result
STDERR_BYTES_MAX = 16_384  # the end of it
POLL_S = 0.02
REST_S = 0.005  # between two looks for a task, longer while there is none
REST_S_MAX = 0.05
EXIT_NOT_FOUND = 127


def main() -> None:
    """Say that we are here, then run what comes, for as long as the lease lasts."""
    for name in ("in", "out", "cancel", "run"):
        (BOX / name).mkdir(parents=True, exist_ok=True)
    # For the clerk, whose sandbox has no environment of ours.
    write_whole(BOX / "python", os.path.realpath(sys.executable).encode())
    rest_s = REST_S
    while True:
        places = sorted((BOX / "in").glob("*.json"))
        if places:
            run_next(places[0])
            rest_s = REST_S
        else:
            time.sleep(rest_s)
            rest_s = min(rest_s * 1.5, REST_S_MAX)


def run_next(place: Path) -> None:
    """Run the task in this file, write down what came of it, forget the file."""
    task = json.loads(place.read_bytes())
    result = run(task)
    number = task["task"]
    write_whole(BOX / "out" / f"{number}.json", json.dumps(result).encode())
    place.unlink(missing_ok=True)


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Run one task to its end; give its result."""
    number = task["task"]
    files = BOX / "out" / str(number)
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    streams = {name: BOX / "run" / name for name in ("stdin", "stdout", "stderr")}
    streams["stdin"].write_bytes(base64.b64decode(task["stdin"]))
    began_s = time.monotonic()
    outcome, code = "failed", EXIT_NOT_FOUND
    with (
        streams["stdin"].open("rb") as stdin,
        streams["stdout"].open("wb") as stdout,
        streams["stderr"].open("wb") as stderr,
    ):
        env = {**os.environ, **task["env"], "SUBLET_OUTPUT": str(files.absolute())}
        env["SUBLET_TASK"] = task["id"]
        # A script's own interpreter is the one of its environment.
        argv = [sys.executable if word == "{python}" else word for word in task["head"]]
        try:
            process = subprocess.Popen(
                [*argv, *task["args"]],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=env,
                start_new_session=True,
            )
        except OSError as error:
            stderr.write(f"{argv[0]}: {error.strerror}\n".encode())
        else:
            outcome, code = wait(process, task, began_s)
    ran_ms = int((time.monotonic() - began_s) * 1_000)
    content = streams["stdout"].read_bytes()
    return {
        "task": number,
        "outcome": outcome,
        "exit_code": code,
        "ran_ms": ran_ms,
        "stdout": base64.b64encode(content[:STDOUT_BYTES_MAX]).decode(),
        "stdout_bytes": len(content),
        "stderr": base64.b64encode(
            streams["stderr"].read_bytes()[-STDERR_BYTES_MAX:]
        ).decode(),
        "has_files": any(files.iterdir()),
    }


def wait(
    process: "subprocess.Popen[bytes]", task: dict[str, Any], began_s: float
) -> tuple[str, int]:
    """Wait until a task ends, takes too long or is not wanted any more."""
    cancel = BOX / "cancel" / str(task["task"])
    limit_s = task["timeout_s"]
    outcome = ""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            break
        if cancel.exists():
            outcome = "cancelled"
        elif limit_s and time.monotonic() - began_s > limit_s:
            outcome = "timeout"
        if outcome:
            kill(process)
            process.wait()
            break
    kill(process)  # what it left behind runs on nobody's account
    code = process.returncode
    code = 128 - code if code < 0 else code
    return outcome or ("failed" if code else "done"), code


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a task with all of its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def write_whole(place: Path, content: bytes) -> None:
    """Write a file so that nobody sees half of it."""
    draft = place.with_name(place.name + ".part")
    draft.write_bytes(content)
    draft.rename(place)


if __name__ == "__main__":
    main()
