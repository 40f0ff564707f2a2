"""``sublet audit`` on a real log file and over HTTP."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sublet.adapter.log_sqlite import SqliteLog
from sublet.base.errors import Refused, Unavailable
from sublet.cli.audit import app
from sublet.core.document import Order
from sublet.core.merkle import leaf_hash
from sublet.wire.codec import DocumentCodec
from tests.fakes.world import World
from tests.integration.node_house import running_node, stock

WORLD = World()


async def _play(path: Path) -> None:
    log = SqliteLog(path)
    service = WORLD.make_service(log, seal_every=10)
    await service.open()
    await WORLD.set_up(service)
    await WORLD.play_lease(service)
    await service.close()
    log.close()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("node") / "log.db"
    asyncio.run(_play(path))
    return path


@pytest.fixture
def log_file(played: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(played, tmp_path / "log.db"))


@pytest.fixture(autouse=True)
def no_home(tmp_path: Path) -> Iterator[None]:
    """Keep the developer's own markets out of this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBLET_HOME", str(tmp_path / "home"))
        yield


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def change(path: Path, statement: str, *values: object) -> None:
    """Change a stored log as its keeper could: by force."""
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER entry_keeps_content")
    connection.execute("DROP TRIGGER entry_stays")
    assert connection.execute(statement, values).rowcount == 1
    connection.commit()
    connection.close()


def bodies(path: Path) -> list[bytes]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT body FROM entry ORDER BY number").fetchall()
    connection.close()
    return [row[0] for row in rows]


def test_true_file_exits_zero(log_file: Path) -> None:
    code, text = run("verify", "--log", log_file)
    assert code == 0
    assert "Everything is right" in text
    assert WORLD.market_id in text
    assert "$0.000152" in text  # what the provider earned


def test_json_says_the_same(log_file: Path) -> None:
    code, text = run("verify", "--log", log_file, "--json")
    verdict = json.loads(text)
    assert (code, verdict["is_good"], verdict["finding"]) == (0, True, None)
    assert verdict["entries"] == len(bodies(log_file))
    assert verdict["paid"] == 152


def test_processes_say_the_same(log_file: Path) -> None:
    code, text = run("verify", "--log", log_file, "--jobs", "2", "--json")
    assert (code, json.loads(text)["entries"]) == (0, len(bodies(log_file)))
    body = bodies(log_file)[7].replace(b'"signature":"0x', b'"signature":"0X')
    leaf = leaf_hash(body)
    statement = "UPDATE entry SET body = ?, leaf = ? WHERE number = 7"
    change(log_file, statement, body, leaf)
    code, text = run("verify", "--log", log_file, "--jobs", "2", "--json")
    finding = json.loads(text)["finding"]
    assert (code, finding["what"], finding["first"]) == (1, "entry", 7)


def test_snapshot_is_a_shorter_way(log_file: Path) -> None:
    code, text = run("verify", "--log", log_file, "--from-snapshot")
    assert code == 0
    assert "not checked" in text


def test_flipped_byte_exits_one(log_file: Path) -> None:
    body = bytearray(bodies(log_file)[7])
    body[100] ^= 1
    change(log_file, "UPDATE entry SET body = ? WHERE number = 7", bytes(body))
    code, text = run("verify", "--log", log_file)
    assert code == 1
    assert "Something is wrong: entry 7." in text


def test_removed_entry_exits_one(log_file: Path) -> None:
    change(log_file, "DELETE FROM entry WHERE number = 5")
    code, text = run("verify", "--log", log_file, "--json")
    finding = json.loads(text)["finding"]
    assert code == 1
    assert (finding["what"], finding["first"]) == ("entry_missing", 5)


def test_torn_file_exits_one(log_file: Path) -> None:
    content = bytearray(log_file.read_bytes())
    content[4_096 * 3 :] = b"\xff" * (len(content) - 4_096 * 3)
    log_file.write_bytes(content)
    code, text = run("verify", "--log", log_file)
    assert code == 1
    assert "damaged" in text


def test_kept_checkpoint_is_compared(log_file: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(log_file)
    ((note,),) = connection.execute("SELECT note FROM checkpoint WHERE size = 9")
    connection.close()
    kept = tmp_path / "kept"
    kept.write_bytes(note)
    assert run("verify", "--log", log_file, "--checkpoint", kept)[0] == 0
    kept.write_bytes(note.replace(b"\n9\n", b"\n8\n"))
    with pytest.raises(Refused) as caught:
        run("verify", "--log", log_file, "--checkpoint", kept)
    assert caught.value.code == "foreign_checkpoint"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("verify", "--log", "none.db"), "no_log"),
        (("verify", "--log", "x", "--market", "http://127.0.0.1:1"), "bad_flags"),
        (("verify", "--market", "ftp://x"), "bad_market"),
        (("verify", "--log", "none.db", "--checkpoint", "none"), "bad_checkpoint"),
        (("story", "0x00", "--log", "none.db"), "no_log"),
    ],
)
def test_wrong_usage_is_refused(arguments: tuple[str, ...], code: str) -> None:
    with pytest.raises(Refused) as caught:
        run(*arguments)
    assert caught.value.code == code


def test_story_tells_the_whole_life(log_file: Path) -> None:
    codec = DocumentCodec()
    facts = [codec.read_entry(body).fact for body in bodies(log_file)]
    (order,) = [fact.id for fact in facts if isinstance(fact.document, Order)]
    code, text = run("story", order[:12], "--log", log_file)
    assert code == 0
    steps = ["an order for 1 CPU", "signed the terms", "manifest", "started",
             "meter reads 20.0 s", "keeps a checkpoint of 15.0 s", "exit code 0",
             "$0.000152 paid of $0.000152 owed"]  # fmt: skip
    places = [text.index(step) for step in steps]
    assert places == sorted(places)
    lines = json.loads(run("story", order, "--log", log_file, "--json")[1])
    assert [line["phase"] for line in lines if line["moved"]] == [
        "matched", "accepted", "preparing", "running", "settling", "settled",
    ]  # fmt: skip


def test_unknown_lease_is_refused(log_file: Path) -> None:
    with pytest.raises(Refused) as caught:
        run("story", "0x" + "99" * 32, "--log", log_file)
    assert caught.value.code == "unknown_lease"


async def test_audits_a_running_node(tmp_path: Path) -> None:
    async with running_node(tmp_path / "node", World()) as guest:
        await stock(guest)
        world = guest.world
        (result,) = await guest.accept(world.order())
        assert result.lease is not None
        await guest.accept(world.terms(result.lease))
        code, text = await asyncio.to_thread(
            run, "verify", "--market", guest.url, "--json"
        )
        verdict = json.loads(text)
        assert code == 0, verdict
        assert verdict["market"] == world.market_id
        assert (verdict["entries"], verdict["leases"]) == (verdict["signed_size"], 1)
        code, text = await asyncio.to_thread(
            run, "story", result.lease.id, "--market", guest.url
        )
        assert "signed the terms" in text
        with pytest.raises(Refused) as caught:
            await asyncio.to_thread(
                run, "verify", "--market", guest.url, "--from-snapshot"
            )
        assert caught.value.code == "no_snapshot"


def test_absent_market_is_unavailable() -> None:
    with pytest.raises(Unavailable) as caught:
        run("verify", "--market", "http://127.0.0.1:9")
    assert caught.value.code == "market_unreachable"
