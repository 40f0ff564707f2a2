"""Jobs of Open Job Description on a real node, with real programs."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openjd.model  # noqa: F401  # takes seconds, in which a node would lose people
import pytest

from sublet.workload.map.event import AnyEvent
from sublet.workload.map.running import RunningMap
from sublet.workload.openjd.plan import JobPlan, StepPlan, plan_job
from sublet.workload.openjd.running import (
    JobResult,
    RunningJob,
    StepResult,
    list_outputs,
    quote_step,
)
from sublet.workload.openjd.template import load_job
from tests.fakes.provider import Temper
from tests.integration.provider_house import wait_settled
from tests.integration.shell_house import Shell
from tests.integration.tenant_house import Market, running_market
from tests.style.tree import ROOT

JOB_S = 120
TWO_STEPS = ROOT / "tests/data/openjd/two-steps.yaml"
EXAMPLE = ROOT / "examples/openjd/blender-frames.yaml"

# Plainly no Blender: it copies the scene's text into the frame that it is asked for.
STAND_IN = """#!/bin/sh
[ "$2" = --version ] && echo "Stand-in for Blender 0.0" && exit 0
scene=$2
while [ $# -gt 0 ]; do
  case $1 in
    --render-output) out=${2%%####} ;;
    --render-frame) frame=$(printf %04d "$2") ;;
  esac
  shift
done
echo "frame $frame of $(cat "$scene")" > "$out$frame.png"
"""


class Notes:
    """Notes what is told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[StepResult] = []

    async def hear(self, said: AnyEvent) -> None:
        """Nothing is made of single events here."""

    def begin(self, step: StepPlan, running: RunningMap) -> None:
        self.begun.append(step.name)

    def end(self, result: StepResult) -> None:
        self.ended.append(result)


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    async with running_market(tmp_path) as house:
        yield house


async def provide(market: Market) -> None:
    await market.provide(Temper(first_price=900_000))


def plan_two(folder: Path, *, only: str | None = None, **given: str) -> JobPlan:
    """Plan the job of two steps, in a folder of its own."""
    home = folder / "job"
    home.mkdir(exist_ok=True)
    shutil.copy(TWO_STEPS, home)
    (home / "words.txt").write_text("some words")
    return plan_job(load_job(home / TWO_STEPS.name, given, here=home), only=only)


async def run_job(market: Market, plan: JobPlan, **options: Any) -> tuple[Any, Notes]:
    """Run a job to its end; its results are in ``results``."""
    notes = Notes()
    options = {"max_total": "5.00", "wait": "30s", "parallel": 2, **options}
    job = RunningJob(
        market.client,
        plan,
        results=market.folder / "results",
        options=options,  # type: ignore[arg-type]
        watch=notes,
    )
    async with asyncio.timeout(JOB_S):
        return await job.run(), notes


async def test_steps_follow_each_other_and_hand_files_on(market: Market) -> None:
    await provide(market)
    await provide(market)
    plan = plan_two(market.folder)
    result, notes = await run_job(market, plan)
    assert result.outcome == "done", [
        (one, list((market.folder / "results").rglob("results.jsonl")))
        for one in notes.ended
    ]
    assert notes.begun == ["Write", "Join"]
    write, join = notes.ended
    assert (write.done, write.returned, write.kept) == (4, 4, 0)
    # What it wrote beside its outputs stays in the results.
    assert (join.done, join.returned, join.kept) == (1, 1, 1)
    home = market.folder / "job"
    lines = [
        f"hello Two steps 2 {n} {letter} {size} some words\n"
        for n in (1, 2)
        for letter, size in (("a", 0.5), ("b", 1.5))
    ]
    assert (home / "made/1a.part").read_text() == lines[0]
    assert (home / "made/whole.txt").read_text() == "".join(lines)
    assert not (home / "whole.txt").exists()
    (left,) = list_outputs(Path(join.folder))
    assert (left / "template/whole.txt").read_text() == "".join(lines)
    stage = [one.name for one in (market.folder / "results").iterdir()]
    assert sorted(stage) == ["1-Write", "2-Join"]
    leases = await wait_settled(market.client)
    cpus = {lease.cpus_milli for lease in leases if hasattr(lease, "cpus_milli")}
    assert cpus <= {1_500, 1_000}
    # Two tasks at least had one worker, and so one session; it was left after each.
    said = [
        json.loads(json.loads(line)["stdout"])["output"]
        for line in (Path(write.folder) / "results.jsonl").read_text().splitlines()
    ]
    assert [text.count("left site") for text in said] == [1] * 4
    assert result.cost == sum(lease.paid for lease in leases) > 0
    # The same again has nothing to do, and rents nothing.
    again, notes = await run_job(market, plan)
    assert (again.outcome, again.cost) == ("done", 0)
    assert notes.ended[0].cost_before == write.cost
    assert len(await wait_settled(market.client)) == len(leases)


async def test_other_parameters_are_another_job(market: Market) -> None:
    await provide(market)
    result, _ = await run_job(market, plan_two(market.folder, Count="1"), parallel=1)
    assert result.outcome == "done"
    with pytest.raises(Exception, match="--results"):
        await run_job(market, plan_two(market.folder, Count="2"), parallel=1)


async def test_step_that_fails_stops_those_behind_it(market: Market) -> None:
    await provide(market)
    (market.folder / "job.yaml").write_text(
        """
specificationVersion: jobtemplate-2023-09
name: fails
steps:
- name: Bad
  parameterSpace: {taskParameterDefinitions: [{name: N, type: INT, range: "0-1"}]}
  script:
    actions:
      onRun:
        command: bash
        args: ["-c", "echo x > f{{Task.Param.N}}; echo openjd_fail: odd; exit {{Task.Param.N}}"]
- name: Behind
  dependencies: [{dependsOn: Bad}]
  script: {actions: {onRun: {command: bash, args: ["-c", "true"]}}}
- name: Beside
  script: {actions: {onRun: {command: bash, args: ["-c", "true"]}}}
"""
    )
    plan = plan_job(load_job(market.folder / "job.yaml", {}, here=market.folder))
    result, notes = await run_job(market, plan, retries=0, parallel=1)
    assert isinstance(result, JobResult)
    outcomes = {one.step: one.outcome for one in notes.ended}
    assert outcomes == {"Bad": "failed", "Behind": "skipped", "Beside": "done"}
    assert result.outcome == "failed"
    (line,) = [
        one
        for one in (Path(notes.ended[0].folder) / "results.jsonl")
        .read_text()
        .split("\n")
        if '"outcome":"failed"' in one
    ]
    assert json.loads(line)["stderr"] == (
        "openjd_fail: odd\nopenjd: onRun failed with exit code 1: odd\n"
    )


async def test_budget_is_that_of_the_whole_job(market: Market) -> None:
    await provide(market)
    first, _ = await run_job(market, plan_two(market.folder, only="Write"))
    assert (first.outcome, len(first.steps)) == ("done", 1)
    # All of it is spent, to the millionth: the step behind it rents nothing.
    spent = f"{first.cost / 1_000_000:.6f}"
    result, notes = await run_job(market, plan_two(market.folder), max_total=spent)
    assert [one.outcome for one in notes.ended] == ["done", "budget"]
    assert (result.outcome, result.cost) == ("budget", 0)


async def test_quote_is_for_what_the_step_requires(market: Market) -> None:
    await provide(market)
    write, _ = plan_two(market.folder).steps
    quote = await quote_step(market.client, write, {"max_total": "5.00"})
    assert quote.fault is None
    assert quote.price_hour > 0


async def test_command_renders_the_example(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for Blender: what is shown is the way there and back."""
    tools = market.folder / "tools"
    tools.mkdir()
    (tools / "blender").write_text(STAND_IN)
    (tools / "blender").chmod(0o755)
    # The fake provider's programs have this process's variables.
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    await provide(market)
    shell = Shell(market.guest.url, market.folder)
    shutil.copy(EXAMPLE, market.folder)
    (market.folder / "scene.blend").write_text("a scene")
    argv = (
        *("openjd", EXAMPLE.name, "--param", "Scene=scene.blend"),
        *("--param", "Frames=3-5", "--param", "Output=out"),
        *("--parallel", "1", "--max-total", "5.00"),
    )
    code, out, err = await shell.type(*argv, "--dry-run")
    assert code == 0, err
    assert "step Render: 3 tasks" in out
    assert "step List: 1 tasks, after Render" in out
    assert "cpus 2, memory 2048MiB" in out
    assert "1 offer matches" in out
    assert not (market.folder / "blender-frames.results").exists()
    code, out, err = await shell.type(*argv)
    assert code == 0, err
    frame = (market.folder / "out/frame-0004.png").read_text()
    assert frame == "frame 0004 of a scene\n"
    sums = (market.folder / "out/frames.sha256").read_text().splitlines()
    assert [line.split()[1] for line in sums] == [
        f"frame-{n:04d}.png" for n in (3, 4, 5)
    ]
    assert "step Render: done, 3 of 3 tasks done" in err
    code, out, err = await shell.type(*argv, "--json")
    assert code == 0, err
    end = json.loads(out.splitlines()[-1])
    assert (end["type"], end["outcome"], end["cost"]) == ("end", "done", 0)
    code, out, err = await shell.type(*argv, "--param", "Threads=65")
    assert code == 2
    assert "Threads" in err
