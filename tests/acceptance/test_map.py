"""``sublet map`` by processes: providers die, the tenant is killed, and nothing is lost."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sublet.workload.map.result import TaskResult
from tests.acceptance.market_house import WAIT_S, House, until
from tests.rig.terminal import Person

pytestmark = pytest.mark.sandbox

TASK = (
    "import json, os, pathlib, sys, time\n"
    "time.sleep(float(sys.argv[1]))\n"
    "said = sys.stdin.read()\n"
    "assert said != os.environ.get('FAIL')\n"
    "place = pathlib.Path(os.environ['SUBLET_OUTPUT']) / 'said.txt'\n"
    "place.write_text(said)\n"
    "print(json.dumps({'said': said}))\n"
)
TASKS = 24
SWEEP = Path(__file__).parents[2] / "examples/sweep"


def write_tasks(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "task.py").write_text(TASK)
    lines = [json.dumps({"args": [0.3], "stdin": f"task {n}"}) for n in range(TASKS)]
    (folder / "tasks.jsonl").write_text("\n".join(lines) + "\n")


def map_argv(*argv: str) -> tuple[str, ...]:
    flags = ("--tasks", "tasks.jsonl", "--max-total", "50.00", "--disk", "64MiB")
    return (sys.executable, "-m", "sublet.cli.main", "map", *flags, *argv)


def environment_of(house: House) -> dict[str, str]:
    environment = {"SUBLET_NO_WARM": "1", "SUBLET_HOME": str(house.tenant_home)}
    return {**os.environ, "TERM": "xterm-256color", **environment}


class MapRun:
    """One ``sublet map``, in a process group of its own."""

    def __init__(self, house: House, folder: Path, *argv: str) -> None:
        write_tasks(folder)
        self.folder = folder
        self.err = folder / "stderr"
        with (
            self.err.open("wb") as err,
            (folder / "stdout").open("wb") as out,
        ):
            self.process = subprocess.Popen(
                map_argv(*argv, "task.py"),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                env=environment_of(house),
            )
        house.runs.append(self)  # type: ignore[arg-type]  # it is ended the same way

    async def wait(self) -> int:
        await until(lambda: self.process.poll() is not None, 2 * WAIT_S, self)
        return self.process.returncode

    async def wait_results(self, count: int) -> None:
        await until(lambda: len(self.results()) >= count, 2 * WAIT_S, self)

    def results(self) -> list[TaskResult]:
        place = self.folder / "tasks.results" / "results.jsonl"
        if not place.exists():
            return []
        return [
            msgspec.json.decode(line, type=TaskResult)
            for line in place.read_bytes().splitlines(keepends=True)
            if line.endswith(b"\n")
        ]

    def end(self) -> dict[str, Any]:
        """Give the last line of ``--json``."""
        lines = (self.folder / "stdout").read_bytes().splitlines()
        found: dict[str, Any] = json.loads(lines[-1])
        assert found["type"] == "end"
        return found

    def check(self) -> None:
        """Assert: each task has one result, and it is its own."""
        results = self.results()
        assert sorted(one.number for one in results) == list(range(TASKS))
        for one in results:
            assert one.json() == {"said": f"task {one.number}"}
            kept = self.folder / "tasks.results" / "outputs" / one.id / "said.txt"
            assert kept.read_text() == f"task {one.number}"

    def __repr__(self) -> str:
        return f"map: {self.process.poll()} {self.err.read_bytes().decode()[-2_000:]}"


async def test_machine_lost_in_between(house: House, tmp_path: Path) -> None:
    run = MapRun(house, tmp_path / "lost", "--parallel", "6", "--json")
    await run.wait_results(3)
    await house.kill_machine("cheap")
    assert await run.wait() == 0, run
    run.check()
    end = run.end()
    assert (end["outcome"], end["done"]) == ("done", TASKS)
    house.start_provider("cheap")
    house.wait_offers(2)


async def test_tenant_killed_and_resumed(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    first = MapRun(house, folder, "--parallel", "2")
    await first.wait_results(4)
    os.killpg(first.process.pid, signal.SIGKILL)
    first.process.wait()
    before = len(first.results())
    assert before < TASKS
    second = MapRun(house, folder, "--parallel", "2", "--json")
    assert await second.wait() == 0, second
    second.check()
    assert second.end()["done"] == TASKS
    events = (folder / "stdout").read_bytes().splitlines()
    fresh = [line for line in events if json.loads(line)["type"] == "result"]
    assert len(fresh) <= TASKS - 4, "what was done was not done again"


async def test_interrupted_and_resumed(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    first = MapRun(house, folder, "--parallel", "2")
    await first.wait_results(4)
    first.process.send_signal(signal.SIGINT)
    assert await first.wait() == 130, first
    assert b"run the same command again to go on" in first.err.read_bytes()
    second = MapRun(house, folder, "--parallel", "2", "--json")
    assert await second.wait() == 0, second
    second.check()


async def test_bar_lives_in_a_terminal_and_ctrl_c_ends_it(
    house: House, tmp_path: Path
) -> None:
    """The first Ctrl-C settles all; what is done is not done again."""
    folder = tmp_path / "terminal"
    write_tasks(folder)
    argv = map_argv("--parallel", "2", "task.py")
    person = Person(argv, environment_of(house), folder=folder)

    def watch() -> int:
        person.see(b"[....")
        person.see(f"of {TASKS} done".encode())
        person.see(b"workers")
        person.see(b" left, $")  # the time and the money, before it is over
        person.see(b" of about $")
        person.see(b"worker 1: ")
        person.see(b"at task ")
        person.type(b"\x03")
        person.see(b"stopping the map; Ctrl-C again leaves at once")
        person.see(b"\x1b[?25h")  # the cursor is back
        person.see(b"results are in")
        person.see(b"run the same command again to go on")
        return person.leave()

    assert await asyncio.to_thread(watch) == 130
    os.close(person.terminal)
    second = MapRun(house, folder, "--parallel", "2", "--json")
    assert await second.wait() == 0, second
    second.check()


async def test_second_ctrl_c_leaves_at_once_and_the_next_run_goes_on(
    house: House, tmp_path: Path
) -> None:
    folder = tmp_path / "twice"
    write_tasks(folder)
    argv = map_argv("--parallel", "2", "task.py")
    person = Person(argv, environment_of(house), folder=folder)

    def leave() -> int:
        person.see(b"at task ")
        person.type(b"\x03")
        person.see(b"stopping the map")
        person.type(b"\x03")
        return person.leave()

    assert await asyncio.to_thread(leave) == 130
    assert b"Traceback" not in person.seen
    os.close(person.terminal)
    second = MapRun(house, folder, "--parallel", "2", "--json")
    assert await second.wait() == 0, second
    second.check()


async def test_fail_fast_stops_all(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "fast"
    run = MapRun(
        house, folder, "--parallel", "1", "--retries", "0", "--fail-fast",
        "--env", "FAIL=task 3",
    )  # fmt: skip
    assert await run.wait() == 1, run
    results = run.results()
    assert [one.is_done for one in results].count(False) == 1
    assert 4 <= len(results) < TASKS, "the rest was not begun"
    said = run.err.read_text()
    assert "--fail-fast says to stop then" in said
    assert "run the same command again to go on" in said


WARM = (
    "import json, os, sys\n"
    "for line in sys.stdin:\n"
    "    task, hoard = json.loads(line), []\n"
    "    print(json.dumps({'progress': 0.5, 'text': 'half'}), flush=True)\n"
    "    while task['data'] == 'eat':\n"
    "        hoard.append(b'x' * (8 << 20))\n"
    "    print(json.dumps({'done': True, 'result': os.getpid()}), flush=True)\n"
)


async def test_warm_program_that_eats_all_memory_costs_its_task_alone(
    house: House, tmp_path: Path
) -> None:
    """The machine goes on: the kernel takes the program, and the next one is started."""
    names = ["a", "hungry", "b", "c"]
    lines = [{"id": one, "data": "eat" if one == "hungry" else one} for one in names]
    (tmp_path / "tasks.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (tmp_path / "warm.py").write_text(WARM)
    flags = ("--warm", "--parallel", "1", "--retries", "0", "--memory", "128MiB")
    process = await asyncio.create_subprocess_exec(
        *map_argv(*flags, "--json", "warm.py"),
        cwd=tmp_path,
        env=environment_of(house),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(2 * WAIT_S):
        said, _ = await process.communicate()
    events = [json.loads(line) for line in said.splitlines()]
    results = {one["result"]["id"]: one["result"] for one in events if "result" in one}
    assert process.returncode == 1, events[-1]
    assert results["hungry"]["exit_code"] == 128 + signal.SIGKILL
    assert "perhaps it lacked memory" in results["hungry"]["stderr"]
    assert {results[name]["outcome"] for name in "abc"} == {"done"}
    assert results["a"]["stdout"] != results["b"]["stdout"] == results["c"]["stdout"]
    assert events[-1]["workers"] == 1


@pytest.mark.registry
@pytest.mark.timeout(300)
async def test_sweep_of_the_examples(house: House, tmp_path: Path) -> None:
    """As its README says it, with four of its settings."""
    lines = (SWEEP / "tasks.jsonl").read_text().splitlines()[:4]
    write_tasks(tmp_path)
    (tmp_path / "tasks.jsonl").write_text("\n".join(lines) + "\n")
    argv = map_argv("--parallel", "2", "--quiet", str(SWEEP / "fit.py"))
    process = await asyncio.create_subprocess_exec(
        *(word.replace("64MiB", "1GiB") for word in argv),
        cwd=tmp_path,
        env=environment_of(house),
    )
    assert await process.wait() == 0
    found = (tmp_path / "tasks.results" / "results.jsonl").read_bytes().splitlines()
    results = [msgspec.json.decode(line, type=TaskResult) for line in found]
    assert {one.id for one in results} == {json.loads(line)["id"] for line in lines}
    for one in results:
        point: Any = one.json()
        assert f"c{point['c']}-g{point['gamma']}" == one.id
        scores = tmp_path / "tasks.results" / "outputs" / one.id / "scores.json"
        assert len(json.loads(scores.read_text())) == 5
        assert 0 < point["accuracy"] <= 1


async def test_nothing_is_left(house: House) -> None:
    for lease in await house.leases():
        await house.wait_settled(lease.id)
    await house.check_nothing_left()
