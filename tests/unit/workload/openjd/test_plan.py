"""A job becomes steps, tasks and what their sessions need; all is resolved here."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from sublet.base import limits
from sublet.base.errors import Faults, Refused
from sublet.workload.map.task import Task
from sublet.workload.openjd.layout import ROOT as BOX
from sublet.workload.openjd.plan import JobPlan, describe_step, list_tasks, plan_job
from sublet.workload.openjd.template import load_job
from tests.style.tree import ROOT

TWO_STEPS = ROOT / "tests/data/openjd/two-steps.yaml"
EXAMPLE = ROOT / "examples/openjd/blender-frames.yaml"
HEAD = "specificationVersion: jobtemplate-2023-09\nname: n\n"


def plan_text(folder: Path, text: str, *, only: str | None = None) -> JobPlan:
    (folder / "job.yaml").write_text(HEAD + text)
    return plan_job(load_job(folder / "job.yaml", {}, here=folder), only=only)


def plan_two(folder: Path, **given: str) -> JobPlan:
    source = folder / "words.txt"
    source.write_text("words")
    given = {"Source": str(source), "Made": str(folder / "made"), **given}
    return plan_job(load_job(TWO_STEPS, given, here=folder))


def test_tasks_are_the_parameter_space(tmp_path: Path) -> None:
    plan = plan_two(tmp_path)
    write, join = plan.steps
    assert (write.tasks, write.after, join.tasks, join.after) == (4, (), 1, ("Write",))
    assert (write.environments, join.environments) == (("Site", "Room"), ("Site",))
    tasks = list(list_tasks(plan, write))
    assert [task.id for task in tasks] == [
        "1-Number-1-Letter-a-Size-0.5",
        "2-Number-1-Letter-b-Size-1.5",
        "3-Number-2-Letter-a-Size-0.5",
        "4-Number-2-Letter-b-Size-1.5",
    ]
    assert [task.id for task in list_tasks(plan, join)] == ["1"]
    for task in tasks:  # a file of tasks takes them
        msgspec.json.decode(msgspec.json.encode(task), type=Task)


def test_no_format_string_is_left(tmp_path: Path) -> None:
    plan = plan_two(tmp_path)
    text = msgspec.json.encode(
        [
            (describe_step(plan, step), list(list_tasks(plan, step)))
            for step in plan.steps
        ]
    ).decode()
    assert "{{" not in text
    assert str(tmp_path) + "/made" in text  # in the path mapping, and only there
    assert f"{BOX}/job/paths/Made/made/1a.part" in text


def test_session_of_a_task_is_told(tmp_path: Path) -> None:
    plan = plan_two(tmp_path, Title="Site 1")
    task = next(list_tasks(plan, plan.steps[0]))
    run = task.data["run"]
    assert (run["command"], run["timeout_s"], run["notify_s"]) == ("bash", 60, 0)
    (file,) = task.data["files"]
    assert file["path"] == f"{BOX}/session/files/task/say"
    assert "1 a 0.5 $(cat" in file["data"]
    common = describe_step(plan, plan.steps[0])
    site, room = common["environments"]
    assert site["variables"] == {"SITE": "Site 1"}
    assert site["enter"]["timeout_s"] == 0
    assert site["exit"]["timeout_s"] == 300  # the specification's, where none is named
    assert room == {
        "name": "Room",
        "variables": {"ROOM": "2"},
        "files": [],
        "enter": None,
        "exit": None,
    }
    # One of them has to be left again, so each task has a session of its own.
    assert common["is_kept"] is False
    assert common["folders"] == [
        *("job/paths/Made/made", "job/paths/Source", "job/template")
    ]


def test_one_step_brings_what_it_depends_on(tmp_path: Path) -> None:
    text = "steps:\n" + "".join(
        f"- {{name: {name}, script: {{actions: {{onRun: {{command: x}}}}}}{more}}}\n"
        for name, more in (
            ("A", ""),
            ("B", ", dependencies: [{dependsOn: A}]"),
            ("C", ", dependencies: [{dependsOn: B}]"),
            ("D", ""),
        )
    )
    assert [s.name for s in plan_text(tmp_path, text, only="C").steps] == list("ABC")
    whole = plan_text(tmp_path, text)
    assert [s.name for s in whole.steps] == list("ABCD")
    assert whole.steps[2].after == ("A", "B")
    # The folder of results is the same, whether the others are run or not.
    alone = plan_text(tmp_path, text, only="D")
    assert alone.steps[0].folder == whole.steps[3].folder == "4-D"
    with pytest.raises(Refused, match="A, B, C, D"):
        plan_text(tmp_path, text, only="E")


def test_timeouts_and_cancelation(tmp_path: Path) -> None:
    text = """
extensions: [FEATURE_BUNDLE_1]
parameterDefinitions: [{name: Limit, type: INT, default: 7}]
steps:
- name: S
  script:
    embeddedFiles:
    - {name: f, type: TEXT, data: "a\\nb\\n", endOfLine: CRLF, filename: f.txt, runnable: true}
    actions:
      onRun:
        command: x
        timeout: "{{Param.Limit}}"
        cancelation: {mode: NOTIFY_THEN_TERMINATE%s}
"""
    for more, notify_s in (("", 120), (", notifyPeriodInSeconds: 9", 9)):
        plan = plan_text(tmp_path, text % more)
        (task,) = list_tasks(plan, plan.steps[0])
        assert task.data["run"]["timeout_s"] == 7
        assert task.data["run"]["notify_s"] == notify_s
        assert task.data["files"] == [
            {
                "path": f"{BOX}/session/files/task/f.txt",
                "data": "a\r\nb\r\n",
                "runnable": True,
            }
        ]


def test_chunks_are_tasks(tmp_path: Path) -> None:
    text = """
extensions: [TASK_CHUNKING]
steps:
- name: S
  parameterSpace:
    taskParameterDefinitions:
    - name: F
      type: CHUNK[INT]
      range: "1-10"
      chunks: {defaultTaskCount: 4, rangeConstraint: CONTIGUOUS}
  script: {actions: {onRun: {command: x, args: ["{{Task.Param.F}}"]}}}
"""
    plan = plan_text(tmp_path, text)
    args = [task.data["run"]["args"] for task in list_tasks(plan, plan.steps[0])]
    assert plan.steps[0].tasks == len(args) == 3
    assert args[0] == ["1-4"]


def test_script_of_an_interpreter_becomes_an_action(tmp_path: Path) -> None:
    text = """
extensions: [FEATURE_BUNDLE_1]
steps: [{name: S, bash: {script: "echo hi"}}]
"""
    plan = plan_text(tmp_path, text)
    (task,) = list_tasks(plan, plan.steps[0])
    assert task.data["run"]["command"] == "bash"
    assert task.data["files"][0]["data"].strip() == "echo hi"
    assert task.data["run"]["args"][-1] == task.data["files"][0]["path"]


def test_too_many_tasks_are_refused(tmp_path: Path) -> None:
    count = 1_001
    assert count**2 > limits.TASKS_MAX
    text = f"""
steps:
- name: S
  parameterSpace:
    taskParameterDefinitions:
    - {{name: A, type: INT, range: "1-{count}"}}
    - {{name: B, type: INT, range: "1-{count}"}}
  script: {{actions: {{onRun: {{command: x}}}}}}
"""
    with pytest.raises(Faults, match="narrow its parameterSpace"):
        plan_text(tmp_path, text)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = """
parameterDefinitions:
- {name: P, type: PATH, objectType: FILE, dataFlow: IN, default: none.txt}
steps:
- name: S
  hostRequirements: {amounts: [{name: amount.x.y, min: 1}]}
  script: {actions: {onRun: {command: x}}}
- name: T
  hostRequirements: {attributes: [{name: attr.worker.os.family, anyOf: [windows]}]}
  script: {actions: {onRun: {command: x}}}
"""
    with pytest.raises(Faults) as caught:
        plan_text(tmp_path, text)
    codes = [fault.code for fault in caught.value.faults]
    assert codes == ["unknown_requirement", "unmet_requirement", "bad_parameter"]


def test_raw_and_mapped_paths(tmp_path: Path) -> None:
    text = """
parameterDefinitions:
- {name: In, type: PATH, objectType: FILE, dataFlow: IN, default: a/../a/in.txt}
- {name: Free, type: PATH, default: tools}
- {name: Empty, type: PATH, default: ""}
steps:
- name: S
  parameterSpace:
    taskParameterDefinitions:
    - {name: T, type: PATH, range: ["{{RawParam.In}}", /elsewhere]}
  script:
    actions:
      onRun:
        command: x
        args: ["{{Param.In}}", "{{RawParam.In}}", "{{Param.Free}}", "{{Param.Empty}}",
          "{{Task.Param.T}}", "{{Task.RawParam.T}}"]
"""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/in.txt").write_text("x")
    plan = plan_text(tmp_path, text)
    found: Any = [task.data["run"]["args"] for task in list_tasks(plan, plan.steps[0])]
    local, box = str(tmp_path / "a/in.txt"), f"{BOX}/job/template/a/in.txt"
    tools = f"{BOX}/job/template/tools"
    assert found[0] == [box, local, tools, "", box, local]
    assert found[1][4:] == ["/elsewhere", "/elsewhere"]


def test_the_example_is_a_job(tmp_path: Path) -> None:
    (tmp_path / "scene.blend").write_bytes(b"BLENDER")
    given = {"Scene": "scene.blend", "Output": "frames", "Frames": "1-9:4"}
    plan = plan_job(load_job(EXAMPLE, given, here=tmp_path))
    render, _ = plan.steps
    assert (render.tasks, render.environments) == (3, ("Blender",))
    ids = [task.id for task in list_tasks(plan, render)]
    assert ids == ["1-Frame-1", "2-Frame-5", "3-Frame-9"]
