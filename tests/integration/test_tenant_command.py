"""The command line as a person types it, against a real node."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sublet.cli.handover import SOCKET_NAME
from tests.fakes.provider import FakeProvider, Temper
from tests.fakes.world import World
from tests.integration.node_house import running_node
from tests.integration.shell_house import WAIT_S, Shell


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    world = World()
    async with running_node(tmp_path / "node", world, faucet="10.00") as guest:
        provider = FakeProvider(
            guest.url,
            key=world.providers[0],
            domain=world.domain,
            folder=tmp_path / "provider",
            temper=Temper(first_price=360_000),
        )
        async with provider:
            made = Shell(guest.url, tmp_path)
            code, _, err = await made.type("wallet", "faucet")
            assert code == 0, err
            yield made


async def test_job_s_streams_and_code_are_ours(shell: Shell) -> None:
    code, out, err = await shell.type(
        "run", "-q", "--", "sh", "-c", "printf 'a\\033[31mb'; echo oops >&2; exit 3"
    )
    assert (code, out, err) == (3, "a\x1b[31mb", "oops\n")  # a pipe gets every byte


async def test_json_is_alone_on_standard_output(shell: Shell) -> None:
    made = shell.folder / "made.txt"
    code, out, err = await shell.type(
        "run",
        "--json",
        "-q",
        "--name",
        "first",
        "--output",
        "made.txt",
        "--",
        "sh",
        "-c",
        "echo hi; echo made > made.txt",
    )
    assert code == 0, err
    result = json.loads(out)
    assert result["exit_code"] == 0
    assert result["outputs"] == ["made.txt"]
    assert [one["outcome"] for one in result["attempts"]] == ["exited"]
    assert err == "hi\n"
    assert made.read_text() == "made\n"
    code, out, err = await shell.type("logs", "first")
    assert (code, out) == (0, "hi\n"), err
    code, out, err = await shell.type("ps", "-a")
    assert result["job_id"] in out
    assert "exit 0" in out
    code, out, err = await shell.type("cost", "first")
    assert code == 0, err
    assert "total $" in out


async def test_interrupt_stops_and_settles(shell: Shell) -> None:
    process = await shell.start("run", "--name", "long", "--", "sleep", "60")
    assert process.stderr is not None
    async with asyncio.timeout(WAIT_S):
        async for line in process.stderr:
            if b"running" in line:
                break
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    code, out, err = await shell.type("wallet", "--json")
    assert code == 0, err
    assert json.loads(out)["held"] == 0


async def test_another_command_stops_and_looks_in(shell: Shell) -> None:
    script = "echo begun; echo x > file; sleep 60"
    process = await shell.start("run", "--name", "other", "--", "sh", "-c", script)
    assert process.stdout is not None
    async with asyncio.timeout(WAIT_S):
        assert await process.stdout.readline() == b"begun\n"
    code, out, err = await shell.type("ssh", "other", "cat", "file")
    assert (code, out) == (0, "x\n"), err
    code, _, err = await shell.type("cp", "other:file", "copied")
    assert code == 0, err
    assert (shell.folder / "copied").read_text() == "x\n"
    code, out, err = await shell.type("stop", "other")
    assert code == 0, err
    async with asyncio.timeout(WAIT_S):
        assert await process.wait() == 130
    code, _, err = await shell.type("stop", "other")
    assert code == 2
    assert "over already" in err


MISTAKES = [
    # what is typed: exit code, what the one line says
    (("run", "--memroy", "4", "x"), 2, "--memory"),
    (("rum", "x"), 2, "run"),
    (("run", "missing.py"), 2, "there is no script missing.py"),
    (("run", "--memory", "4", "--", "true"), 2, "write a number and a unit"),
    (("run", "--cpus", "nan", "--", "true"), 2, "--cpus"),
    (("run", "--secret", "K=hunter2", "--", "true"), 2, "@FILE"),
    (("run", "--gpu", "h200:1", "--wait", "0s", "--", "true"), 3, "sublet:"),
    (("run", "--market", "nonsense", "--", "true"), 2, "--market"),
    (("run", "--market", "http://127.0.0.1:9", "--", "true"), 3, "sublet up"),
    (("logs", "nothing"), 2, "sublet ps -a"),
    (("cp", "nothing"), 2, "my-job:model/"),
]


async def test_mistake_gets_one_clear_line(shell: Shell) -> None:
    answers = await asyncio.gather(*(shell.type(*words) for words, _, _ in MISTAKES))
    for (words, code, text), (got, out, err) in zip(MISTAKES, answers, strict=True):
        assert got == code, (words, err)
        assert text in err, words
        assert out == "", words
        assert "Traceback" not in err, words
        assert "hunter2" not in err


async def test_quote_buys_nothing(shell: Shell) -> None:
    code, out, err = await shell.type("quote", "--cpus", "2", "--json")
    assert code == 0, err
    assert json.loads(out)["price_hour"] > 0
    code, out, _ = await shell.type("wallet", "--json")
    assert json.loads(out)["held"] == 0


async def test_warm_process_runs_the_command(shell: Shell) -> None:
    place = shell.home / SOCKET_NAME
    program = (
        "import sys; from sublet.cli.warm import serve_warm; serve_warm(sys.argv[1])"
    )
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(place), env=shell.env
    )
    try:
        async with asyncio.timeout(WAIT_S):
            while not place.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        script = "echo $MINE; pwd >/dev/null; exit 5"
        words = ("run", "-q", "--env", "MINE", "--", "sh", "-c", script)
        code, out, err = await shell.type(*words, SUBLET_NO_WARM="", MINE="warm")
        assert (code, out) == (5, "warm\n"), err
        process = await shell.start("run", "--", "sleep", "60", SUBLET_NO_WARM="")
        assert process.stderr is not None
        async with asyncio.timeout(WAIT_S):
            async for line in process.stderr:
                if b"running" in line:
                    break
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
    finally:
        server.terminate()
        await server.wait()
    assert not place.exists()
    code, out, err = await shell.type("wallet", "address", SUBLET_NO_WARM="")
    assert code == 0, err
