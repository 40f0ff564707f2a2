"""The owner comes back: the machine is free within the notice, the job goes on elsewhere.

The keyboard is a pipe where a keyboard would be; everything else is as people run it.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from msgspec.structs import replace

from sublet.cli.local_market import read_ready, stop
from sublet.core.lease.phase import Phase
from sublet.core.owner.rules import Rules
from sublet.provider.config import write_config
from tests.acceptance.market_house import House, open_house, until

pytestmark = pytest.mark.sandbox

COUNT = """
import pathlib, sys, time
place = pathlib.Path("state/count")
place.parent.mkdir(exist_ok=True)
start = int(place.read_text()) if place.exists() else 0
print("from", start)
for number in range(start + 1, 1_000_000):
    draft = place.with_suffix(".part")
    draft.write_text(str(number))
    draft.rename(place)
    if start and number > start + 5:
        break
    time.sleep(0.2)
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Give a market in which the cheap machine is its owner's whenever they are there."""
    with open_house(tmp_path, notice_s=3) as opened:
        keyboard = tmp_path / "input"
        keyboard.mkdir()
        os.mkfifo(keyboard / "event0")
        stop([opened.providers["cheap"]], signal.SIGINT)
        opened.config = replace(
            opened.config,
            name="cheap",
            market=opened.url,
            rules=Rules(idle_s=2, settle_s=1, input=str(keyboard)),
        )
        write_config(tmp_path / "cheap", opened.config, price_story="for a test")
        read_ready(opened.start_provider("cheap"))
        opened.wait_offers(2)
        yield opened


@contextmanager
def typing_on(keyboard: Path) -> Iterator[None]:
    """Press keys, as somebody does who has come back, whatever else this test does."""
    handle = os.open(keyboard, os.O_WRONLY)
    enough = Event()

    def type_keys() -> None:
        while not enough.wait(0.2):
            os.write(handle, bytes(24))  # as large as what a key says

    fingers = Thread(target=type_keys)
    fingers.start()
    try:
        yield
    finally:
        enough.set()
        fingers.join()
        os.close(handle)


async def test_owner_touches_the_keyboard(house: House) -> None:
    script = house.folder / "count.py"
    script.write_text(COUNT)
    job = house.run("--json", "--checkpoint", "state", "--wait", "80s", str(script))
    lease = await house.wait_lease(Phase.RUNNING)
    assert lease.provider == house.addresses["cheap"]
    await job.wait_notice(b"checkpoint")
    house.note_groups()
    with typing_on(house.folder / "input/event0"):
        over = await house.wait_settled(lease.id)
        assert over.reason == "given_back"
        said = json.loads(
            house.sublet("provider", "status", "--json", "--home",
                         str(house.folder / "cheap"))
        )  # fmt: skip
        assert said["offer_id"] is None
        assert said["is_running"]
        assert not said["is_draining"]
        assert said["held_back"]
        assert await job.wait() == 0, job
    first, *_, last = job.result().attempts
    assert first.outcome == "given_back"
    assert first.provider != last.provider
    began = job.written()[0].decode().split("from ")
    assert int(began[-1].split()[0]) > 0, "it went on from its checkpoint"
    await until(lambda: house.stages("cheap") == [], about=house.stages)
