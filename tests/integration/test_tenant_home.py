"""What a job leaves in its tenant's home, and what it takes away again."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sublet.base.errors import Refused, Unavailable
from sublet.base.units import compute_owed
from sublet.workload.client import AsyncClient
from sublet.workload.run.result import JobResult
from tests.fakes.provider import FakeProvider, Temper
from tests.integration.tenant_house import RUN_S, Market, running_market

SAVING = (
    "mkdir -p ckpt; test -f ckpt/n && echo resumed; echo 7 > ckpt/n.part;"
    "mv ckpt/n.part ckpt/n; sleep 1; exit"
)


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    async with running_market(tmp_path) as house:
        yield house


def chunks(client: AsyncClient) -> list[Path]:
    return list(client.home.path.glob("jobs/*/blobs/**/*"))


def read(path: str) -> str:
    return Path(path).read_text()


async def test_finished_job_leaves_no_chunks(market: Market) -> None:
    await market.provide()
    source = market.folder / "data.bin"
    source.write_bytes(b"x" * 100_000)
    target = market.folder / "copy.bin"
    result = await market.run(
        "sh",
        "-c",
        f"cp data.bin copy.bin; {SAVING} 0",
        is_command=True,
        inputs=[str(source)],
        outputs=[f"copy.bin:{target}"],
        checkpoint="ckpt",
    )
    assert result.exit_code == 0, result
    assert result.attempts[0].secured_ms > 0
    assert target.read_bytes() == source.read_bytes()
    assert chunks(market.client) == []
    assert result.checkpoint == ""
    assert not list(market.client.home.path.glob("jobs/*/checkpoint"))


async def test_failed_job_keeps_its_checkpoint(market: Market) -> None:
    await market.provide()
    options = {"is_command": True, "checkpoint": "ckpt"}
    result = await market.run("sh", "-c", f"{SAVING} 5", **options)
    assert result.exit_code == 5
    assert (Path(result.checkpoint) / "n").read_text() == "7\n"
    assert chunks(market.client) == []
    # It goes along under the folder's own name, so that the next job finds it.
    again = await market.run(
        "sh", "-c", f"{SAVING} 0", inputs=[result.checkpoint], **options
    )
    assert read(again.stdout) == "resumed\n"


async def test_lost_job_keeps_its_checkpoint(market: Market) -> None:
    await market.provide(Temper(dies_at="checkpointed"))
    result = await market.run(
        "sh", "-c", f"{SAVING} 0", is_command=True, checkpoint="ckpt", wait="0s"
    )
    assert result.exit_code == 3, result
    assert (Path(result.checkpoint) / "n").read_text() == "7\n"
    assert chunks(market.client) == []


async def test_job_that_never_began_is_forgotten(market: Market) -> None:
    link = market.folder / "data"
    link.mkdir()
    (link / "first").write_text("x")
    (link / "second").symlink_to("/etc/passwd")
    with pytest.raises(Refused):
        await market.run("true", is_command=True, inputs=[str(link)])
    away = AsyncClient("http://127.0.0.1:9", home=market.folder / "away")
    async with away:
        with pytest.raises(Unavailable):
            await away.run("true", is_command=True)
    for client in (market.client, away):
        assert not list(client.home.path.glob("jobs/*"))


async def test_unwritable_output_is_our_own_fault(market: Market) -> None:
    provider = await market.provide()
    (market.folder / "file").write_text("in the way")
    good = market.folder / "good"
    result = await market.run(
        "sh",
        "-c",
        "echo a > a; echo b > b",
        is_command=True,
        outputs=[f"a:{market.folder}/file/a", f"b:{good}"],
    )
    assert result.exit_code == 3
    assert len(result.attempts) == 1
    assert f"{market.folder}/file" in result.message
    rescued = market.client.home.path / "jobs" / result.job_id / "outputs" / "a"
    assert str(rescued) in result.message
    assert (rescued.read_text(), good.read_text()) == ("a\n", "b\n")
    assert chunks(market.client) == []
    await provider_is_paid(market, provider, result)


async def test_full_disk_is_our_own_fault(market: Market, small_disk: Path) -> None:
    provider = await market.provide()
    options = {"is_command": True, "checkpoint": "ckpt", "max_total": "5.00"}
    script = (
        "mkdir ckpt; head -c 3000000 /dev/urandom > ckpt/big; sleep 1;"
        "echo small > small; head -c 3000000 /dev/urandom > zbig"
    )
    said: list[str] = []
    async with AsyncClient(market.guest.url, home=small_disk / "home") as client:
        await client.faucet()
        result = await client.run(
            "sh",
            "-c",
            script,
            outputs=[f"small:{market.folder}/small", f"zbig:{market.folder}/zbig"],
            on_event=lambda event: said.append(str(event)),
            **options,
        )
        assert result.exit_code == 3, result
        [attempt] = result.attempts
        assert (attempt.outcome, attempt.secured_ms) == ("exited", 0)
        assert "No space left" in result.message
        assert "free some space" in result.message
        assert [text for text in said if text.startswith("Unkept")]
        assert (market.folder / "small").read_text() == "small\n"
        assert not (market.folder / "zbig").exists()
    await provider_is_paid(market, provider, result)


async def provider_is_paid(
    market: Market, provider: FakeProvider, result: JobResult
) -> None:
    [job] = provider.jobs.values()
    owed = compute_owed(
        price_hour=result.attempts[0].price_hour, ran_ms=result.attempts[0].ran_ms
    )
    async with asyncio.timeout(RUN_S):
        while job.paid != owed:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert owed > 0
    assert job.closes == ["done"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that holds two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
