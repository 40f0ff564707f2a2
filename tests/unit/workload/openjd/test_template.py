"""Templates are read by the library; what it refuses, we refuse in its words."""

from pathlib import Path

import pytest

from sublet.base.errors import Refused, SubletError
from sublet.workload.deploy.tree import FILE_BYTES_MAX
from sublet.workload.openjd.template import load_job, parse_parameters
from tests.style.tree import ROOT

TWO_STEPS = ROOT / "tests/data/openjd/two-steps.yaml"
MINIMAL = """
specificationVersion: jobtemplate-2023-09
name: one
steps: [{name: S, script: {actions: {onRun: {command: "true"}}}}]
"""
BOMB = "a0: &a0 [1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


def write(folder: Path, text: str) -> Path:
    place = folder / "job.yaml"
    place.write_text(text)
    return place


def test_steps_come_in_the_order_of_their_dependencies(tmp_path: Path) -> None:
    job = load_job(TWO_STEPS, {"Count": "3"}, here=tmp_path)
    assert [step.name for step in job.steps] == ["Write", "Join"]
    assert (job.name, job.values["Count"].value) == ("Two steps", "3")


def test_typed_paths_are_relative_to_here(tmp_path: Path) -> None:
    job = load_job(TWO_STEPS, {"Source": "mine.txt"}, here=tmp_path)
    assert job.values["Source"].value == str(tmp_path / "mine.txt")
    assert job.values["Made"].value == str(TWO_STEPS.parent / "made")


def test_reads_json_by_its_ending(tmp_path: Path) -> None:
    place = tmp_path / "job.json"
    place.write_text(
        '{"specificationVersion": "jobtemplate-2023-09", "name": "j", "steps": '
        '[{"name": "S", "script": {"actions": {"onRun": {"command": "true"}}}}]}'
    )
    assert load_job(place, {}, here=tmp_path).name == "j"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"Count": "10"}, "Count"),  # above maxValue
        ({"Count": "many"}, "Count"),  # no number
        ({"Title": "x" * 21}, "Title"),  # above maxLength
        ({"Nobody": "1"}, "Nobody"),  # not defined
    ],
)
def test_parameter_out_of_bounds_is_named(given: dict[str, str], said: str) -> None:
    with pytest.raises(Refused, match=said) as caught:
        load_job(TWO_STEPS, given, here=Path("/"))
    assert (caught.value.code, caught.value.field) == ("bad_parameter", "--param")


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("a: [", "bad_yaml", "line 1: the file is not YAML"),
        ("- 1", "bad_yaml", "is not a mapping"),
        ("name: x", "bad_template", "specificationVersion"),
        (MINIMAL.replace("2023-09", "2099-01"), "bad_template", "2099-01"),
        (MINIMAL + "more: 1\n", "bad_template", "more"),
        (MINIMAL.replace('"true"', '"{{Param.X}}"'), "bad_template", "Param.X"),
        (MINIMAL + "extensions: [EXPR]\n", "unsupported_template", "EXPR"),
        (MINIMAL + "extensions: [{}]\n", "unsupported_template", "extensions"),
        ("a: " + "[" * 100_000, "bad_yaml", "nested deeper"),  # felled the library
        (BOMB, "bad_yaml", "aliases counted as often as used"),
    ],
)
def test_bad_template_is_refused(
    tmp_path: Path, text: str, code: str, said: str
) -> None:
    with pytest.raises(SubletError, match=said) as caught:
        load_job(write(tmp_path, text), {}, here=tmp_path)
    fault = caught.value
    assert {one.code for one in getattr(fault, "faults", (fault,))} == {code}


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "job.yaml"
    place.write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="not UTF-8"):
        load_job(place, {}, here=tmp_path)
    with pytest.raises(Refused, match="No such file"):
        load_job(tmp_path / "none.yaml", {}, here=tmp_path)
    place.write_bytes(b" " * (FILE_BYTES_MAX + 1))
    with pytest.raises(Refused, match="more than"):
        load_job(place, {}, here=tmp_path)


def test_parameters_have_a_name_and_a_value() -> None:
    assert parse_parameters(("A=1", "B=x=y", "C=")) == {"A": "1", "B": "x=y", "C": ""}
    for texts in (("A",), ("=1",), ("A=1", "A=2")):
        with pytest.raises(Refused, match="--param"):
            parse_parameters(texts)
