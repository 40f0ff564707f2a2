"""A witness as a process: looks at its markets, and takes what they submit."""

import asyncio
import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from sublet.adapter.checkpoint_folder import CheckpointFolder
from sublet.adapter.clock_system import SystemClock
from sublet.adapter.key_file import load_witness_key
from sublet.base.errors import Refused, SubletError
from sublet.sdk.log_watch import LogLie
from sublet.witness.app import WitnessDoor
from sublet.witness.config import KEY_FILE, Pin, read_config, read_pins
from sublet.witness.cosigner import Cosigner
from sublet.witness.follow import Follower


class Running(NamedTuple):
    """A witness that serves."""

    url: str
    verifier_key: str
    markets: int


class Seen(NamedTuple):
    """What one look at a market came to."""

    market: str
    name: str
    size: int  # cosigned; 0 where it was not
    code: str  # "" where all is well
    message: str


async def serve(
    home: Path, *, listen: str = "", ready: Callable[[Running], None]
) -> None:
    """Run a witness until cancelled.

    Raises:
        Refused: there is none in this home, another runs there, or the address is
            taken.
    """
    config, pins = read_config(home), read_pins(home)
    key = load_witness_key(home / KEY_FILE)
    folder = CheckpointFolder(home / "logs")
    cosigner = Cosigner(key, folder, clock=SystemClock(), pins=pins)
    door = WitnessDoor(cosigner, folder, key=key, pins=pins)
    with _lock(home):
        runner = web.AppRunner(door.make_app(), access_log=None)
        await runner.setup()
        try:
            url = await _listen(runner, listen or config.listen)
            ready(Running(url, key.verifier_key, len(pins)))
            async with (
                Follower(cosigner, folder) as follower,
                asyncio.TaskGroup() as go,
            ):
                for pin in pins:
                    go.create_task(follower.run(pin, poll_s=config.poll_s))
                await asyncio.Event().wait()
        finally:
            await runner.cleanup()


async def look_once(home: Path) -> list[Seen]:
    """Look at every market once; say what was seen.

    Raises:
        Refused: there is no witness in this home, or one runs there.
    """
    read_config(home)
    pins = read_pins(home)
    folder = CheckpointFolder(home / "logs")
    key = load_witness_key(home / KEY_FILE)
    cosigner = Cosigner(key, folder, clock=SystemClock(), pins=pins)
    async with Follower(cosigner, folder) as follower:
        return [await _look(follower, pin) for pin in pins]


async def _look(follower: Follower, pin: Pin) -> Seen:
    try:
        size = await follower.look(pin)
    except LogLie as lie:
        where = f"; the evidence: {lie.place}" if lie.place else ""
        return Seen(pin.market, pin.name, 0, lie.code, lie.message + where)
    except SubletError as fault:
        return Seen(pin.market, pin.name, 0, fault.code, fault.message)
    return Seen(pin.market, pin.name, size, "", "")


async def _listen(runner: web.AppRunner, listen: str) -> str:
    host, _, port = listen.rpartition(":")
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except (OSError, ValueError, OverflowError) as error:
        raise Refused(
            f"cannot listen on {listen}: {error}; choose another with --listen",
            code="cannot_listen",
            field="--listen",
        ) from None
    return f"http://{host}:{runner.addresses[0][1]}"


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    with (home / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"a witness runs in {home} already", code="witness_runs"
            ) from None
        yield
