"""A tenant asks for a class of sandbox; a real node, a real provider, a real job."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from sublet.adapter.sandbox_oci import GvisorSandbox, PodmanSandbox
from sublet.service.ports import Sandbox
from tests.integration.provider_house import running_house, tenant_of, wait_settled

pytestmark = pytest.mark.container

KINDS: dict[str, Callable[[], Sandbox]] = {
    "podman": PodmanSandbox,
    "gvisor": GvisorSandbox,
}
SCRIPT = """
from pathlib import Path
print(Path("/proc/version").read_text())
Path("result").write_text("made inside")
"""


@pytest.mark.parametrize("kind", KINDS)
async def test_runs_a_script_in_the_class(tmp_path: Path, kind: str) -> None:
    script = tmp_path / "job.py"
    await asyncio.to_thread(script.write_text, SCRIPT)
    outputs = [f"result:{tmp_path / 'got'}"]
    async with (
        running_house(tmp_path, sandbox=KINDS[kind]()) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        result = await client.run(
            str(script), sandbox=kind, outputs=outputs, max_total="50", max_price="500"
        )
        (lease,) = await wait_settled(client)
    assert result.exit_code == 0, result
    assert lease.sandbox == kind
    assert await asyncio.to_thread((tmp_path / "got").read_text) == "made inside"
    host = await asyncio.to_thread(Path("/proc/version").read_text)
    said = await asyncio.to_thread(Path(result.stdout).read_text)
    # gVisor is a kernel of its own, and says so.
    assert (said.strip() == host.strip()) == (kind == "podman")


async def test_says_that_nobody_offers_the_class(tmp_path: Path) -> None:
    async with (
        running_house(tmp_path) as house,  # a fake sandbox
        tenant_of(tmp_path, house.guest) as client,
    ):
        quote = await client.quote(sandbox="gvisor", max_total="50", max_price="500")
    assert quote.fault is not None
    assert quote.fault.code == "no_match"
    assert "excluded by: sandbox gvisor (1)" in quote.fault.message
