"""``sublet provider``: what it asks is understood or refused, in one line."""

import json
from pathlib import Path

import pytest

from sublet.cli.root import run_command
from tests.integration.provider_house import make_home


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--memory", "16"], "--memory"),  # no unit
        (["--memory", "-1GiB"], "--memory"),
        (["--disk", "nan"], "--disk"),
        (["--cpus", "0"], "--cpus"),
        (["--cpus", "many"], "--cpus"),
        (["--cpus", "9999"], "--cpus"),  # more than there are
        (["--price-gpu", "-1"], "--price-gpu"),
        (["--price-cpu", "1e9"], "--price-cpu"),
        (["--watts", "100"], "--tariff"),  # half a price
        (["--tariff", "0.30"], "--watts"),
        (["--watts", "1", "--tariff", "0.3", "--price-gpu", "1"], "not both"),
        (["--watts", "-1", "--tariff", "0.3"], "--watts"),
        (["--region", "Atlantis"], "region"),
        (["--name", "two words"], "name"),
        (["--market", "ftp://x"], "--market"),
        (["--surprise"], "--surprise"),
    ],
)
def test_refuses_bad_wishes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    home = tmp_path / "home"
    code = run_command(["provider", "init", "--home", str(home), *flags])
    assert code == 2
    assert said in capsys.readouterr().err
    assert not (home / "config.toml").exists()


@pytest.mark.parametrize("listen", ["nowhere", ":22", "host:", "host:70000"])
def test_refuses_bad_ports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listen: str
) -> None:
    argv = ["provider", "start", "--home", str(tmp_path), "--listen", listen]
    assert run_command(argv) == 2
    assert "--listen" in capsys.readouterr().err


def test_shows_a_provider_at_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = make_home(tmp_path, "http://127.0.0.1:8470")
    assert run_command(["provider", "status", "--home", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert key.address in shown
    assert "not running" in shown
    assert run_command(["provider", "status", "--home", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["provider"], said["is_running"]) == (key.address, False)


@pytest.mark.parametrize(("verb", "code"), [("drain", 3), ("status", 2), ("start", 2)])
def test_says_how_to_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, code: int
) -> None:
    assert run_command(["provider", verb, "--home", str(tmp_path)]) == code
    assert "sublet provider" in capsys.readouterr().err
