"""A person at a shell: types commands and reads what comes back."""

import asyncio
import os
import sys
from pathlib import Path

WAIT_S = 60


class Shell:
    """Types commands; its home and market are its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.env = {
            **os.environ,
            "SUBLET_MARKET": url,
            "SUBLET_HOME": str(self.home),
            "SUBLET_NO_WARM": "1",
        }

    async def start(self, *words: str, **env: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "sublet.cli.main",
            *words,
            env=self.env | env,
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def type(self, *words: str, **env: str) -> tuple[int, str, str]:
        process = await self.start(*words, **env)
        async with asyncio.timeout(WAIT_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()
