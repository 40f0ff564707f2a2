"""A hostile job through a real node and a real agent: what it leaves, what it says.

The job fills its folder with everything that must not travel, and goes on changing it
in the background until it is killed.
"""

from pathlib import Path

import pytest

from tests.acceptance.escape.cellblock import EACH, KINDS
from tests.integration.provider_house import (
    running_house,
    tenant_of,
    wait_settled,
    wait_true,
)

MESS = r"""
import os, socket, signal, sys
os.chdir("/work")
os.makedirs("out/deep")
open("out/good", "w").write("good")
os.link("out/good", "out/hardlink")
for name, target in {"passwd": "/etc/passwd", "up": "../../../record.json", "root": "/",
                     "self": "."}.items():
    os.symlink(target, "out/" + name)
os.mkfifo("out/fifo")
socket.socket(socket.AF_UNIX).bind("out/socket")
open("out/su", "w").close()
os.chmod("out/su", 0o6777)
open("out/\x1b]0;evil\x07\x1b[2J", "w").close()
open(b"out/\xff\xfe", "w").close()
here = os.open("out/deep", os.O_RDONLY)
for _ in range(200):
    os.mkdir("d" * 60, dir_fd=here)
    here = os.open("d" * 60, os.O_RDONLY, dir_fd=here)
os.write(2, b"\x1b[31mred\x1b]0;evil\x07\n")
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            try:
                os.symlink("/etc", "out/late")
                os.unlink("out/late")
            except OSError:
                pass
"""


@pytest.mark.parametrize("kind", EACH)
async def test_what_a_hostile_job_leaves(kind: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with (
        running_house(tmp_path, sandbox=KINDS[kind]()) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        result = await client.run(
            "python3",
            "-c",
            MESS,
            is_command=True,
            outputs=[f"out:{home}"],
            max_total="50",
            max_price="500",
        )
        assert result.exit_code == 0, result
        (lease,) = await wait_settled(client)
        left = house.home / "leases" / lease.id
        await wait_true(lambda: not left.exists())  # with all of its depth
    found = {str(path.relative_to(home)): path for path in home.rglob("*")}
    assert set(found) == {"good", "hardlink", "su"}
    assert found["good"].read_text() == found["hardlink"].read_text() == "good"
    assert found["su"].stat().st_mode & 0o7777 == 0o755
    assert not any(path.is_symlink() for path in found.values())
