"""A detached job on encrypted scratch: its tenant gets the statement all the same."""

import asyncio
from pathlib import Path

from typer.testing import CliRunner

from sublet.cli.audit import app
from sublet.wire.sanitization import find_faults, open_envelope
from sublet.workload.detached.client import attach, detach
from sublet.workload.run import event
from tests.fakes.scratch_fake import FakeScratch
from tests.integration.provider_house import running_house, tenant_of


async def test_tenant_gets_the_statement(tmp_path: Path) -> None:
    async with (
        running_house(tmp_path, scratches=[FakeScratch()]) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        shown: list[event.AnyEvent] = []
        record = await detach(
            client, "sh", "-c", "echo made > result", is_command=True, erasure=True,
            max_price="100", max_total="100", outputs=[f"result:{tmp_path}/result"],
        )  # fmt: skip
        async with asyncio.timeout(120):
            result = await attach(client, record.id, on_event=shown.append)
        assert result.exit_code == 0, (result.message, shown)
        assert (tmp_path / "result").read_text() == "made\n"
        [erased] = [each for each in shown if isinstance(each, event.Erased)]
        assert erased.claim == "clear, level A1"
        assert str(client.home.job_folder(record.id)) in erased.path

        await house.agent.around.outbox.wait_drained(timeout_s=60)
        [lease] = await client.leases(is_all=True)
        read = open_envelope(Path(erased.path).read_bytes())
        assert read.digest == lease.erasure
        assert not find_faults(read, lease, logged_at_s=int(2e9))
    audit = ["erasure", lease.id, "--log", str(tmp_path / "node" / "log.db")]
    told = CliRunner().invoke(app, [*audit, "--receipt", erased.path])
    assert told.exit_code == 0, told.output
