"""ssh, sftp and ports into jobs of every kind of sandbox, in scripts and images.

All that these tools can do, and what a hostile job would do to them, is tried on
bubblewrap in ``test_ordinary_tools`` and ``test_job_ports``.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.sandbox_oci import GvisorSandbox, PodmanSandbox
from sublet.service.ports import Sandbox
from tests.image_rig import busybox_image
from tests.integration.test_job_ports import SERVER, WAIT_S
from tests.integration.test_ordinary_tools import need_tools
from tests.integration.tools_house import Tools, running_tools, sublet

KINDS: dict[str, Callable[[], Sandbox]] = {
    "bubblewrap": BubblewrapSandbox,
    "podman": PodmanSandbox,
    "gvisor": GvisorSandbox,
}
pytestmark = pytest.mark.container
IMAGE_JOB = (
    "mkdir /tmp/www; echo of the job > /tmp/www/page; "
    "busybox httpd -p 127.0.0.1:8888 -h /tmp/www; touch up; sleep 600"
)
SFTP = b"pwd\nput local one\nrename one two\nget two fetched\nrm two\n"


async def check_files(tools: Tools, *, has_terminal: bool) -> None:
    """See that commands, standard input and files go both ways."""
    said = await tools.type(
        *tools.ssh(), "sublet-lab", "cat; echo oops >&2; pwd; exit 9", given=b"typed\n"
    )
    assert (said.code, said.out) == (9, b"typed\n/work\n"), said.err
    assert "oops" in said.err
    typed = b"test -t 0 && echo term'inal' || echo pi'pe'; exit 3\n"
    said = await tools.type(*tools.ssh(), "-tt", "sublet-lab", given=typed)
    assert said.code == 3, said.err
    assert (b"terminal" if has_terminal else b"pipe") in said.out
    (tools.folder / "local").write_text("content")
    said = await tools.type(*tools.ssh("sftp"), "-b", "-", "sublet-lab", given=SFTP)
    assert said.code == 0, said.err
    assert (tools.folder / "fetched").read_text() == "content"
    said = await tools.type(*tools.ssh("scp"), "-q", "local", "sublet-lab:brought")
    assert said.code == 0, said.err
    said = await tools.type(*tools.ssh(), "sublet-lab", "cat brought; echo x > made")
    assert said.out == b"content", said.err
    assert (tools.work / "made").read_text() == "x\n"


async def check_port(tools: Tools, *, is_there: bool) -> None:
    """See a server in the job, or hear why it is not seen."""
    process = await tools.start(*sublet(("port", "--json", "lab", "0:8888")))
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.timeout(WAIT_S):
            (row,) = json.loads(await process.stdout.readline())
            async with aiohttp.ClientSession() as session:
                try:
                    page = f"http://127.0.0.1:{row['local']}/page"
                    async with session.get(page) as answer:
                        said = (await answer.text()).strip()
                except aiohttp.ClientError:
                    said = (await process.stderr.readline()).decode()
        assert ("of the job" in said) == is_there
        assert ("a network of its own" in said) != is_there
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("kind", ["podman", "gvisor"])
async def test_reach_a_script(tmp_path: Path, kind: str) -> None:
    need_tools("ssh", "scp", "sftp")
    async with running_tools(tmp_path, program=SERVER, sandbox=KINDS[kind]()) as tools:
        await check_files(tools, has_terminal=kind != "gvisor")
        await check_port(tools, is_there=kind != "gvisor")


@pytest.mark.parametrize("kind", KINDS)
async def test_reach_an_image(tmp_path: Path, kind: str) -> None:
    need_tools("ssh", "scp", "sftp")
    archive = busybox_image().write_archive(tmp_path / "box.tar")
    async with running_tools(
        tmp_path, program=IMAGE_JOB, sandbox=KINDS[kind](), image=archive
    ) as tools:
        await check_files(tools, has_terminal=kind != "gvisor")
        await check_port(tools, is_there=kind != "gvisor")
