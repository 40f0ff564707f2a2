"""``sublet map`` by processes: providers die, the tenant is killed, and nothing is lost."""

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

pytestmark = pytest.mark.sandbox

TASK = (
    "import json, os, pathlib, sys, time\n"
    "time.sleep(float(sys.argv[1]))\n"
    "said = sys.stdin.read()\n"
    "place = pathlib.Path(os.environ['SUBLET_OUTPUT']) / 'said.txt'\n"
    "place.write_text(said)\n"
    "print(json.dumps({'said': said}))\n"
)
TASKS = 24


class MapRun:
    """One ``sublet map``, in a process group of its own."""

    def __init__(self, house: House, folder: Path, *argv: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        (folder / "task.py").write_text(TASK)
        lines = [
            json.dumps({"args": [0.3], "stdin": f"task {n}"}) for n in range(TASKS)
        ]
        (folder / "tasks.jsonl").write_text("\n".join(lines) + "\n")
        self.err = folder / "stderr"
        flags = ("--tasks", "tasks.jsonl", "--max-total", "50.00", "--disk", "64MiB")
        environment = {"SUBLET_NO_WARM": "1", "SUBLET_HOME": str(house.tenant_home)}
        with (
            self.err.open("wb") as err,
            (folder / "stdout").open("wb") as out,
        ):
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "sublet.cli.main", "map"),
                    *(*flags, *argv, "task.py"),
                ],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                env={**os.environ, **environment},
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


async def test_nothing_is_left(house: House) -> None:
    for lease in await house.leases():
        await house.wait_settled(lease.id)
    await house.check_nothing_left()
