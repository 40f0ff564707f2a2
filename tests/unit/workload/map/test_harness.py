"""The program of a worker's lease, as it travels, with real programs under it."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.core.task.commitment import commit, read_commitments, write_given
from sublet.workload.map import harness
from sublet.workload.map.harness import LINE_BYTES_MAX, STDERR_BYTES_MAX, Spoilt

WAIT_S = 60
HELD = "import json, os, sys, time\n"
SAY = (
    "def say(**said):\n"
    "    print(json.dumps(said), flush=True)\n"
    "def tasks():\n"
    "    for line in sys.stdin:\n"
    "        yield json.loads(line)\n"
)
ECHO = (
    "for task in tasks():\n"
    "    say(done=True, result={'pid': os.getpid(), 'data': task['data']})\n"
)


class Worker:
    """A harness that runs in a folder, and what it made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.box = folder / ".sublet"
        self._count = 0
        (folder / "worker.py").write_text(Path(harness.__file__).read_text())
        self.stream = folder / "stream"
        with self.stream.open("wb") as stdout:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(folder / "worker.py")],
                cwd=folder,
                stdout=stdout,
            )
        self.wait(lambda: (self.box / "python").exists())

    def write(self, text: str) -> list[str]:
        """Write the warm program; give its head."""
        place = self.folder / "warm.py"
        place.write_text(HELD + SAY + text)
        return ["{python}", str(place)]

    def send(self, head: list[str], data: Any = None, **given: Any) -> int:
        """Give it a task; give its number."""
        self._count += 1
        task = {"task": self._count, "id": f"t{self._count}", "head": head, "args": []}
        task |= {"timeout_s": 0, "stall_s": 0, **given}
        if "stdin" not in task:
            task.setdefault("warm", {"args": [], "env": {}, "data": data})
        place = self.box / "in" / f"{self._count:020d}-{self._count}.json"
        harness.write_whole(place, json.dumps(task).encode())
        return self._count

    def ask(self, head: list[str], data: Any = None, **given: Any) -> dict[str, Any]:
        """Give it a task; give what came of it."""
        return self.result(self.send(head, data, **given))

    def ask_cold(self, command: str, **given: Any) -> dict[str, Any]:
        """Have it run a shell command for one task."""
        return self.ask(["sh", "-c", command], stdin="", env={}, **given)

    def result(self, number: int) -> dict[str, Any]:
        place = self.box / "out" / f"{number}.json"
        self.wait(place.exists)
        found: dict[str, Any] = json.loads(place.read_bytes())
        for name in ("stdout", "stderr"):
            found[name] = base64.b64decode(found[name]).decode()
        return found

    def wait(self, is_so: Callable[[], bool]) -> None:
        end_s = time.monotonic() + WAIT_S
        while not is_so():
            assert self.process.poll() is None, "the harness has ended"
            assert time.monotonic() < end_s, "it did not happen"
            time.sleep(0.005)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


def is_alive(pid: int) -> bool:
    """Say whether a process runs; a zombie that nobody has fetched does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_binds_itself_to_each_result(worker: Worker) -> None:
    """What lies in its standard output is what the provider's receipt covers."""
    data = {"b": [1, 2.5, None], "a": "ü"}
    warm = worker.ask(worker.write(ECHO), data, id="first")
    cold = worker.ask_cold("cat; echo $0", id="second", args=["x"])
    given = [
        {"args": [], "env": {}, "data": data},
        {"args": ["x"], "env": {}, "stdin": ""},
    ]
    assert list(read_commitments(worker.stream.read_bytes())) == [
        commit(name, given=write_given(what), wrote=came["stdout"].encode())
        for name, what, came in zip(
            ("first", "second"), given, (warm, cold), strict=True
        )
    ]


def test_warm_program_is_started_once(worker: Worker) -> None:
    head = worker.write(ECHO)
    answers = [worker.ask(head, {"n": n}) for n in range(5)]
    assert {one["outcome"] for one in answers} == {"done"}
    said = [json.loads(one["stdout"]) for one in answers]
    assert [one["data"] for one in said] == [{"n": n} for n in range(5)]
    assert len({one["pid"] for one in said}) == 1


def test_it_is_told_all_of_its_task(worker: Worker) -> None:
    text = (
        "for task in tasks():\n"
        "    open(os.path.join(task['output'], 'made'), 'w').write('x')\n"
        "    say(done=True, result=task)\n"
    )
    warm = {"args": ["-n", "3"], "env": {"A": "b"}, "data": "é\U0001f600"}
    answer = worker.ask(worker.write(text), warm=warm)
    said = json.loads(answer["stdout"])
    assert said == {"task": "t1", **warm, "output": str(worker.box / "out" / "1")}
    assert answer["has_files"]
    assert (worker.box / "out" / "1" / "made").read_text() == "x"


def test_failure_that_it_tells_keeps_it_warm(worker: Worker) -> None:
    text = (
        "for task in tasks():\n"
        "    print('this is', task['data'], file=sys.stderr, flush=True)\n"
        "    say(done=True, exit_code=task['data'], result=os.getpid())\n"
    )
    head = worker.write(text)
    first, second = worker.ask(head, 3), worker.ask(head, 0)
    assert (first["outcome"], first["exit_code"]) == ("failed", 3)
    assert (second["outcome"], second["exit_code"]) == ("done", 0)
    assert (first["stderr"], second["stderr"]) == ("this is 3\n", "this is 0\n")
    assert first["stdout"] == second["stdout"]


BAD = [
    # what the program does on "bad": the exit code, and what is said of it
    ("sys.exit(7)", 7, "ended without an answer"),
    ("sys.exit(0)", 76, "ended without an answer"),
    ("os.kill(os.getpid(), 9)", 137, "ended without an answer"),
    ("os.close(1); time.sleep(600)", 76, "ended without an answer"),
    ("print('loading', flush=True)", 76, "'loading' is no word of the protocol"),
    ("say(done=True, exit_code=256)", 76, "is no word of the protocol"),
    ("say(done=1)", 76, "is no word of the protocol"),
    ("say(progress='half')", 76, "is no word of the protocol"),
    ("say(progress=1e300)", 76, "is no word of the protocol"),
    ("say(progress=float('nan'))", 76, "is no word of the protocol"),
    ("say(done=True, result=float('nan'))", 76, "is no word of the protocol"),
    ('print(\'{"done":true,"result":1e999}\', flush=True)', 76, "is no JSON"),
    ("say(done=True, result='x' * 1_048_575)", 76, "bytes in one line"),
    ("print('[' * 100_000, flush=True)", 76, "is no word of the protocol"),
    ("os.write(1, b'x' * 3_000_000)", 76, "bytes in one line"),
    ("os.write(1, b'\\xff\\xfe\\n')", 76, "is no word of the protocol"),
    ("raise MemoryError('too much')", 1, "MemoryError: too much"),
]


@pytest.mark.parametrize(("deed", "code", "said"), BAD)
def test_one_that_breaks_its_word_is_started_anew(
    worker: Worker, deed: str, code: int, said: str
) -> None:
    text = (
        "for task in tasks():\n"
        f"    if task['data'] == 'bad':\n        {deed}; time.sleep(600)\n"
        "    say(done=True, result=os.getpid())\n"
    )
    head = worker.write(text)
    first = worker.ask(head)
    bad = worker.ask(head, "bad")
    assert (bad["outcome"], bad["exit_code"]) == ("failed", code), bad
    assert said in bad["stderr"]
    after = worker.ask(head)
    assert after["outcome"] == "done"
    assert after["stdout"] != first["stdout"], "it is another one"
    assert not is_alive(int(first["stdout"]))


def test_one_that_speaks_unasked_is_started_anew_and_costs_no_task(
    worker: Worker,
) -> None:
    text = (
        "for task in tasks():\n"
        "    say(done=True, result=os.getpid())\n"
        "    say(progress=0.5)\n"
        "    open('spoke', 'w').close()\n"
    )
    head = worker.write(text)
    first = worker.ask(head)
    worker.wait((worker.folder / "spoke").exists)
    second = worker.ask(head)
    assert first["outcome"] == second["outcome"] == "done"
    assert first["stdout"] != second["stdout"]


def test_one_that_ended_between_two_tasks_costs_no_task(worker: Worker) -> None:
    head = worker.write(
        "for task in tasks():\n    say(done=True, result=os.getpid())\n    break\n"
    )
    first = worker.ask(head)
    worker.wait(lambda: not is_alive(int(first["stdout"])))
    second = worker.ask(head)
    assert second["outcome"] == "done"
    assert second["stdout"] != first["stdout"]


def test_program_that_there_is_not_fails_its_task(worker: Worker) -> None:
    answer = worker.ask(["/nowhere/at-all"])
    assert (answer["outcome"], answer["exit_code"]) == ("failed", 127)
    assert "No such file" in answer["stderr"]


LATE = (
    "import subprocess\n"
    "for task in tasks():\n"
    "    if task['data'] == 'hang':\n"
    "        child = subprocess.Popen(['sleep', '600'])\n"
    "        open('child.part', 'w').write(str(child.pid))\n"
    "        os.rename('child.part', 'child')\n"
    "        say(progress=0.5, text='hangs')\n"
    "        time.sleep(600)\n"
    "    say(done=True, result=os.getpid())\n"
)
LIMITS = [({"timeout_s": 1.0}, "timeout"), ({"stall_s": 1.0}, "stalled")]


@pytest.mark.parametrize(("given", "outcome"), LIMITS)
def test_one_that_hangs_is_killed_with_its_group(
    worker: Worker, given: dict[str, float], outcome: str
) -> None:
    head = worker.write(LATE)
    answer = worker.ask(head, "hang", **given)
    assert answer["outcome"] == outcome
    assert answer["ran_ms"] >= 1_000
    child = int((worker.folder / "child").read_text())
    worker.wait(lambda: not is_alive(child))
    assert worker.ask(head)["outcome"] == "done"


def test_one_that_is_not_wanted_any_more_is_killed(worker: Worker) -> None:
    head = worker.write(LATE)
    number = worker.send(head, "hang")
    worker.wait((worker.folder / "child").exists)
    (worker.box / "cancel" / str(number)).touch()
    assert worker.result(number)["outcome"] == "cancelled"
    child = int((worker.folder / "child").read_text())
    worker.wait(lambda: not is_alive(child))


def test_progress_is_written_down_and_keeps_it_alive(worker: Worker) -> None:
    text = (
        "for task in tasks():\n"
        "    for n in range(12):\n"
        "        say(progress=n / 8, text='\\ud800' + 'x' * 500)\n"
        "        time.sleep(0.25)\n"
        "    say(done=True)\n"
    )
    number = worker.send(worker.write(text), stall_s=2.0)
    worker.wait((worker.box / "progress").exists)
    said = json.loads((worker.box / "progress").read_bytes())
    assert (said["task"], len(said["text"]), said["text"][:2]) == (number, 200, "?x")
    answer = worker.result(number)
    assert answer["outcome"] == "done", "twelve quarters of a second, and none too long"
    assert answer["ran_ms"] > 2_500
    said = json.loads((worker.box / "progress").read_bytes())
    assert 0 < said["progress"] <= 1


def test_same_words_again_are_no_progress(worker: Worker) -> None:
    text = (
        "for task in tasks():\n"
        "    while True:\n"
        "        say(progress=0.5)\n"
        "        time.sleep(0.1)\n"
    )
    assert worker.ask(worker.write(text), stall_s=1.0)["outcome"] == "stalled"


def test_what_a_cold_program_prints_is_its_progress(worker: Worker) -> None:
    chatty = "for n in $(seq 12); do echo $n; sleep 0.25; done"
    answer = worker.ask_cold(chatty, stall_s=2.0)
    assert (answer["outcome"], answer["stdout"][:4]) == ("done", "1\n2\n")
    said = json.loads((worker.box / "progress").read_bytes())
    assert said["text"].endswith("bytes printed")
    answer = worker.ask_cold("echo once; sleep 600", stall_s=1.0)
    assert (answer["outcome"], answer["stdout"]) == ("stalled", "once\n")


def test_its_errors_stay_small_however_much_it_prints(worker: Worker) -> None:
    text = (
        "for task in tasks():\n"
        "    for n in range(task['data']):\n"
        "        sys.stderr.write('y' * 99 + '\\n')\n"
        "    sys.stderr.write('the end\\n'); sys.stderr.flush()\n"
        "    say(done=True)\n"
    )
    head = worker.write(text)
    answer = worker.ask(head, 100_000)
    assert answer["stderr"].endswith("the end\n")
    assert len(answer["stderr"]) == STDERR_BYTES_MAX
    assert worker.ask(head, 0)["stderr"] == "the end\n"


def test_task_larger_than_a_pipe_reaches_a_slow_reader(worker: Worker) -> None:
    text = (
        "time.sleep(0.3)\n"
        "for task in tasks():\n"
        "    say(done=True, result=len(task['data']))\n"
    )
    answer = worker.ask(worker.write(text), "z" * 5_000_000)
    assert answer["stdout"] == "5000000\n"


def test_longest_line_that_may_be_is_taken(worker: Worker) -> None:
    room = LINE_BYTES_MAX - len(b'{"done": true, "result": ""}')
    text = f"for task in tasks():\n    say(done=True, result='x' * {room})\n"
    answer = worker.ask(worker.write(text))
    assert answer["outcome"] == "done", answer["stderr"]
    assert len(json.loads(answer["stdout"])) == room


def test_memory_goes_to_the_program_first(worker: Worker) -> None:
    """Where the kernel has to choose, it takes the program and leaves the harness."""
    text = (
        "for task in tasks():\n"
        "    say(done=True, result=open('/proc/self/oom_score_adj').read().strip())\n"
    )
    answer = worker.ask(worker.write(text))
    assert json.loads(answer["stdout"]) == "1000"
    own = Path(f"/proc/{worker.process.pid}/oom_score_adj").read_text().strip()
    assert own == Path(f"/proc/{os.getpid()}/oom_score_adj").read_text().strip()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["done", "progress", "text", "exit_code", "result"]), inner
        )
    ),
)


@given(st.binary(max_size=200) | JSON.map(lambda one: json.dumps(one).encode()))
def test_whatever_is_said_is_one_of_two_words_or_nonsense(line: bytes) -> None:
    try:
        said = harness.read_said(line)
    except Spoilt:
        return
    if "done" in said:
        assert 0 <= said.get("exit_code", 0) <= 255
        content = harness.write_result(said)
        assert not content or json.loads(content) == said["result"]
    else:
        assert 0 <= min(max(float(said["progress"]), 0.0), 1.0) <= 1
        assert isinstance(said.get("text", ""), str)
