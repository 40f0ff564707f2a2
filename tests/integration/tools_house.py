"""A running job in a real sandbox, and the tools that people have anyway."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.provider.lease_state import Stage
from sublet.service.ports import Sandbox
from sublet.workload.client import AsyncClient
from sublet.workload.run.running import RunningJob
from tests.integration.provider_house import (
    House,
    running_house,
    tenant_of,
    wait_true,
)

TOOL_S = 120  # for one command, on a machine that has others to run
JOB = "import time; open('up', 'w').close(); time.sleep(600)"


@dataclass
class Said:
    """What a command came to."""

    code: int
    out: bytes
    err: str


@dataclass
class Tools:
    """One tenant's tools, and the job that they are used on."""

    house: House
    client: AsyncClient
    job: RunningJob
    home: Path
    folder: Path  # where commands are typed
    work: Path  # the job's folder, on the provider

    @property
    def env(self) -> dict[str, str]:
        return {
            **os.environ,
            "SUBLET_HOME": str(self.home),
            "SUBLET_MARKET": self.house.url,
            "SUBLET_NO_WARM": "1",
        }

    async def start(self, *argv: str) -> asyncio.subprocess.Process:
        """Start a command with pipes."""
        return await asyncio.create_subprocess_exec(
            *argv,
            env=self.env,
            cwd=self.folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def type(self, *argv: str, given: bytes = b"") -> Said:
        """Run a command to its end."""
        process = await self.start(*argv)
        try:
            async with asyncio.timeout(TOOL_S):
                out, err = await process.communicate(given)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return Said(process.returncode, out, err.decode(errors="replace"))

    async def sublet(self, *words: str) -> Said:
        return await self.type(*sublet(words))

    def ssh(self, program: str = "ssh") -> tuple[str, str, str]:
        """Give how an OpenSSH program is called with the job's configuration."""
        return program, "-F", str(self.home / "ssh" / "config")


def sublet(words: Sequence[str]) -> tuple[str, ...]:
    """Give how ``sublet`` is called."""
    return (sys.executable, "-m", "sublet.cli.main", *words)


@asynccontextmanager
async def running_tools(
    tmp_path: Path,
    *,
    program: str = JOB,
    sandbox: Sandbox | None = None,
    image: Path | None = None,
    **changes: object,
) -> AsyncIterator[Tools]:
    """Run a job called ``lab`` on a real provider, configured for OpenSSH.

    With an image (an archive) the program is one for its shell.
    """
    sandbox = sandbox or BubblewrapSandbox()
    interpreter = "sh" if image else "python3"
    async with (
        running_house(tmp_path, sandbox=sandbox, **changes) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        job = await client.start(
            interpreter,
            "-c",
            program,
            image=f"oci-archive:{image}" if image else None,
            is_command=True,
            name="lab",
            memory="1GiB",
            disk="1GiB",
            max_total="50.00",
            timeout="30m",
        )
        try:
            await wait_true(
                lambda: (
                    [record.stage for record in house.agent.roster.records()]
                    == [Stage.RUNNING]
                )
            )
            (lease,) = (house.home / "leases").iterdir()
            work = lease / "data" / "work"
            await wait_true((work / "up").exists)
            folder = tmp_path / "desk"
            folder.mkdir()
            tools = Tools(house, client, job, client.home.path, folder, work)
            said = await tools.sublet("ssh", "--config")
            assert said.code == 0, said.err
            assert said.out == b"ssh sublet-lab\n"
            yield tools
        finally:
            job.stop()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(30):
                    await job.result()
            with contextlib.suppress(TimeoutError):
                await house.agent.stop_now()
