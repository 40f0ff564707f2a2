"""What a person sees of a job of Open Job Description: its plan, and how it goes."""

import contextlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from sublet.base.units import format_money
from sublet.cli.map_screen import make_screen
from sublet.cli.output import clean, format_table
from sublet.cli.quote import count_offers, format_machines
from sublet.wire.message import Quote
from sublet.workload.map.event import AnyEvent
from sublet.workload.openjd.layout import ROOT
from sublet.workload.openjd.need import add_requirements
from sublet.workload.openjd.plan import JobPlan, StepPlan, list_tasks
from sublet.workload.openjd.running import JobResult, StepResult, pick_needed
from sublet.workload.option import MapOptions

if TYPE_CHECKING:
    from sublet.workload.map.running import RunningMap

TASKS_SHOWN = 3  # of each step
COMMAND_LENGTH_MAX = 200


class JobScreen:
    """Shows each step as a map is shown, and says where one ends."""

    def __init__(self, plan: JobPlan, *, as_json: bool, is_quiet: bool) -> None:
        """Show nothing yet."""
        self._plan = plan
        self._as_json = as_json
        self._is_quiet = is_quiet
        self._screen = make_screen(as_json=as_json, is_quiet=is_quiet)
        self._shown = contextlib.ExitStack()

    async def hear(self, said: AnyEvent) -> None:
        """Take an event of the step's map."""
        await self._screen.hear(said)

    def begin(self, step: StepPlan, running: "RunningMap") -> None:
        """A step begins."""
        count = len(self._plan.job.steps)
        self._tell(
            {"type": "step", "step": step.name, "tasks": step.tasks},
            f"step {step.number} of {count}, {clean(step.name)}: {step.tasks} tasks",
        )
        self._screen = make_screen(as_json=self._as_json, is_quiet=self._is_quiet)
        self._shown.enter_context(self._screen.over(running))

    def end(self, result: StepResult) -> None:
        """A step has ended, or was left out."""
        self._shown.close()
        value = {"type": "step_end", **msgspec.to_builtins(result)}
        self._tell(value, *summarize_step(result))

    def close(self) -> None:
        """Let go of the terminal; twice is harmless."""
        self._shown.close()

    def finish(self, result: JobResult) -> None:
        """Say what the job came to."""
        ending = "" if result.outcome == "done" else "; run the same again to go on"
        self._tell(
            {"type": "end", **msgspec.to_builtins(result)},
            f"{result.outcome}: {format_money(result.cost)}; results are in "
            f"{result.folder}{ending}",
        )

    def _tell(self, value: dict[str, Any], *lines: str) -> None:
        if self._as_json:
            sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
            sys.stdout.flush()
        elif not self._is_quiet:
            sys.stderr.write("".join(f"sublet: {line}\n" for line in lines))
            sys.stderr.flush()


def summarize_step(result: StepResult) -> list[str]:
    """Say what a step came to, and where its files are."""
    failed = f", {result.failed} failed" if result.failed else ""
    lines = [
        f"step {clean(result.step)}: {result.outcome}, {result.done} of "
        f"{result.tasks} tasks done{failed}; "
        f"{format_money(result.cost + result.cost_before)}"
    ]
    is_told = result.outcome in ("done", "failed", result.message)
    if result.message and not is_told:
        lines.append(f"  {clean(result.message)}")
    if result.returned:
        lines.append(f"  {result.returned} files came back to where the job wants them")
    if result.kept:
        lines.append(
            f"  {result.kept} files outside its outputs stay in {result.folder}/outputs"
        )
    return lines


def list_plan(
    plan: JobPlan,
    quotes: Mapping[str, Quote | str],
    options: MapOptions,
    *,
    now_s: int,
) -> dict[str, Any]:
    """Give a plan for programs."""
    return {
        "job": plan.job.name,
        "paths": [
            {
                "parameter": one.name,
                "path": str(one.local),
                "sent": one.comes,
                "returned": one.returns,
            }
            for one in plan.layout.places
        ],
        "steps": [
            {
                "step": step.name,
                "after": step.after,
                "tasks": step.tasks,
                "environments": step.environments,
                "needs": add_requirements(
                    step.required, pick_needed(options), now_s=now_s
                ),
                "quote": _list_quote(quotes[step.name]),
            }
            for step in plan.steps
        ],
    }


def _list_quote(quote: Quote | str) -> dict[str, Any]:
    if isinstance(quote, str):
        return {"message": quote}
    content: dict[str, Any] = msgspec.to_builtins(quote)
    return content


def describe_plan(
    plan: JobPlan,
    quotes: Mapping[str, Quote | str],
    options: MapOptions,
    *,
    now_s: int,
) -> str:
    """Lay a plan out for people."""
    lines = [f"job {clean(plan.job.name)}"]
    if plan.layout.places:
        rows = [
            (
                one.name,
                " and ".join(
                    word
                    for word, is_so in (("sent", one.comes), ("returned", one.returns))
                    if is_so
                ),
                str(one.local),
            )
            for one in plan.layout.places
        ]
        lines += ["", format_table(("PARAMETER", "IS", "PATH"), rows)]
    for step in plan.steps:
        needed = add_requirements(step.required, pick_needed(options), now_s=now_s)
        lines += ["", *_describe_step(plan, step, needed, quotes[step.name])]
    return "\n".join(lines)


def _describe_step(
    plan: JobPlan, step: StepPlan, needed: Any, quote: Quote | str
) -> list[str]:
    after = f", after {', '.join(map(clean, step.after))}" if step.after else ""
    lines = [f"step {clean(step.name)}: {step.tasks} tasks{after}"]
    for number, task in enumerate(list_tasks(plan, step)):
        if number == TASKS_SHOWN:
            lines.append(f"  … and {step.tasks - TASKS_SHOWN} more")
            break
        run = task.data["run"]
        words = " ".join((run["command"], *run["args"]))
        command = clean(words.replace(ROOT, "."))
        lines.append(f"  {task.id}  {command[:COMMAND_LENGTH_MAX]}")
    if step.environments:
        lines.append(f"  in {', '.join(map(clean, step.environments))}")
    shown = ", ".join(
        f"{name} {value if isinstance(value, str) else ' '.join(map(str, value))}"
        for name, value in needed.items()
    )
    lines.append(f"  needs: {shown or 'what a map asks for by itself'}")
    if isinstance(quote, str):
        lines.append(f"  no quote: {clean(quote)}")
    elif quote.fault is not None:
        lines.append(f"  no machine now: {clean(quote.fault.message)}")
    else:
        machine = format_machines(quote)
        lines.append(f"  {machine} ({count_offers(quote.offers_matching)})")
    return lines
