"""A shell and commands beside a running job, in a real sandbox."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.provider.lease_state import Stage
from tests.integration.provider_house import (
    House,
    RawTenant,
    make_manifest,
    running_house,
    tenant_of,
    wait_true,
)

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module", autouse=True)
def _needs_sandbox() -> None:
    probe = BubblewrapSandbox().probe()
    if not probe.is_ok:
        pytest.skip(probe.reason)


@asynccontextmanager
async def _job(
    tmp_path: Path,
) -> AsyncIterator[tuple[House, asyncssh.SSHClientConnection]]:
    manifest = make_manifest("sh", "-c", "echo mine > file; sleep 60")
    async with (
        running_house(tmp_path, sandbox=BubblewrapSandbox()) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        tenant = RawTenant(client)
        lease = await tenant.rent(manifest)
        try:
            async with tenant.dial(lease) as channel:
                await tenant.begin(channel, manifest)
                await wait_true(
                    lambda: (
                        [r.stage for r in house.agent.roster.records()]
                        == [Stage.RUNNING]
                    )
                )
                work = house.home / "leases" / lease.id / "data" / "work"
                await wait_true((work / "file").exists)
                yield house, channel._connection
        finally:
            with contextlib.suppress(TimeoutError):
                await house.agent.stop_now()


async def test_runs_commands_beside_job(tmp_path: Path) -> None:
    async with _job(tmp_path) as (house, ssh):
        done = await ssh.run("sublet exec cat file", encoding=None)
        assert (done.stdout, done.exit_status) == (b"mine\n", 0)
        done = await ssh.run(
            "sublet exec sh -c 'cat; echo oops >&2; exit 5'",
            input=b"typed\n",
            encoding=None,
        )
        assert (done.stdout, done.stderr) == (b"typed\n", b"oops\n")
        assert done.exit_status == 5
        # Isolated as the job is: no network, not root, nothing of the host.
        script = "id -u; ls /sys/class/net; cat /root/.ssh/* 2>&1 | head -1"
        done = await ssh.run(f"sublet exec sh -c '{script}'", encoding=None)
        assert done.stdout is not None
        assert done.stdout.splitlines()[0] == b"1000"
        shells = house.home / "leases"
        assert not list(shells.glob("*/shells/*"))  # nothing stays behind


async def test_opens_a_terminal(tmp_path: Path) -> None:
    async with _job(tmp_path) as (_, ssh):
        process = await ssh.create_process(
            "sublet shell", encoding=None, term_type="xterm", term_size=(77, 11)
        )
        process.stdin.write(b"tty; stty size; echo $TERM; cat file; exit 4\n")
        async with asyncio.timeout(20):
            said = await process.stdout.read()
            await process.wait_closed()
        assert b"11 77" in said
        assert b"xterm" in said
        assert b"mine" in said
        assert process.exit_status == 4


async def test_ends_with_its_tenant(tmp_path: Path) -> None:
    async with _job(tmp_path) as (house, ssh):
        process = await ssh.create_process("sublet exec sleep 60", encoding=None)
        (lease,) = (house.home / "leases").iterdir()
        shells = lease / "shells"
        await wait_true(lambda: shells.is_dir() and len(list(shells.iterdir())) == 1)
        process.close()
        await wait_true(lambda: not list(shells.iterdir()))
