"""Real programs of all sorts: what they may do, for how long, and what is left of them."""

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sublet.adapter.pricing_program import NoPrice, PricingProgram
from sublet.base.errors import Refused
from tests.rig.open_folder import make_open_folder

WAIT_S = 60
Make = Callable[..., PricingProgram]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the programs' own user reaches, and may write to."""
    path = make_open_folder("sublet-price-")
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def make(folder: Path) -> Make:
    """Write a shell script, and make it a pricing program."""

    def write(
        script: str, *, timeout_s: float = WAIT_S, most: int = 4
    ) -> PricingProgram:
        path = folder / "price"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return PricingProgram(
            path,
            timeout_s=timeout_s,
            processes_max=most,
            env={"MINE": "7"},
            user="nobody",
        )

    return write


async def _why(program: PricingProgram) -> str:
    with pytest.raises(NoPrice) as found:
        await program.ask(b"{}", env={})
    return found.value.message


async def test_question_goes_in_and_price_comes_out(make: Make) -> None:
    program = make('read line; test "$line" = \'{"a":1}\' && echo "0.$MINE$YOURS"')
    assert await program.ask(b'{"a":1}\n', env={"YOURS": "3"}) == "0.73\n"


async def test_program_need_not_read(make: Make) -> None:
    assert await make("echo 1").ask(b"x" * 1_000_000, env={}) == "1\n"


async def test_nothing_of_ours_is_in_its_environment(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBLET_SECRET", "s3cret")
    said = await make("env; ls /proc/self/fd | wc -l; umask").ask(b"", env={})
    names = {line.partition("=")[0] for line in said.splitlines() if "=" in line}
    assert names <= {"PATH", "LANG", "HOME", "PWD", "SHLVL", "_", "OLDPWD", "MINE"}
    assert said.splitlines()[-2:] == ["4", "0077"]  # its streams, and ls's own folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has other rights to give")
async def test_root_gives_its_rights_away(make: Make) -> None:
    said = await make("id -u; id -G").ask(b"", env={})
    assert set(said.split()) == {"65534"}


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo no GPU here >&2; exit 3", "ended with 3.*no GPU here"),
        ("kill -9 $$", "ended with -9"),
        ("exit 1", "ended with 1, which says: no bid$"),
        ("head -c 5000 /dev/zero", "more than 4096 bytes"),
    ],
)
async def test_failure_says_why(make: Make, script: str, why: str) -> None:
    assert re.search(why, await _why(make(script)))


async def test_endless_output_ends_with_its_time(make: Make) -> None:
    assert "took more than 0.5s" in await _why(make("yes", timeout_s=0.5))


async def test_children_die_with_the_program(make: Make, folder: Path) -> None:
    """Also those in the background, and those with a session of their own."""
    script = (
        f"sleep 1234 & echo $! >{folder}/one\n"
        f"setsid sh -c 'echo $$ >{folder}/two; exec sleep 1234' &\n"
        "wait"
    )
    program = make(script, timeout_s=3)
    asking = asyncio.create_task(_why(program))
    async with asyncio.timeout(WAIT_S):
        while not all((folder / name).exists() for name in ("one", "two")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert "was killed" in await asking
    for name in ("one", "two"):
        await _wait_gone(int((folder / name).read_text()))


async def test_leftovers_of_a_good_run_die_too(make: Make, folder: Path) -> None:
    program = make(f"sleep 1234 >/dev/null 2>&1 & echo $! >{folder}/one; echo 5")
    assert await program.ask(b"", env={}) == "5\n"
    await _wait_gone(int((folder / "one").read_text()))


async def test_only_so_many_run_at_one_time(make: Make, folder: Path) -> None:
    """Each counts those beside it; a folder for each, as there is no lock in sh."""
    script = (
        f"mkdir {folder}/run.$$; ls -d {folder}/run.* | wc -l; sleep 0.2; "
        f"rmdir {folder}/run.$$"
    )
    program = make(script, most=2)
    counts = await asyncio.gather(*(program.ask(b"", env={}) for _ in range(6)))
    assert max(int(count) for count in counts) <= 2


async def test_cancelled_question_leaves_nothing(make: Make, folder: Path) -> None:
    program = make(f"echo $$ >{folder}/one; sleep 1234")
    asking = asyncio.create_task(program.ask(b"", env={}))
    async with asyncio.timeout(WAIT_S):
        while not (folder / "one").exists() or not (folder / "one").read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await _wait_gone(int((folder / "one").read_text()))


@pytest.mark.parametrize("name", ["/no/such/program", "price", "/etc/passwd", "/"])
def test_what_cannot_be_run_is_refused_at_once(name: str) -> None:
    with pytest.raises(Refused, match="no executable file"):
        PricingProgram(Path(name), timeout_s=1, processes_max=1, env={}, user="nobody")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root looks for the user")
def test_unknown_user_is_refused() -> None:
    with pytest.raises(Refused, match=r"bids\.user"):
        PricingProgram(
            Path("/bin/true"), timeout_s=1, processes_max=1, env={}, user="no-such-user"
        )


async def test_program_of_unknown_format_is_no_bid(make: Make, folder: Path) -> None:
    program = make("")
    (folder / "price").write_bytes(b"\x00\x01")
    assert "could not be started" in await _why(program)


async def _wait_gone(pid: int) -> None:
    """Wait until a process is dead: a signal takes its time."""
    async with asyncio.timeout(WAIT_S):
        while psutil.pid_exists(pid):
            try:
                if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                    return
            except psutil.NoSuchProcess:
                return
            await asyncio.sleep(0.01)
