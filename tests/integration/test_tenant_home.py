"""What a job leaves in its tenant's home, and what it takes away again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sublet.base.errors import Refused, Unavailable
from sublet.workload.client import AsyncClient
from tests.fakes.provider import Temper
from tests.integration.tenant_house import Market, running_market

SAVING = (
    "mkdir -p ckpt; test -f ckpt/n && echo resumed; echo 7 > ckpt/n.part;"
    "mv ckpt/n.part ckpt/n; sleep 1; exit"
)


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    async with running_market(tmp_path) as house:
        yield house


def chunks(client: AsyncClient) -> list[Path]:
    return [path for path in client.home.path.glob("jobs/*/blobs/**/*")]


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
    assert Path(again.stdout).read_text() == "resumed\n"


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
