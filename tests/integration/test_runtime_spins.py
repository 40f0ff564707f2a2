"""gVisor's runtime says that a job runs, spins, and answers nobody: a whole lease."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sublet.adapter.sandbox_oci import GvisorSandbox
from sublet.adapter.scratch_gocryptfs import GocryptfsScratch
from sublet.provider.lease_state import Stage
from tests.integration.provider_house import (
    running_house,
    tenant_of,
    wait_settled,
    wait_true,
)
from tests.rig.open_folder import make_open_folder

pytestmark = pytest.mark.container

# The real one, until it is told to be a bad one; asked to end something, it spins, too.
WRAPPER = """#!/bin/sh
[ -e {flag} ] || exec {runsc} "$@"
for word; do
    case $word in --pid-file=*) printf 7 > "${{word#--pid-file=}}";; esac
done
while :; do :; done
"""


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that every uid can look into, unlike pytest's."""
    place = make_open_folder("sublet-test-")
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def is_spinning(wrapper: Path) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(wrapper).encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False


async def test_lease_ends_in_time_and_others_go_on(tmp_path: Path, base: Path) -> None:
    scratch = GocryptfsScratch()
    if not (probe := scratch.probe()).is_ok:
        pytest.skip(probe.reason)
    wrapper, flag = base / "runtime", base / "spin"
    wrapper.write_text(WRAPPER.format(flag=flag, runsc=shutil.which("runsc")))
    wrapper.chmod(0o755)
    sandbox = GvisorSandbox(program=str(wrapper))
    async with (
        running_house(tmp_path, sandbox=sandbox, scratches=[scratch]) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        flag.touch()
        terms = {"is_command": True, "max_price": "500", "max_total": "500"}
        big = {**terms, "cpus": "3", "erasure": True}
        held = await client.start("true", timeout="30s", retries=0, **big)
        await wait_true(
            lambda: (
                [each.record.stage for each in house.agent.roster.runners()]
                == [Stage.RUNNING]
            )
        )
        flag.unlink()

        # It has no word in what becomes of others, and its slice is nobody else's.
        quote = await client.quote(**{**big, "is_command": True})
        assert quote.fault is not None
        assert quote.fault.code == "no_match"
        assert is_spinning(wrapper)
        job = await client.start("true", cpus="1", **terms)
        assert (await job.result()).exit_code == 0

        # It ends at the deadline, by force, and leaves nothing.
        async with asyncio.timeout(120):
            result = await held.result()
        assert result.exit_code != 0
        assert "time" in result.message
        await wait_true(lambda: not is_spinning(wrapper))
        await wait_settled(client)

        # Erased, it is for rent again, by its runtime that is well again.
        (attempt,) = result.attempts
        lease_id = attempt.lease_id
        async with asyncio.timeout(60):
            while (await client.connection.lease(lease_id)).is_erasure_due:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        job = await client.start("true", **{**big, "erasure": False})
        assert (await job.result()).exit_code == 0
