"""Runs a job: its steps one after the other, each as a map. Results are on this disk.

    DIR/NUMBER-STEP/    a map's folder of results, ``outputs/TASK/job/…`` in it

A step that is done is not run again: the same job goes on where it was. What a step
left in the job's folder is there for the steps that depend on it; what lies below an
OUT or INOUT parameter is copied to where that says when the step has ended.
"""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
from msgspec import Struct

from sublet.base.errors import Unavailable
from sublet.base.units import parse_money
from sublet.wire.message import Quote
from sublet.workload.client import AsyncClient
from sublet.workload.map.event import AnyEvent
from sublet.workload.map.result import MapResult, TaskResult
from sublet.workload.map.running import RunningMap
from sublet.workload.openjd import session
from sublet.workload.openjd.layout import JOB, Layout, copy_file, stage
from sublet.workload.openjd.need import add_requirements
from sublet.workload.openjd.plan import JobPlan, StepPlan, describe_step, list_tasks
from sublet.workload.option import MapOptions, Needed
from sublet.workload.run.need import MAX_TOTAL, parse_needs
from sublet.workload.run.wish import Collector, Wish

MILLION = 1_000_000
SKIPPED = "skipped"  # the outcome of a step whose dependency was not done
NAME_LENGTH_MAX = 64  # of a job, which each worker is


class StepResult(Struct, frozen=True):
    """What a step came to. Money in micro-USD."""

    step: str
    outcome: str  # a map's, or skipped
    message: str
    tasks: int
    done: int
    failed: int
    cost: int  # of this run of it
    cost_before: int  # of earlier ones
    folder: str
    returned: int = 0  # files that were copied below OUT and INOUT parameters
    kept: int = 0  # files elsewhere in the job's folder, which stay in ``folder``


class JobResult(Struct, frozen=True):
    """What a job came to. Money in micro-USD."""

    outcome: str  # done, or that of the first step that was not
    steps: tuple[StepResult, ...]
    cost: int
    folder: str


class Watch(Protocol):
    """Who is told how a job goes."""

    async def hear(self, said: AnyEvent) -> None:
        """Take an event of the step's map."""

    def begin(self, step: StepPlan, running: RunningMap) -> None:
        """A step begins."""

    def end(self, result: StepResult) -> None:
        """A step has ended, or was skipped."""


class RunningJob:
    """A job under way; ``run`` it once."""

    def __init__(
        self,
        client: AsyncClient,
        plan: JobPlan,
        *,
        results: Path,
        options: MapOptions,
        watch: Watch,
    ) -> None:
        """Take who pays, what to run, and what every step's map is given."""
        self._client = client
        self._plan = plan
        self._results = results
        self._options = options
        self._watch = watch
        self._current: RunningMap | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Stop and settle what runs, and begin no further step; results stay."""
        self._is_stopped = True
        if self._current is not None:
            self._current.stop()

    async def run(self) -> JobResult:
        """Run all steps to their ends.

        Raises:
            Faults: something about the options; nothing was bought.
            Refused: the folder of results holds another job.
            Unavailable: market or disk did not answer.
        """
        text = self._options.get("max_total") or MAX_TOTAL
        left: int = parse_money(text, field="--max-total")
        ended: dict[str, StepResult] = {}
        for step in self._plan.steps:
            bad = [one for one in step.after if ended[one].outcome != "done"]
            if self._is_stopped:
                result = self._leave(step, "stopped", "the job was stopped")
            elif bad:
                result = self._leave(step, SKIPPED, f"step {bad[0]} was not done")
            elif left <= 0:
                result = self._leave(step, "budget", "--max-total is used up")
            else:
                result = await self._run_step(step, left)
            left -= result.cost + result.cost_before
            ended[step.name] = result
            self._watch.end(result)
        results = tuple(ended.values())
        outcomes = [one.outcome for one in results if one.outcome != SKIPPED]
        return JobResult(
            outcome=next((one for one in outcomes if one != "done"), "done"),
            steps=results,
            cost=sum(one.cost for one in results),
            folder=str(self._results),
        )

    def _folder(self, step: StepPlan) -> Path:
        return self._results / step.folder

    async def _run_step(self, step: StepPlan, left: int) -> StepResult:
        options = self._find_options(step, left)
        folder = self._folder(step)
        earlier = [
            outputs
            for one in self._plan.steps
            if one.name in step.after
            for outputs in list_outputs(self._folder(one))
        ]
        program = await asyncio.to_thread(self._make_program, step, earlier)
        try:
            running = await self._client.start_map(
                str(program),
                tasks=list_tasks(self._plan, step),
                results=folder,
                on_event=self._watch.hear,
                **options,
            )
        finally:
            await asyncio.to_thread(shutil.rmtree, program, ignore_errors=True)
        self._current = running
        if self._is_stopped:
            running.stop()
        self._watch.begin(step, running)
        try:
            found = await running.result()
        finally:
            await running.close()
            self._current = None
        returned, kept = await asyncio.to_thread(
            bring_back, self._plan.layout, list_outputs(folder)
        )
        return _make_result(step, found, returned, kept)

    def _leave(self, step: StepPlan, outcome: str, why: str) -> StepResult:
        """Say of a step why it did not run."""
        return StepResult(
            step=step.name,
            outcome=outcome,
            message=why,
            tasks=step.tasks,
            done=0,
            failed=0,
            cost=0,
            cost_before=0,
            folder=str(self._folder(step)),
        )

    def _find_options(self, step: StepPlan, left: int) -> MapOptions:
        """The map's options, with what the step requires and what money is left."""
        needed = add_requirements(
            step.required, pick_needed(self._options), now_s=self._client.now_s()
        )
        options: dict[str, Any] = {**self._options, **needed, "is_warm": True}
        options["max_total"] = _write_money(left)
        options.setdefault("max_price", _write_money(self._find_price()))
        options.setdefault("name", step.folder[:NAME_LENGTH_MAX])
        return cast(MapOptions, options)

    def _find_price(self) -> int:
        """The highest price an hour: that of the whole total, whatever is left of it."""
        found = Collector()
        total, lease = self._options.get("max_total"), self._options.get("lease")
        wish = Wish(target=(), max_total=total, timeout=lease)
        needs = parse_needs(wish, found, now_s=self._client.now_s())
        found.check()
        return needs.price_hour_max

    def _make_program(self, step: StepPlan, earlier: list[Path]) -> Path:
        """Lay a step's work folder out beside the results; to be removed when read."""
        with translate_disk(self._results):
            self._results.mkdir(parents=True, exist_ok=True)
            target = Path(tempfile.mkdtemp(prefix=".stage-", dir=self._results))
        try:
            with translate_disk(target):
                stage(self._plan.layout, target, earlier=earlier)
                text = Path(session.__file__).read_text(encoding="utf-8")
                (target / "main.py").write_text(text, encoding="utf-8")
                common = msgspec.json.encode(describe_step(self._plan, step))
                (target / "step.json").write_bytes(common)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        return target


def _write_money(amount: int) -> str:
    return f"{amount // MILLION}.{amount % MILLION:06d}"


def pick_needed(options: MapOptions) -> Needed:
    """Give what options say of a machine, without the time that a task may take."""
    names = Needed.__annotations__.keys() - {"timeout"}
    return cast(Needed, {k: v for k, v in options.items() if k in names})


def list_outputs(folder: Path) -> list[Path]:
    """List the job's folder as each task of a step left it, in the tasks' order.

    Only tasks that were done: what one left that failed is for people to look at.
    """
    done: dict[int, str] = {}
    try:
        with (folder / "results.jsonl").open("rb") as file:
            for line in file:
                with contextlib.suppress(msgspec.MsgspecError):
                    one = msgspec.json.decode(line, type=TaskResult)
                    if one.is_done:
                        done[one.number] = one.id
    except FileNotFoundError:
        return []
    places = (folder / "outputs" / done[number] for number in sorted(done))
    return [place for place in places if place.is_dir()]


def bring_back(layout: Layout, outputs: list[Path]) -> tuple[int, int]:
    """Copy what came back to where the job's parameters say; later tasks count.

    Returns:
        How many files were copied, and how many stay where they are.

    Raises:
        Unavailable: the disk did not take it.
    """
    found: dict[str, Path] = {}
    for folder in outputs:
        for place in folder.rglob("*"):
            if place.is_file() and not place.is_symlink():
                found[f"{JOB}/{place.relative_to(folder).as_posix()}"] = place
    count = 0
    for path, place in found.items():
        target = layout.find_return(path)
        if target is not None:
            with translate_disk(target):
                copy_file(place, target)
            count += 1
    return count, len(found) - count


async def quote_step(client: AsyncClient, step: StepPlan, options: MapOptions) -> Quote:
    """Ask what one machine of a step would cost now.

    Raises:
        Faults: what was typed means nothing, or does not fit the step.
        Unavailable: the market does not answer.
    """
    needed = add_requirements(step.required, pick_needed(options), now_s=client.now_s())
    if lease := options.get("lease"):
        needed["timeout"] = lease
    return await client.quote(**needed)


@contextlib.contextmanager
def translate_disk(place: Path) -> Iterator[None]:
    """Say what this machine's disk did not do."""
    try:
        yield
    except OSError as exc:
        raise Unavailable(
            f"{exc.filename or place}: {exc.strerror}; make room or move it away, and "
            "run the same again to go on",
            code="disk_failed",
        ) from exc


def _make_result(
    step: StepPlan, found: MapResult, returned: int, kept: int
) -> StepResult:
    return StepResult(
        step=step.name,
        outcome=found.outcome,
        message=found.message,
        tasks=found.tasks,
        done=found.done,
        failed=found.failed,
        cost=found.cost,
        cost_before=found.cost_before,
        folder=found.folder,
        returned=returned,
        kept=kept,
    )
