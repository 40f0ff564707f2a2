"""The client for programs that do not await: the same answers, through its portal."""

import asyncio
from pathlib import Path

import pytest

from sublet import Client
from sublet.base.errors import Refused
from sublet.workload.run.event import AnyEvent, Running
from tests.integration.tenant_house import running_market


def use(url: str, home: Path) -> None:
    """Do what a plain script would do."""
    with Client(url, home=home, environment={}) as client:
        client.faucet()
        assert [row.machine for row in client.offers()]
        assert client.quote(max_total="5.00").price_hour > 0
        assert client.prices(model="cpu").rows[0].machines > 0
        assert client.prices("depth", model="h200").kinds == ()
        with pytest.raises(Refused, match="--memory"):
            client.quote(memory="4")
        result = client.run(
            "sh", "-c", "echo hi; exit 3", is_command=True, max_total="5.00"
        )
        assert (result.exit_code, Path(result.stdout).read_bytes()) == (3, b"hi\n")
        job = client.start("true", is_command=True, max_total="5.00")
        events: list[AnyEvent] = list(job)
        assert any(isinstance(said, Running) for said in events)
        assert job.result().exit_code == 0
        assert len(client.leases(is_all=True)) == 2
        assert client.account().earned == 0


async def test_plain_script_rents_a_machine(tmp_path: Path) -> None:
    async with running_market(tmp_path) as market:
        await market.provide()
        url = market.guest.url
        async with asyncio.timeout(60):
            await asyncio.to_thread(use, url, tmp_path / "plain")
