"""Witnesses beside real nodes: cosignatures, split views, cut logs, audits."""

import asyncio
import contextlib
import json
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from sublet.adapter.checkpoint_folder import CheckpointFolder
from sublet.adapter.key_file import create_witness_key, load_witness_key
from sublet.sdk.log_watch import LogLie
from sublet.wire.cosignature import WitnessKey, read_cosignature
from sublet.wire.note import read_text, split_note
from sublet.wire.split_view import check_split_view, read_split_view
from sublet.witness.config import KEY_FILE, Pin, write_config, write_pin
from sublet.witness.cosigner import Cosigner
from sublet.witness.follow import Follower
from sublet.witness.serve import serve
from tests.fakes.world import HandClock, World
from tests.integration.crooked import Crooked, crooked_door
from tests.integration.node_house import Guest, running_node

WAIT_S = 60
WITNESS = WitnessKey.generate(b"\x08" * 32, "w")


@pytest.fixture
def world() -> World:
    return World()


def size_of(note: bytes) -> int:
    return read_text(split_note(note)[0]).size


async def grow(guest: Guest, count: int = 3) -> None:
    """Let the log grow, and wait until it is signed for."""
    world = guest.world
    for _ in range(count):
        await guest.accept(world.credit(world.tenant.address, 1_000))
    size = (await guest.learn()).size
    async with asyncio.timeout(WAIT_S):
        while True:
            status, note = await guest.get("/v1/log/checkpoint")
            if status == 200 and size_of(note) >= size:
                return
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def follower(
    home: Path, world: World, url: str
) -> AsyncIterator[tuple[Follower, Pin]]:
    pin = Pin(url, world.market_id, world.note_key.verifier_key, "test")
    memory = CheckpointFolder(home)
    cosigner = Cosigner(WITNESS, memory, clock=HandClock(), pins=[pin])
    async with Follower(cosigner, memory) as follower:
        yield follower, pin


def evidence_of(home: Path) -> tuple[int, int]:
    """Give the two sizes of the one proof that was kept; it must hold."""
    [content] = CheckpointFolder(home).read_evidence().values()
    older, newer = check_split_view(read_split_view(content))
    return older.size, newer.size


@contextlib.asynccontextmanager
async def two_histories(
    folder: Path, world: World
) -> AsyncIterator[tuple[Crooked, Guest, Guest]]:
    """One market, one key, two logs that part after their common beginning."""
    async with running_node(folder / "one", world) as guest:
        await grow(guest)
    shutil.copytree(folder / "one", folder / "two")
    async with (
        running_node(folder / "one", world) as one,
        running_node(folder / "two", world) as two,
        crooked_door(one.url) as door,
    ):
        yield door, one, two


async def test_honest_log_is_cosigned_on_and_on(tmp_path: Path, world: World) -> None:
    async with running_node(tmp_path / "node", world) as guest:
        await grow(guest)
        async with follower(tmp_path / "w", world, guest.url) as (witness, pin):
            sizes = [await witness.look(pin)]
            for _ in range(3):
                await grow(guest)
                sizes.append(await witness.look(pin))
        assert sizes == sorted(set(sizes))
    note = CheckpointFolder(tmp_path / "w").find(world.market_id)
    assert note is not None
    assert read_cosignature(note, verifier_key=WITNESS.verifier_key)


@pytest.mark.parametrize("longer", ["one", "two"])
async def test_split_view_is_caught_and_proven(
    tmp_path: Path, world: World, longer: str
) -> None:
    """The market shows us one history, then another that is signed as well."""
    async with two_histories(tmp_path, world) as (door, one, two):
        await grow(one, 5)
        await grow(two, 9 if longer == "two" else 5)
        async with follower(tmp_path / "w", world, door.url) as (witness, pin):
            seen = await witness.look(pin)
            door.target = two.url
            with pytest.raises(LogLie) as caught:
                await witness.look(pin)
            assert caught.value.code == "log_forked"
            kept = CheckpointFolder(tmp_path / "w").find(world.market_id)
            assert kept is not None
            assert size_of(kept) == seen, "no second signature"
    sizes = evidence_of(tmp_path / "w")
    assert sizes[0] == seen


async def test_cut_log_is_named(tmp_path: Path, world: World) -> None:
    """After a restart the log ends earlier, with its own older checkpoint."""
    async with running_node(tmp_path / "node", world) as guest:
        await grow(guest)
    shutil.copytree(tmp_path / "node", tmp_path / "older")
    async with running_node(tmp_path / "node", world) as guest:
        await grow(guest, 6)
        async with follower(tmp_path / "w", world, guest.url) as (witness, pin):
            await witness.look(pin)
    async with (
        running_node(tmp_path / "older", world) as guest,
        follower(tmp_path / "w", world, guest.url) as (witness, pin),
    ):
        with pytest.raises(LogLie) as caught:
            await witness.look(pin)
        assert caught.value.code == "log_truncated"
        # It goes on from there with other entries: now it is proven, too.
        await grow(guest, 12)
        with pytest.raises(LogLie) as caught:
            await witness.look(pin)
        assert caught.value.code == "log_forked"


async def test_replayed_checkpoint_is_named(tmp_path: Path, world: World) -> None:
    async with (
        running_node(tmp_path / "node", world) as guest,
        crooked_door(guest.url) as door,
    ):
        await grow(guest)
        _, old = await guest.get("/v1/log/checkpoint")
        await grow(guest)
        async with follower(tmp_path / "w", world, door.url) as (witness, pin):
            await witness.look(pin)
            door.rewrite = lambda path, status, body: (
                (200, old) if path == "/v1/log/checkpoint" else (status, body)
            )
            with pytest.raises(LogLie) as caught:
                await witness.look(pin)
            assert caught.value.code == "log_truncated"


async def test_forged_checkpoint_is_named(tmp_path: Path, world: World) -> None:
    async with (
        running_node(tmp_path / "node", world) as guest,
        crooked_door(guest.url) as door,
    ):
        await grow(guest)
        door.rewrite = lambda path, status, body: (
            (200, body.replace(b"\n", b"9\n", 2))
            if path == "/v1/log/checkpoint"
            else (status, body)
        )
        async with follower(tmp_path / "w", world, door.url) as (witness, pin):
            with pytest.raises(LogLie) as caught:
                await witness.look(pin)
            assert caught.value.code == "log_forged"


# ---- the programs ---------------------------------------------------------------------


def make_witness(home: Path, *pins: Pin) -> None:
    if not home.exists():
        home.mkdir()
        write_config(home)
        create_witness_key(home / KEY_FILE, name=home.name)
    for pin in pins:
        write_pin(home, pin)


@contextlib.asynccontextmanager
async def running_witness(home: Path, *pins: Pin) -> AsyncIterator[tuple[str, str]]:
    """Run a whole witness; give its address and its verifier key."""
    make_witness(home, *pins)
    started = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(home, listen="127.0.0.1:0", ready=started.set_result)
    )
    try:
        await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield started.result().url, started.result().verifier_key
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def sublet(*argv: str) -> tuple[int, str]:
    """Run the command line; give exit code and output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "sublet.cli.main",
        *argv,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_node_collects_cosignatures(tmp_path: Path, world: World) -> None:
    """A node submits by itself; an audit asks for two of two, and gets them."""
    async with running_node(tmp_path / "node", world) as guest:
        await grow(guest)
    away = Pin("http://127.0.0.1:1", world.market_id, world.note_key.verifier_key, "t")
    async with (
        running_witness(tmp_path / "red", away) as (red_url, red),
        running_witness(tmp_path / "blue", away) as (blue_url, blue),
        running_node(
            tmp_path / "node", world, witnesses={red_url: red, blue_url: blue}
        ) as guest,
    ):
        await grow(guest)
        size = (await guest.learn()).size
        async with asyncio.timeout(WAIT_S):
            while True:
                status, note = await guest.get("/v1/log/cosigned")
                lines = note.count("\N{EM DASH}".encode())
                if status == 200 and lines == 3 and size_of(note) >= size:
                    break
                await asyncio.sleep(0.05)
        named = ("--witness", red, "--witness", f"{blue}@{blue_url}")
        where = ("audit", "verify", "--market", guest.url, "--json")
        code, output = await sublet(*where, *named, "--witness-quorum", "2")
        report = json.loads(output.splitlines()[-1])
        assert (code, report["is_good"]) == (0, True), output
        assert report["witnessed_size"] >= size
        stranger = WitnessKey.generate(b"\x09" * 32, "red").verifier_key
        code, output = await sublet(*where, "--witness", stranger)
        assert code == 1
        assert json.loads(output.splitlines()[-1])["finding"]["what"] == "unwitnessed"


async def test_cut_log_is_found_by_witness(tmp_path: Path, world: World) -> None:
    """Cut together with its newest checkpoints, a log looks whole to anybody else."""
    async with running_node(tmp_path / "node", world) as guest:
        await grow(guest)
        pin = Pin(guest.url, world.market_id, world.note_key.verifier_key, "test")
        async with running_witness(tmp_path / "red", pin) as (url, _):
            await grow(guest, 6)
            size = (await guest.learn()).size
            async with asyncio.timeout(WAIT_S), aiohttp.ClientSession() as http:
                key = load_witness_key(tmp_path / "red" / KEY_FILE)
                pages = [f"{url}/", f"{url}/metrics", f"{url}/key"]
                texts = [await (await http.get(page)).text() for page in pages]
                assert key.verifier_key in texts[0]
    memory = CheckpointFolder(tmp_path / "red" / "logs")
    follow = Cosigner(key, memory, clock=HandClock(), pins=[pin])
    async with running_node(tmp_path / "node", world) as guest:
        now = Pin(guest.url, pin.market, pin.verifier_key, "test")
        async with Follower(follow, memory) as follower:
            assert await follower.look(now) >= size
    log = tmp_path / "node" / "log.db"
    with contextlib.closing(sqlite3.connect(log)) as base:
        for trigger in [name for (name,) in base.execute(
            "select name from sqlite_master where type = 'trigger'")]:  # fmt: skip
            base.execute(f"drop trigger {trigger}")
        base.execute("delete from entry where number >= 3")
        base.execute("delete from checkpoint where size > 3")
        base.execute("delete from snapshot")
        base.commit()
    code, output = await sublet("audit", "verify", "--log", str(log))
    assert code == 0, output
    async with running_witness(tmp_path / "red") as (url, verifier_key):
        code, output = await sublet(
            "audit", "verify", "--log", str(log), "--witness", f"{verifier_key}@{url}"
        )
    assert code == 1, output
    assert "taken away" in output


async def test_once_reports_by_exit_code(tmp_path: Path, world: World) -> None:
    async with two_histories(tmp_path, world) as (door, one, two):
        await grow(one)
        await grow(two, 7)
        home = ("--home", str(tmp_path / "red"))
        assert (await sublet("witness", "init", *home))[0] == 0
        code, output = await sublet("witness", "add", door.url, *home)
        assert (code, world.market_id in output) == (0, True), output
        assert (await sublet("witness", "once", *home))[0] == 0
        door.target = two.url
        code, output = await sublet("witness", "once", *home, "--json")
        assert code == 1, output
        assert json.loads(output.splitlines()[-1])[0]["code"] == "log_forked"
        [file] = (tmp_path / "red" / "logs" / "evidence").iterdir()
        code, output = await sublet("audit", "split", str(file))
        assert (code, "signed two histories" in output) == (0, True), output
        shown = json.loads(file.read_bytes())
        file.write_text(json.dumps(shown | {"older": shown["newer"]}))
        assert (await sublet("audit", "split", str(file)))[0] == 2
    assert (await sublet("witness", "once", *home))[0] == 3
