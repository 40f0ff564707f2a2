"""``sublet deploy`` at a terminal: it asks before it signs, and leaves what it is told to."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sublet.core.lease.phase import Phase
from tests.acceptance.market_house import House, open_house
from tests.image_rig import busybox_image
from tests.rig.terminal import Person

pytestmark = [pytest.mark.sandbox, pytest.mark.container]

FILE = """\
sublet: 1
name: left
services:
  web:
    image: oci-archive:{archive}
    command: [sleep, "600"]
    memory: 256MiB
    disk: 64MiB
    max_price: 500
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path) as opened:
        archive = busybox_image().write_archive(tmp_path / "box.tar")
        (tmp_path / "sublet.yaml").write_text(FILE.format(archive=archive))
        yield opened


async def test_person_is_asked_and_the_market_goes_on(
    house: House, tmp_path: Path
) -> None:
    def answer(typed: bytes, *flags: str) -> tuple[int, bytes]:
        argv = (sys.executable, "-m", "sublet.cli.main", "deploy", *flags)
        env = {
            **os.environ,
            "SUBLET_NO_WARM": "1",
            "SUBLET_HOME": str(house.tenant_home),
        }
        person = Person(argv, env, folder=tmp_path)
        person.see(b"web")  # what it comes to, before the question
        person.see(b"order this? [y/N]: ")
        person.type(typed)
        code = person.leave()
        os.close(person.terminal)
        return code, person.seen

    for typed in (b"n\n", b"\n", b"\x03"):
        code, _ = await asyncio.to_thread(answer, typed)
        assert code != 0
    assert await house.leases() == ()
    flags = ("--detach", "--max-total", "5.00", "--timeout", "10m", "sublet.yaml")
    code, seen = await asyncio.to_thread(answer, b"y\n", *flags)
    assert code == 0 and b"left.web.1" in seen, seen
    lease = await house.wait_lease(Phase.RUNNING)
    (copy,) = json.loads(house.sublet("deployments", "--json"))
    assert copy["state"] == "detached", copy
    told = house.sublet(
        "deploy", "--update", "--yes", str(tmp_path / "sublet.yaml"), code=2
    )
    assert "left.web.1: it was left with the market, sealed" in told
    assert "sublet deployments --stop left, and deploy it again" in told
    # It is over when that comes back: not listed, and its name is free.
    assert "left.web.1: stopped" in house.sublet("deployments", "--stop", "left")
    assert (await house.wait_settled(lease.id)).paid <= 5_000_000
    assert json.loads(house.sublet("deployments", "--json")) == []
    (copy,) = json.loads(house.sublet("deployments", "--all", "--json"))
    assert copy["state"] == "over" and copy["record"]["job"]["attempts"], copy
    flags = ("--detach", "--max-total", "5.00", "--timeout", "10m")
    house.sublet("deploy", *flags, "--yes", str(tmp_path / "sublet.yaml"))
    house.sublet("deployments", "--stop", "left")
