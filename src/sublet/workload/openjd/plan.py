"""From a job to what is run: steps, their tasks, environments and needs.

All format strings are resolved here, by the library's own code, so that the sandbox
needs neither it nor a network. What only the sandbox knows, where its work folder is,
stands as ``layout.ROOT`` in them.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from sublet.base import limits
from sublet.base.errors import Faults, Refused, SubletError
from sublet.workload.map.task import Task
from sublet.workload.openjd.layout import ROOT, SESSION, Layout, lay_out
from sublet.workload.openjd.need import Required, parse_requirements
from sublet.workload.openjd.template import OpenJob, translate_fault

RUN_NOTIFY_S = 120  # the specification's, where a template names none
NOTIFY_S = 30  # of an environment's actions
EXIT_TIMEOUT_S = 300
ID_LENGTH_MAX = 80

_NOT_ID = re.compile(r"[^A-Za-z0-9._-]+")


class StepPlan(Struct, frozen=True):
    """One step: one map."""

    number: int  # from 1, in the order in which steps are run
    name: str
    folder: str  # of its results, in the job's
    after: tuple[str, ...]  # steps that it depends on, and those that they do
    required: Required  # of a machine
    tasks: int
    source: Any  # openjd.model.v2023_09.Step
    environments: tuple[str, ...]  # names, outermost first


class JobPlan(Struct, frozen=True):
    """A whole job."""

    job: OpenJob
    layout: Layout
    steps: tuple[StepPlan, ...]


def plan_job(job: OpenJob, *, only: str | None = None) -> JobPlan:
    """Say what a job comes to.

    Args:
        job: from a template.
        only: the name of a step: it and what it depends on; None for all.

    Raises:
        Faults: paths that are not there, requirements that no machine here can meet,
            a step that is not there or has too many tasks.
    """
    names = [step.name for step in job.steps]
    if only is not None and only not in names:
        raise Refused(
            f"--step: there is no {only[:80]!r}; the template has {', '.join(names)}",
            code="no_step",
            field="--step",
        )
    faults: list[SubletError] = []
    before: dict[str, tuple[str, ...]] = {}
    plans: list[StepPlan] = []
    for step in job.steps:
        direct = [one.dependsOn for one in step.dependencies or ()]
        reached = {name for one in direct for name in (one, *before[one])}
        before[step.name] = tuple(name for name in names if name in reached)
    wanted = set(names) if only is None else {only, *before[only]}
    for number, step in enumerate(job.steps, 1):
        if step.name not in wanted:
            continue
        try:
            plans.append(_plan_step(job, step, number, before[step.name]))
        except Faults as fault:
            faults += fault.faults
        except Refused as fault:
            faults.append(fault)
    try:
        layout = lay_out(job)
    except Faults as fault:
        faults += fault.faults
    if faults:
        raise Faults(faults)
    return JobPlan(job, layout, tuple(plans))


def _plan_step(
    job: OpenJob, step: Any, number: int, before: tuple[str, ...]
) -> StepPlan:
    count = count_tasks(step)
    if count > limits.TASKS_MAX:
        raise Refused(
            f"step {step.name}: {count} tasks, and a step has at most "
            f"{limits.TASKS_MAX}; narrow its parameterSpace",
            code="too_many_tasks",
            field="parameterSpace",
        )
    environments = (*(job.job.jobEnvironments or ()), *(step.stepEnvironments or ()))
    return StepPlan(
        number=number,
        name=step.name,
        folder=_slug(f"{number}-{step.name}"),
        after=before,
        required=parse_requirements(step.name, step.hostRequirements),
        tasks=count,
        source=step,
        environments=tuple(one.name for one in environments),
    )


def count_tasks(step: Any) -> int:
    """Count the tasks of a step's parameter space."""
    if step.parameterSpace is None:
        return 1
    return len(_iterate(step))


def _iterate(step: Any) -> Any:
    from openjd.model import StepParameterSpaceIterator

    with translate_fault(f"step {step.name}: parameterSpace", code="bad_template"):
        return StepParameterSpaceIterator(space=step.parameterSpace)


def list_tasks(plan: JobPlan, step: StepPlan) -> Iterator[Task]:
    """Give the tasks of a step, each with all that its session needs."""
    spaces = [{}] if step.source.parameterSpace is None else _iterate(step.source)
    width = len(str(step.tasks))
    for number, values in enumerate(spaces, 1):
        symbols = _make_symbols(plan, values)
        shown = "-".join(f"{name}-{one.value}" for name, one in values.items())
        text = f"{number:0{width}d}-{shown}" if values else str(number)
        script = step.source.script
        with translate_fault(f"step {step.name}", code="bad_template"):
            files = _resolve_files(script, f"{SESSION}/files/task", symbols, "Task")
            run = _resolve_action(script.actions.onRun, symbols, RUN_NOTIFY_S, 0)
        yield Task(id=_slug(text), data={"files": files, "run": run})


def describe_step(plan: JobPlan, step: StepPlan) -> dict[str, Any]:
    """Give what all tasks of a step have in common: ``step.json`` of the sandbox."""
    environments = [
        _resolve_environment(plan, one, number)
        for number, one in enumerate(
            (
                *(plan.job.job.jobEnvironments or ()),
                *(step.source.stepEnvironments or ()),
            )
        )
    ]
    return {
        "root": ROOT,
        "session": SESSION,
        # A worker that is let go runs nothing any more: what has to be left again is
        # left after each task.
        "is_kept": all(one["exit"] is None for one in environments),
        "folders": list(plan.layout.folders),
        "path_mapping": plan.layout.path_mapping,
        "environments": environments,
    }


def _make_symbols(plan: JobPlan, values: Any) -> Any:
    """Give the library's table of what format strings may name."""
    from openjd.model import SymbolTable

    symbols = SymbolTable()
    symbols["Session.WorkingDirectory"] = SESSION
    symbols["Session.HasPathMappingRules"] = "true"
    symbols["Session.PathMappingRulesFile"] = f"{SESSION}/path_mapping.json"
    for prefix, found in (("", plan.job.values), ("Task.", values)):
        for name, one in found.items():
            symbols[f"{prefix}RawParam.{name}"] = one.value
            value = one.value
            if one.type.value == "PATH" and value:
                value = plan.layout.map_path(os.path.normpath(value))
            symbols[f"{prefix}Param.{name}"] = value
    return symbols


def _resolve_environment(plan: JobPlan, one: Any, number: int) -> dict[str, Any]:
    symbols = _make_symbols(plan, {})
    with translate_fault(f"environment {one.name}", code="bad_template"):
        variables = {
            name: value.resolve(symtab=symbols)
            for name, value in (one.variables or {}).items()
        }
        if one.script is None:
            return {
                "name": one.name,
                "variables": variables,
                "files": [],
                "enter": None,
                "exit": None,
            }
        folder = f"{SESSION}/files/{number}"
        files = _resolve_files(one.script, folder, symbols, "Env")
        actions = one.script.actions
        return {
            "name": one.name,
            "variables": variables,
            "files": files,
            "enter": _resolve_action(actions.onEnter, symbols, NOTIFY_S, 0),
            "exit": _resolve_action(actions.onExit, symbols, NOTIFY_S, EXIT_TIMEOUT_S),
        }


def _resolve_files(
    script: Any, folder: str, symbols: Any, scope: str
) -> list[dict[str, Any]]:
    """Give the embedded files; their places become symbols first."""
    embedded = script.embeddedFiles or ()
    for file in embedded:
        symbols[f"{scope}.File.{file.name}"] = f"{folder}/{file.filename or file.name}"
    return [
        {
            "path": symbols[f"{scope}.File.{file.name}"],
            "data": _end_lines(file.data.resolve(symtab=symbols), file.endOfLine),
            "runnable": bool(file.runnable),
        }
        for file in embedded
    ]


def _end_lines(text: str, wanted: Any) -> str:
    plain = text.replace("\r\n", "\n")
    return plain.replace("\n", "\r\n") if wanted and wanted.value == "CRLF" else plain


def _resolve_action(
    action: Any, symbols: Any, notify_s: int, timeout_s: int
) -> dict[str, Any] | None:
    if action is None:
        return None
    method = action.cancelation
    if method is None or method.mode.value != "NOTIFY_THEN_TERMINATE":
        notify_s = 0
    elif method.notifyPeriodInSeconds is not None:
        notify_s = _resolve_number(method.notifyPeriodInSeconds, symbols)
    if action.timeout is not None:
        timeout_s = _resolve_number(action.timeout, symbols)
    return {
        "command": action.command.resolve(symtab=symbols),
        "args": [one.resolve(symtab=symbols) for one in action.args or ()],
        "timeout_s": timeout_s,
        "notify_s": notify_s,
    }


def _resolve_number(value: Any, symbols: Any) -> int:
    return int(value if isinstance(value, int) else value.resolve(symtab=symbols))


def _slug(text: str) -> str:
    """Give a name that a file and a task may have; it begins with a number."""
    return _NOT_ID.sub("-", text)[:ID_LENGTH_MAX].rstrip("-.")
