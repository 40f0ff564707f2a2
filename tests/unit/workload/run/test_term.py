"""Outputs, variables, secrets and stubbornness of a wish."""

from typing import Any

import pytest

from sublet.base.errors import Faults, Refused
from sublet.core.job.state import JobLimits
from sublet.workload.run.term import parse_output, parse_terms
from sublet.workload.run.wish import Terms, Wanted, Wish

ENVIRONMENT = {"TOKEN": "from-here", "MODE": "fast"}


def read_secret(path: str) -> str:
    if path != "good":
        raise Refused("--secret: no such file", code="bad_secret", field="--secret")
    return "from-file"


def parse(**options: Any) -> Terms:
    wish = Wish(target=("x",), **options)
    return parse_terms(wish, environment=ENVIRONMENT, read_secret=read_secret, now_s=0)


def refused(**options: Any) -> Refused:
    with pytest.raises(Faults) as caught:
        parse(**options)
    [fault] = caught.value.faults
    assert isinstance(fault, Refused)
    return fault


def test_variables_come_from_three_places() -> None:
    terms = parse(env=("A=1=2", "MODE"), secrets=("TOKEN", "KEY=@good"))
    assert terms.env == {"A": "1=2", "MODE": "fast"}
    assert terms.secrets == {"TOKEN": "from-here", "KEY": "from-file"}


def test_literal_secret_is_refused_unseen() -> None:
    fault = refused(secrets=("TOKEN=hunter2",))
    assert fault.code == "secret_on_command_line"
    assert "hunter2" not in fault.message
    assert "@FILE" in fault.message


REFUSED = [
    ({"env": ("NOWHERE",)}, "unset_variable"),
    ({"env": ("1X=2",)}, "bad_variable"),
    ({"secrets": ("NOWHERE",)}, "unset_variable"),
    ({"secrets": ("KEY=@bad",)}, "bad_secret"),
    ({"outputs": ("../model",)}, "bad_path"),
    ({"outputs": ("/etc/passwd",)}, "bad_path"),
    ({"outputs": ("a/../../b",)}, "bad_path"),
    ({"outputs": ("",)}, "bad_path"),
    ({"outputs": (".",)}, "bad_path"),
    ({"outputs": ("model:",)}, "bad_path"),
    ({"outputs": ("a\x1b[31m",)}, "bad_path"),
    ({"outputs": ("model", "model/x")}, "bad_path"),
    ({"outputs": ("model", "model")}, "bad_path"),
    ({"outputs": tuple(f"o{number}" for number in range(65))}, "too_many_outputs"),
    ({"checkpoint": ".."}, "bad_path"),
    ({"checkpoint": "/tmp"}, "bad_path"),
    ({"retries": -1}, "out_of_range"),
    ({"retries": 101}, "out_of_range"),
    ({"wait": "10"}, "bad_duration"),
    ({"wait": "2d"}, "out_of_range"),
    ({"name": "a b"}, "bad_name"),
    ({"name": ""}, "bad_name"),
]


@pytest.mark.parametrize(("options", "code"), REFUSED)
def test_nonsense_is_refused_by_name(options: dict[str, Any], code: str) -> None:
    assert refused(**options).code == code


OUTPUTS = [
    ("model", Wanted("model", "")),
    ("./model/", Wanted("model", "")),
    ("a/b:out", Wanted("a/b", "out")),
    ("a:/abs/x:y", Wanted("a", "/abs/x:y")),
]


@pytest.mark.parametrize(("text", "wanted"), OUTPUTS)
def test_outputs_are_read(text: str, wanted: Wanted) -> None:
    assert parse_output(text) == wanted


def test_named_retries_cover_own_failures() -> None:
    assert parse().limits == JobLimits(retries=3, retries_own=False, wait_ms=30_000)
    # A standing order has waited itself: once it is over, so is the wait.
    assert parse(mode="standing:10m").limits.wait_ms == 0
    assert parse(mode="standing:10m", wait="1m").limits.wait_ms == 60_000
    assert parse(retries=0, wait="0s").limits == JobLimits(0, True, 0)
