"""Runs tasks of an Open Job Description step in the sandbox, in a session of their own.

It travels as text (``main.py`` of a map's workers), knows the standard library only, and
is a warm program: it is started once, told of each task by a JSON line, and answers with
JSON lines. What all tasks of a step have in common lies in ``step.json``. The tenant has
resolved both: no format string is left, and ``root`` stands where this machine's work
folder is meant. An action is ``{"command", "args", "timeout_s", "notify_s"}``; a
``timeout_s`` or ``notify_s`` of 0 is none: without a limit, and killed without notice.

Environments are entered before the first task. Where ``is_kept`` says so the session
goes on with the next task; it ends with one that failed. What actions change in the
job's folder goes to the task's output folder.
"""

import collections
import contextlib
import ctypes
import json
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

JOB = Path("job")
LINE_BYTES_MAX = 65_536  # of a message; what is longer is output and nothing else
POLL_S = 0.05
GRACE_S = 1.0  # for the last words, where something else holds the pipe open
EXIT_NOT_FOUND = 127
EXIT_TIMEOUT = 124
REDACTED = "********"
OUTPUT_LENGTH_MAX = 150_000  # characters of a task's output that travel; the last ones
TAIL_LINES = 2  # of them that are told beside a fault

_MESSAGE = re.compile(
    r"openjd_(progress|status|fail|env|redacted_env|unset_env): (.+)\Z"
)
_MALFORMED = re.compile(r"(?i)\s*openjd_(env|redacted_env|unset_env)(?::|\s|\Z)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h

Marks = dict[str, tuple[int, int, int]]


class Words:
    """What an action has said so far; redactions stay for the whole session."""

    def __init__(self, *, may_set: bool, secrets: set[str]) -> None:
        """Take whether it may set variables: only an environment's action may."""
        self.variables: dict[str, str | None] = {}
        self.fault = ""
        self.progress = -1.0  # percent; below 0 where it said nothing
        self.status = ""
        self.is_malformed = False
        self._may_set = may_set
        self._secrets = secrets

    def take(self, line: str) -> str:
        """Obey a line of output; give it as it may be shown."""
        found = _MESSAGE.match(line)
        if found is None:
            if _MALFORMED.match(line):
                self._break(f"incorrectly formatted openjd command: {line[:200]}")
            return self.redact(line)
        kind, text = found.groups()
        if kind == "fail":
            self.fault = self.redact(text)
        elif kind == "status":
            self.status = self.redact(text)
            self._tell()
        elif kind == "progress":
            with contextlib.suppress(ValueError):
                value = float(text)
                if 0.0 <= value <= 100.0:
                    self.progress = value
                    self._tell()
        else:
            self._set(kind, text.lstrip())
        return self.redact(line)

    def redact(self, line: str) -> str:
        """Give a line without the values that nobody is to see."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            line = line.replace(secret, REDACTED)
        return line

    def __str__(self) -> str:
        """Say how far it came, and why no further, as the end of a sentence."""
        parts = [f", at {self.progress:g} %"] if self.progress >= 0 else []
        parts += [f", last at: {self.status}"] if self.status else []
        return "".join([*parts, f": {self.fault}" if self.fault else ""])

    def _tell(self) -> None:
        say({"progress": max(self.progress, 0.0) / 100, "text": self.status})

    def _set(self, kind: str, text: str) -> None:
        if kind == "unset_env":
            if not _VARIABLE.match(text):
                self._break(f"{text[:200]!r} is no name of a variable")
            elif self._may_set:
                self.variables[text] = None
            return
        if text.startswith('"'):  # JSON, so that a value may have several lines
            try:
                text = str(json.loads(text))
            except ValueError:
                self._break("openjd_env: what stands in quotes is no JSON string")
                return
        name, equals, value = text.partition("=")
        if not equals or not _VARIABLE.match(name):
            self._break("openjd_env is not followed by NAME=VALUE")
            return
        if kind == "redacted_env":
            self._secrets.update(part for part in (value, *value.splitlines()) if part)
        if self._may_set:
            self.variables[name] = value

    def _break(self, text: str) -> None:
        self.is_malformed = True
        self.fault = self.redact(text)


class Output:
    """The last of what a task's actions print."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._lines: collections.deque[str] = collections.deque()
        self._length = 0

    def add(self, line: str) -> None:
        """Take a line; the oldest ones go where there are too many."""
        self._lines.append(f"{line}\n")
        self._length += len(line) + 1
        while self._length > OUTPUT_LENGTH_MAX:
            self._length -= len(self._lines.popleft())

    def read(self) -> str:
        """Give all that is kept."""
        return "".join(self._lines)

    def read_tail(self) -> str:
        """Give the last lines that say something."""
        said = [line for line in self._lines if line.strip()]
        return "".join(said[-TAIL_LINES:])


def adopt_orphans() -> None:
    """Become the parent of whatever outlives its own; so that it can be found."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)


def run(
    action: dict[str, Any],
    words: Words,
    *,
    env: dict[str, str],
    folder: Path,
    out: Output,
) -> int:
    """Run an action to its end, or to its timeout; give its exit code.

    Args:
        action: what to run.
        words: takes what it says.
        env: all of its variables.
        folder: the session's working directory, and the action's.
        out: takes its output.
    """
    older = find_descendants()  # what an environment left running goes on
    argv = [action["command"], *action["args"]]
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=folder,
        )
    except (OSError, ValueError) as error:
        words.fault = f"{argv[0]}: {getattr(error, 'strerror', None) or error}"
        return EXIT_NOT_FOUND
    clock = Clock(action, folder)
    is_killed = False
    lines = Lines(process, words, out)
    while process.poll() is None:
        lines.read(POLL_S)
        if is_killed:
            continue
        if words.is_malformed or clock.is_over(process):
            is_killed = True
            kill_descendants(keep=older)
    lines.finish()
    if clock.is_timeout:
        words.fault = words.fault or f"it took longer than {action['timeout_s']} s"
        return EXIT_TIMEOUT
    if words.is_malformed:
        return process.returncode or 1
    return 128 - process.returncode if process.returncode < 0 else process.returncode


class Clock:
    """An action's timeout: first notice is given, where it wants that, then death."""

    def __init__(self, action: dict[str, Any], folder: Path) -> None:
        """Begin to count."""
        self.is_timeout = False
        limit_s = action["timeout_s"]
        self._end_s = time.monotonic() + limit_s if limit_s else float("inf")
        self._notify_s = action["notify_s"]
        self._folder = folder

    def is_over(self, process: "subprocess.Popen[bytes]") -> bool:
        """Say whether it has to die now; gives notice where that is due."""
        if time.monotonic() < self._end_s:
            return False
        if self.is_timeout or not self._notify_s:
            self.is_timeout = True
            return True
        self.is_timeout = True
        self._end_s = time.monotonic() + self._notify_s
        end = time.gmtime(time.time() + self._notify_s)
        text = time.strftime("NotifyEnd = %Y-%m-%dT%H:%M:%SZ\n", end)
        (self._folder / "cancel.info").write_text(text)
        process.send_signal(signal.SIGTERM)
        return False


class Lines:
    """The output of a process, line by line."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", words: Words, out: Output
    ) -> None:
        """Take whose output it is, who obeys it, who shows it."""
        if process.stdout is None:
            raise AssertionError("started with a pipe")
        self._pipe = process.stdout
        self._handle = process.stdout.fileno()
        os.set_blocking(self._handle, False)
        self._words = words
        self._out = out
        self._rest = b""
        self._is_cut = False  # inside a line that is too long to mean anything
        self._is_open = True

    def read(self, wait_s: float) -> bool:
        """Take what is there, waiting for so long; say whether there was anything."""
        if not self._is_open:
            time.sleep(wait_s)
            return False
        if not select.select([self._handle], [], [], wait_s)[0]:
            return False
        try:
            content = os.read(self._handle, LINE_BYTES_MAX)
        except BlockingIOError:
            return False
        if not content:
            self._is_open = False
            return False
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            self._show(line, is_cut=self._is_cut)
            self._is_cut = False
        if len(self._rest) > LINE_BYTES_MAX:
            self._show(self._rest, is_cut=True)
            self._rest, self._is_cut = b"", True
        return True

    def finish(self) -> None:
        """Take what is left, and let go of the pipe."""
        end_s = time.monotonic() + GRACE_S
        while self._is_open and time.monotonic() < end_s:
            if not self.read(POLL_S):
                break
        if self._rest:
            self._show(self._rest, is_cut=self._is_cut)
        self._pipe.close()

    def _show(self, line: bytes, *, is_cut: bool) -> None:
        text = line.decode(errors="replace").removesuffix("\r")
        shown = self._words.redact(text) if is_cut else self._words.take(text)
        self._out.add(shown)


def find_descendants() -> set[int]:
    """Give the ids of all processes below this one."""
    parents: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name stands in brackets, and may hold anything.
            fields = place.read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(place.parent.name))
    found: set[int] = set()
    todo = [os.getpid()]
    while todo:
        children = parents.get(todo.pop(), [])
        todo += (child for child in children if child not in found)
        found.update(children)
    return found


def kill_descendants(*, keep: set[int]) -> None:
    """Kill all processes below this one but those; also what they just began."""
    for _ in range(20):
        left = find_descendants() - keep
        if not left:
            return
        for number in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.01)
    sys.stderr.write("openjd: some processes could not be killed\n")


class Session:
    """Environments that were entered, and the variables that they set."""

    def __init__(self, step: dict[str, Any]) -> None:
        """Take what the tasks of the step share; its folder is made anew."""
        self._step = step
        self._folder = Path(step["session"])
        self._entered: list[tuple[dict[str, Any], dict[str, str | None]]] = []
        self._secrets: set[str] = set()
        shutil.rmtree(self._folder, ignore_errors=True)  # of one that was killed
        self._folder.mkdir(parents=True)
        mapping = json.dumps(step["path_mapping"])
        (self._folder / "path_mapping.json").write_text(mapping)

    def enter(self, out: Output) -> int:
        """Enter all environments, outermost first; stop at the first that fails."""
        for one in self._step["environments"]:
            self._entered.append((one, dict(one["variables"])))
            code = self._run(f"onEnter of {one['name']}", one, one["enter"], out)
            if code:
                return code
        return 0

    def run_task(self, task: dict[str, Any], out: Output) -> int:
        """Run a task in what was entered; give its exit code."""
        return self._run("onRun", task, task["run"], out, may_set=False)

    def leave(self, out: Output) -> int:
        """Leave all that was entered, also in vain, innermost first; end it all."""
        worst = 0
        while self._entered:
            one = self._entered[-1][0]
            code = self._run(f"onExit of {one['name']}", one, one["exit"], out)
            worst = code or worst
            self._entered.pop()
        kill_descendants(keep=set())
        shutil.rmtree(self._folder, ignore_errors=True)
        return worst

    def _run(
        self,
        what: str,
        script: dict[str, Any],
        one: dict[str, Any] | None,
        out: Output,
        *,
        may_set: bool = True,
    ) -> int:
        if one is None:
            return 0
        for file in script["files"]:
            write_file(file)
        words = Words(may_set=may_set, secrets=self._secrets)
        code = run(one, words, env=self._variables(), folder=self._folder, out=out)
        if may_set:
            self._entered[-1][1].update(words.variables)
        if code:
            fault = f"openjd: {what} failed with exit code {code}{words}\n"
            sys.stderr.write(out.read_tail() + fault)
            sys.stderr.flush()
        return code

    def _variables(self) -> dict[str, str]:
        whole: dict[str, str | None] = dict(os.environ)
        for _, variables in self._entered:
            whole.update(variables)
        return {name: value for name, value in whole.items() if value is not None}


def look(folder: Path) -> Marks:
    """Note of every file below a folder what changes when it is written."""
    marks: Marks = {}
    for path, _, names in os.walk(folder):
        for name in names:
            place = os.path.join(path, name)  # noqa: PTH118
            with contextlib.suppress(OSError):
                status = os.lstat(place)
                if stat.S_ISREG(status.st_mode):
                    found = (status.st_mtime_ns, status.st_size, status.st_ino)
                    marks[os.path.relpath(place, folder)] = found
    return marks


def keep_changes(before: Marks, folder: Path, target: Path) -> None:
    """Copy what is new or changed below a folder to where results are fetched from."""
    for name, mark in look(folder).items():
        if before.get(name) != mark:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, target / name, follow_symlinks=False)


def write_file(file: dict[str, Any]) -> None:
    """Write an embedded file."""
    path = Path(file["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(file["data"].encode())
    path.chmod(0o700 if file["runnable"] else 0o600)


def put(value: Any, root: str, here: str) -> Any:
    """Give a JSON value with this machine's work folder in place of ``root``."""
    if isinstance(value, str):
        return value.replace(root, here)
    if isinstance(value, list):
        return [put(one, root, here) for one in value]
    if isinstance(value, dict):
        return {name: put(one, root, here) for name, one in value.items()}
    return value


def say(value: dict[str, Any]) -> None:
    """Say one line to whoever runs us."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def run_next(
    session: Session | None, step: dict[str, Any], said: dict[str, Any], here: str
) -> Session | None:
    """Run one task and say what came of it; give the session that goes on, if any."""
    out = Output()
    before = look(JOB)
    code = 0
    if session is None:
        session = Session(step)
        code = session.enter(out)
    code = code or session.run_task(put(said["data"], step["root"], here), out)
    is_kept = step["is_kept"] and not code
    if not is_kept:
        left = session.leave(out)
        code = code or left
    keep_changes(before, JOB, Path(said["output"]))
    say({"done": True, "exit_code": code, "result": {"output": out.read()}})
    return session if is_kept else None


def main() -> None:
    """Run tasks until nobody tells of any."""
    here = str(Path.cwd())
    step = json.loads(Path("step.json").read_text(encoding="utf-8"))
    root = step["root"]
    step = {**put(step, root, here), "root": root}
    adopt_orphans()
    for name in step["folders"]:
        Path(name).mkdir(parents=True, exist_ok=True)
    session: Session | None = None
    for line in sys.stdin:
        session = run_next(session, step, json.loads(line), here)
    if session is not None:
        session.leave(Output())


if __name__ == "__main__":
    main()
