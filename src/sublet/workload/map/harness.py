"""Runs tasks in the sandbox, one after the other: the program of a worker's lease.

It travels as text and knows the standard library only. Tasks lie in ``.sublet/in``
(see ``clerk``); what came of each goes to ``.sublet/out/TASK.json``, the files that it
left in ``$SUBLET_OUTPUT`` to ``.sublet/out/TASK/``. A file is renamed into place when
it is whole, so whoever looks sees all of it or nothing; nothing is lost when the
tenant's connection breaks.

A program is run once for each task, or, where it is *warm*, started once: then it is
given a JSON line a task on its standard input and answers on its standard output,
``{"progress": 0.5, "text": "..."}`` as often as it likes and ``{"done": true,
"exit_code": 0, "result": ...}`` at the end. One that ends, takes too long, is not wanted
any more or says anything else is killed, and started anew for the next task.

Our own standard output is covered by the provider's signed receipt. On it goes one line
for each task that has ended, before its result can be seen: what binds the provider to
the result (``core.task.commitment``).
"""

import base64
import contextlib
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

BOX = Path(".sublet")
STDOUT_BYTES_MAX = 1_048_576  # of one task, that travel with its result
STDERR_BYTES_MAX = 16_384  # the end of it
STDERR_FILE_MAX = 4_194_304  # that a warm program may write before the file is cut
LINE_BYTES_MAX = STDOUT_BYTES_MAX  # of a warm program
TEXT_MAX = 200  # characters of a progress line that travel
SHARE_MAX = 1_000_000  # what is above 1 counts as 1; what is above this as nonsense
PROGRESS_S = 1.0  # between two that do
POLL_S = 0.02
LAST_WORD_S = 1.0  # for a program that has closed its output to end by itself
REST_S = 0.005  # between two looks for a task, longer while there is none
REST_S_MAX = 0.05
EXIT_NOT_FOUND = 127
KILLED = 128 + signal.SIGKILL
EXIT_SPOILT = 76  # EX_PROTOCOL: a warm program that does not keep to its words
FIRST_TO_KILL = b"1000"  # where memory runs out: the task's program, never this one


class Ended(NamedTuple):
    """What came of a program's run."""

    outcome: str  # done, failed, timeout, stalled, cancelled
    exit_code: int
    stdout: bytes
    stderr: bytes


class Spoilt(Exception):
    """A warm program that cannot be asked anything more, and why."""


def main() -> None:
    """Say that we are here, then run what comes, for as long as the lease lasts."""
    for name in ("in", "out", "cancel", "run"):
        (BOX / name).mkdir(parents=True, exist_ok=True)
    # For the clerk, whose sandbox has no environment of ours.
    write_whole(BOX / "python", os.path.realpath(sys.executable).encode())
    shelf = Shelf()
    rest_s = REST_S
    while True:
        places = sorted((BOX / "in").glob("*.json"))
        if places:
            run_next(places[0], shelf)
            rest_s = REST_S
        else:
            time.sleep(rest_s)
            rest_s = min(rest_s * 1.5, REST_S_MAX)


def run_next(place: Path, shelf: "Shelf") -> None:
    """Run the task in this file, write down what came of it, forget the file."""
    task = json.loads(place.read_bytes())
    result = run(task, shelf)
    number = task["task"]
    write_whole(BOX / "out" / f"{number}.json", json.dumps(result).encode())
    place.unlink(missing_ok=True)


def run(task: dict[str, Any], shelf: "Shelf") -> dict[str, Any]:
    """Run one task to its end; give its result."""
    number = task["task"]
    files = BOX / "out" / str(number)
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    watch = Watch(task)
    do = shelf.run if "warm" in task else run_once
    ended = do(task, files, watch)
    commit(task, ended)
    ran_ms = int((time.monotonic() - watch.began_s) * 1_000)
    return {
        "task": number,
        "outcome": ended.outcome,
        "exit_code": ended.exit_code,
        "ran_ms": ran_ms,
        "stdout": base64.b64encode(ended.stdout[:STDOUT_BYTES_MAX]).decode(),
        "stdout_bytes": len(ended.stdout),
        "stderr": base64.b64encode(ended.stderr[-STDERR_BYTES_MAX:]).decode(),
        "has_files": any(files.iterdir()),
    }


def commit(task: dict[str, Any], ended: Ended) -> None:
    """Write the line that binds us to what came of a task."""
    keys = ("args", "env", "stdin")
    given = task["warm"] if "warm" in task else {key: task[key] for key in keys}
    parts = (json.dumps(given, sort_keys=True).encode(), ended.stdout)
    both = b"".join(hashlib.sha256(part).digest() for part in parts)
    line = {"task": task["id"], "hash": hashlib.sha256(both).hexdigest()}
    with contextlib.suppress(OSError):  # without it the tenant will not take the result
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


class Watch:
    """Says when a task must end: not wanted any more, too long, without progress."""

    told_s = float("-inf")  # when it was last told how far a task is, whichever it was

    def __init__(self, task: dict[str, Any]) -> None:
        """Begin to watch a task; its time counts from here."""
        self.task = task
        self.began_s = self._moved_s = time.monotonic()
        self._cancel = BOX / "cancel" / str(task["task"])
        self._sign: Any = None
        self._untold: dict[str, Any] | None = None

    def tell(self, said: dict[str, Any]) -> None:
        """Take how far it is; the newest is handed on, one a second at most."""
        share = min(max(float(said["progress"]), 0.0), 1.0)
        text = said.get("text", "")[:TEXT_MAX].encode(errors="replace").decode()
        if self._sign == (share, text):
            return  # the same again is no progress
        self._sign, self._moved_s = (share, text), time.monotonic()
        self._untold = {"task": self.task["task"], "progress": share, "text": text}

    def judge(self) -> str:
        """Say why the task must end now, or ""."""
        now_s = time.monotonic()
        if self._untold and now_s - Watch.told_s > PROGRESS_S:
            write_whole(BOX / "progress", json.dumps(self._untold).encode())
            self._untold, Watch.told_s = None, now_s
        if self._cancel.exists():
            return "cancelled"
        limit_s, stall_s = self.task["timeout_s"], self.task.get("stall_s", 0)
        if limit_s and now_s - self.began_s > limit_s:
            return "timeout"
        if stall_s and now_s - self._moved_s > stall_s:
            return "stalled"
        return ""


# ---- a program for each task --------------------------------------------------------


def run_once(task: dict[str, Any], files: Path, watch: Watch) -> Ended:
    """Run a program for one task to its end."""
    streams = {name: BOX / "run" / name for name in ("stdin", "stdout", "stderr")}
    streams["stdin"].write_bytes(base64.b64decode(task["stdin"]))
    outcome, code = "failed", EXIT_NOT_FOUND
    with (
        streams["stdin"].open("rb") as stdin,
        streams["stdout"].open("wb") as stdout,
        streams["stderr"].open("wb") as stderr,
    ):
        env = {**os.environ, **task["env"], "SUBLET_OUTPUT": str(files.absolute())}
        env["SUBLET_TASK"] = task["id"]
        try:
            process = subprocess.Popen(
                make_argv(task),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=env,
                start_new_session=True,
            )
        except OSError as error:
            stderr.write(f"{task['head'][0]}: {error.strerror}\n".encode())
        else:
            offer_to_kill(process)
            outcome, code = wait(process, streams, watch)
    stdout_, stderr_ = streams["stdout"].read_bytes(), streams["stderr"].read_bytes()
    return Ended(outcome, code, stdout_, stderr_)


def make_argv(task: dict[str, Any]) -> list[str]:
    """Give the command; a script's own interpreter is the one of its environment."""
    head = [sys.executable if word == "{python}" else word for word in task["head"]]
    return [*head, *task["args"]]


def wait(
    process: "subprocess.Popen[bytes]", streams: dict[str, Path], watch: Watch
) -> tuple[str, int]:
    """Wait until a task ends, or must."""
    outcome, printed = "", 0
    while not outcome:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            break
        before = printed
        printed = sum(streams[name].stat().st_size for name in ("stdout", "stderr"))
        if watch.task.get("stall_s") and printed != before:
            watch.tell({"progress": 0, "text": f"{printed} bytes printed"})
        outcome = watch.judge()
    kill(process)  # what it left behind runs on nobody's account
    code = find_code(process.wait())
    return outcome or ("failed" if code else "done"), code


# ---- one program for all tasks ------------------------------------------------------


class Shelf:
    """Where the warm program stands between two tasks."""

    def __init__(self) -> None:
        """Begin without one; the first task starts it."""
        self._program: WarmProgram | None = None

    def run(self, task: dict[str, Any], files: Path, watch: Watch) -> Ended:
        """Have the warm program do one task; start it where there is none."""
        if self._program is not None and not self._program.is_fit():
            self._drop()
        if self._program is None:
            try:
                self._program = WarmProgram(make_argv(task))
            except OSError as error:
                text = f"{task['head'][0]}: {error.strerror}\n"
                return Ended("failed", EXIT_NOT_FOUND, b"", text.encode())
        program = self._program
        line = json.dumps(
            {"task": task["id"], **task["warm"], "output": str(files.absolute())}
        )
        try:
            outcome, code, stdout = program.ask(line.encode() + b"\n", watch)
        except Spoilt as fault:
            code = self._drop() or EXIT_SPOILT
            why = f"{fault} (perhaps it lacked memory)" if code == KILLED else fault
            note = f"sublet: the warm program was ended: {why}\n".encode()
            return Ended("failed", code, b"", program.take_stderr() + note)
        if outcome not in ("done", "failed"):
            code = self._drop()
        return Ended(outcome, code, stdout, program.take_stderr())

    def _drop(self) -> int:
        """End the program with all of its group; give the code that it ended with."""
        program, self._program = self._program, None
        return program.end() if program is not None else 0


class WarmProgram:
    """A program that was started once and is asked again and again."""

    def __init__(self, argv: list[str]) -> None:
        """Start it; OSError: why it cannot be."""
        self._place = BOX / "run" / "stderr"
        self._place.unlink(missing_ok=True)
        self._kept = b""  # the end of a stderr that was cut
        self._heard = bytearray()
        with self._place.open("ab") as stderr:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        offer_to_kill(self._process)
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise AssertionError("both are pipes")
        self._pipes = (stdin, stdout)
        self._stdin, self._stdout = stdin.fileno(), stdout.fileno()
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)

    def is_fit(self) -> bool:
        """Say whether it waits for a task: alive, and silent unless it is asked."""
        with contextlib.suppress(Spoilt):
            self._hear()
            return not self._heard and self._process.poll() is None
        return False

    def ask(self, line: bytes, watch: Watch) -> tuple[str, int, bytes]:
        """Give it a task; give outcome, exit code and result.

        Raises:
            Spoilt: it ended, or said what it must not.
        """
        rest = memoryview(line)
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        poll.register(self._stdin, select.POLLOUT)
        while True:
            if outcome := watch.judge():
                return outcome, 0, b""
            poll.poll(POLL_S * 1_000)
            rest = self._say(rest)
            if not rest:
                with contextlib.suppress(KeyError):
                    poll.unregister(self._stdin)
            self._hear()
            while (said := self._take_line()) is not None:
                if "done" not in said:
                    watch.tell(said)
                    continue
                if rest:
                    raise Spoilt("it was done before it knew with what")
                code = said.get("exit_code", 0)
                return ("failed" if code else "done"), code, write_result(said)
            self._cut_stderr()

    def end(self) -> int:
        """Kill it with all of its group; give its own exit code, if it had ended."""
        code = self._process.poll()
        kill(self._process)
        self._process.wait()
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.close()
        return 0 if code is None else find_code(code)  # that of our kill is not its own

    def take_stderr(self) -> bytes:
        """Give what it printed there since it was last asked; the end of it."""
        content = self._kept + self._place.read_bytes()[-STDERR_BYTES_MAX:]
        self._kept = b""
        os.truncate(self._place, 0)
        return content

    def _cut_stderr(self) -> None:
        if self._place.stat().st_size > STDERR_FILE_MAX:
            self._kept = self.take_stderr()[-STDERR_BYTES_MAX:]

    def _say(self, rest: memoryview) -> memoryview:
        try:
            return rest[os.write(self._stdin, rest) :] if rest else rest
        except BlockingIOError:
            return rest
        except OSError:  # it reads nothing any more
            raise Spoilt("it ended without an answer") from None

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(self._heard) <= LINE_BYTES_MAX:
                content = os.read(self._stdout, 65_536)
                if not content and b"\n" in self._heard:
                    return  # what it said before it ended counts
                if not content:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(LAST_WORD_S)
                    raise Spoilt("it ended without an answer")
                self._heard += content

    def _take_line(self) -> dict[str, Any] | None:
        end = self._heard.find(b"\n")
        if max(end, len(self._heard) if end < 0 else 0) > LINE_BYTES_MAX:
            raise Spoilt(f"it said more than {LINE_BYTES_MAX} bytes in one line")
        if end < 0:
            return None
        line = bytes(self._heard[:end])
        del self._heard[: end + 1]
        return read_said(line)


def read_said(line: bytes) -> dict[str, Any]:
    """Read what a warm program says; Spoilt: it is none of its two words."""
    try:
        said = json.loads(line, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, dict):
        code = said.get("exit_code", 0)
        if said.get("done") is True and type(code) is int and 0 <= code <= 255:
            return said
        share, text = said.get("progress"), said.get("text", "")
        if not isinstance(share, int | float) or isinstance(share, bool):
            share = float("nan")
        if abs(share) <= SHARE_MAX and isinstance(text, str) and "done" not in said:
            return said
    shown = line[:80].decode(errors="replace")
    raise Spoilt(
        f"{shown!r} is no word of the protocol, to which its standard output belongs"
    )


def refuse_constant(name: str) -> None:
    """NaN and its like are no JSON."""
    raise ValueError(name)


def write_result(said: dict[str, Any]) -> bytes:
    """Give a result as its task's standard output; Spoilt: it is too long."""
    if "result" not in said:
        return b""
    try:
        text = json.dumps(said["result"], ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        raise Spoilt("its result is no JSON") from None
    content = f"{text}\n".encode(errors="replace")
    if len(content) > STDOUT_BYTES_MAX:
        raise Spoilt(f"its result has more than {STDOUT_BYTES_MAX} bytes")
    return content


# ---- parts --------------------------------------------------------------------------


def find_code(status: int) -> int:
    """Give an exit code as a shell does."""
    return 128 - status if status < 0 else status


def offer_to_kill(process: "subprocess.Popen[bytes]") -> None:
    """Where memory runs out, let this program die and not the harness."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{process.pid}/oom_score_adj").write_bytes(FIRST_TO_KILL)


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
