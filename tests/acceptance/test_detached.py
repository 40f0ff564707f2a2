"""A job that was left with the market: it goes on, and nobody there reads it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sublet.core.lease.phase import Phase
from tests.acceptance.market_house import House, open_house, until

pytestmark = pytest.mark.sandbox

CANARIES = {name: f"canary-{name}-7c1e9a" for name in ("code", "data", "env", "print")}
# Counts, saves each number, says the canaries, leaves one in its output.
PROGRAM = f"""
# {CANARIES["code"]}
import os, pathlib, time
place = pathlib.Path('kept/number')
first = int(place.read_text()) + 1 if place.exists() else 1
print('{CANARIES["print"]}', os.environ['WORD'], flush=True)
for number in range(first, 31):
    print(number, flush=True)
    place.parent.mkdir(exist_ok=True)
    draft = place.with_suffix('.part')
    draft.write_text(str(number)); draft.rename(place)
    time.sleep(0.5)
data = pathlib.Path('data.txt').read_text()
pathlib.Path('made').write_text(data + ' of ' + str(number))
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("detached")) as opened:
        yield opened


def bring(house: House) -> Path:
    folder = house.folder / "laptop"
    folder.mkdir(exist_ok=True)
    (folder / "job.py").write_text(PROGRAM)
    (folder / "data.txt").write_text(CANARIES["data"])
    return folder


def sublet(house: House, *argv: str, code: int | None = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sublet.cli.main", *argv],
        cwd=house.folder / "laptop",
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={
            **os.environ,
            "SUBLET_NO_WARM": "1",
            "SUBLET_HOME": str(house.tenant_home),
        },
    )
    assert code is None or done.returncode == code, (done.returncode, done.stderr)
    return done.stdout


def read_words(path: str) -> list[str]:
    return Path(path).read_text().split()


def find_canaries(folder: Path) -> list[str]:
    """Name the files below a folder in which a canary sits, readable."""
    words = [word.encode() for word in CANARIES.values()]
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and any(word in path.read_bytes() for word in words)
    ]


async def test_goes_on_without_tenant_provider_and_node(house: House) -> None:
    bring(house)
    job_id = sublet(
        house, "run", "--detach", "--max-total", "5.00", "--timeout", "10m",
        "--disk", "64MiB", "--checkpoint", "kept", "--output", "made",
        "--env", f"WORD={CANARIES['env']}", "--input", "data.txt", "job.py",
    ).strip()  # fmt: skip
    first = await house.wait_lease(Phase.RUNNING)
    assert first.provider == house.addresses["cheap"]
    lease = first
    for _ in range(1_800):
        lease = next(one for one in await house.leases() if one.id == first.id)
        if lease.secured_ms:
            break
    assert lease.secured_ms, "no checkpoint was ever kept"
    house.kill_node()
    await house.kill_machine("cheap")
    house.start_node()
    second = await house.wait_lease(Phase.RUNNING, Phase.PREPARING, known=(first,))
    assert second.provider == house.addresses["dear"]
    result = json.loads(sublet(house, "attach", "--json", job_id))
    assert result["exit_code"] == 0, result
    assert [one["provider"] for one in result["attempts"]] == [
        house.addresses["cheap"],
        house.addresses["dear"],
    ]
    assert (house.folder / "laptop" / "made").read_text() == CANARIES["data"] + " of 30"
    shown = read_words(result["stdout"])
    assert CANARIES["env"] in shown
    numbers = [int(word) for word in shown if word.isdigit()]
    assert set(numbers) == set(range(1, 31)), "the output is whole"
    assert len(numbers) < 60, "it went on from its checkpoint"
    leases = await house.leases()
    assert len(leases) == 2, "never more leases than attempts"
    assert sum(one.paid for one in leases) <= 5_000_000
    assert find_canaries(house.node_home) == []
    assert not list((house.node_home / "jobs").glob("*")), "fetched, so forgotten"
    house.start_provider("cheap")
    house.wait_offers(2)


async def test_node_keeps_no_word_of_it_while_it_runs(house: House) -> None:
    bring(house)
    known = await house.leases()
    job_id = sublet(
        house, "run", "--detach", "--disk", "64MiB", "--timeout", "10m", "--checkpoint",
        "kept", "--output", "made", "--env", f"WORD={CANARIES['env']}", "--input",
        "data.txt", "job.py",
    ).strip()  # fmt: skip
    lease = await house.wait_lease(Phase.RUNNING, known=known)
    stream = house.node_home / "jobs"
    await until(lambda: any(p.stat().st_size for p in stream.glob("*/logs/*/stdout")))
    assert find_canaries(house.node_home) == []
    assert CANARIES["print"] in sublet(house, "logs", job_id)
    assert job_id in sublet(house, "ps")
    sublet(house, "stop", job_id)
    result = json.loads(sublet(house, "attach", "--json", job_id, code=130))
    assert result["exit_code"] == 130
    stopped = await house.wait_settled(lease.id)
    assert stopped.reason == "cancelled"


async def test_revoked_job_spends_nothing_more(house: House) -> None:
    bring(house)
    known = await house.leases()
    job_id = sublet(
        house, "run", "--detach", "--disk", "64MiB", "--timeout", "10m", "--retries", "5",
        "--", "sh", "-c", "echo begun; sleep 600",
    ).strip()  # fmt: skip
    lease = await house.wait_lease(Phase.RUNNING, known=known)
    assert "nobody spends anything more" in sublet(house, "revoke", job_id)
    result = json.loads(sublet(house, "attach", "--json", job_id, code=130))
    assert result["message"] == "stopped: its delegation was revoked"
    settled = await house.wait_settled(lease.id)
    assert settled.reason == "revoked"
    leases = await house.leases()
    assert len(leases) == len(known) + 1, "and no other lease"
    sublet(house, "revoke", job_id, code=2)


async def test_nobody_is_let_in_and_the_cure_is_named(house: House) -> None:
    bring(house)
    known = await house.leases()
    job_id = sublet(
        house, "run", "--detach", "--disk", "64MiB", "--timeout", "10m", "--name",
        "closed", "--", "sleep", "600",
    ).strip()  # fmt: skip
    await house.wait_lease(Phase.RUNNING, known=known)
    sublet(house, "logs", job_id)  # so that this home knows where it runs
    for argv in (
        ("ssh", job_id, "id"),
        ("cp", job_id + ":x", "."),
        ("port", job_id, "80"),
    ):
        said = house.sublet(*argv, code=2)
        assert "is detached, and sealed" in said
        assert f"sublet logs -f {job_id}" in said
    assert "closed" not in sublet(house, "ssh", "--config")
    sublet(house, "stop", job_id)
    sublet(house, "attach", "--json", job_id, code=130)


async def test_attach_can_leave_again(house: House) -> None:
    bring(house)
    known = await house.leases()
    job_id = sublet(
        house, "run", "--detach", "--disk", "64MiB", "--timeout", "10m", "--", "sh", "-c",
        "echo begun; sleep 6; echo done; exit 7",
    ).strip()  # fmt: skip
    await house.wait_lease(Phase.RUNNING, known=known)
    looking = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "sublet.cli.main", "attach", job_id],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={
            **os.environ,
            "SUBLET_NO_WARM": "1",
            "SUBLET_HOME": str(house.tenant_home),
        },
    )
    assert looking.stdout is not None
    assert looking.stdout.readline() == b"begun\n"
    looking.send_signal(signal.SIGINT)
    looking.communicate(timeout=60)
    assert looking.returncode == 130
    result = json.loads(sublet(house, "attach", "--json", job_id, code=7))
    assert read_words(result["stdout"]) == ["begun", "done"], "once each, over both"
    said = house.sublet("attach", job_id, code=2)
    assert "was fetched already" in said
