"""ssh, scp, sftp and rsync as they come with the system, on a job in a sandbox."""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from tests.integration.tools_house import Tools, running_tools

pytestmark = [pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

SMALL_FILES = 1_500
MIB = 1 << 20


def need_tools(*names: str) -> None:
    """Skip, with the reason, where a tool or the sandbox is missing."""
    probe = BubblewrapSandbox().probe()
    if not probe.is_ok:
        pytest.skip(probe.reason)
    missing = [name for name in names if not shutil.which(name)]
    if missing:
        pytest.skip(f"not installed: {missing}; apt install openssh-client rsync")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tools(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tools]:
    need_tools("ssh", "scp", "sftp", "rsync")
    async with running_tools(tmp_path_factory.mktemp("tools")) as found:
        yield found


def _uid(tools: Tools) -> int:
    (record,) = tools.house.agent.roster.records()
    return record.uid if os.geteuid() == 0 else os.geteuid()


# ---- ssh --------------------------------------------------------------------------


async def test_ssh_runs_a_command_line(tools: Tools) -> None:
    script = "cat; echo oops >&2; cd /tmp && pwd && echo $((6*7)) 'a  b'; exit 9"
    said = await tools.type(*tools.ssh(), "sublet-lab", script, given=b"typed\n")
    assert (said.code, said.out) == (9, b"typed\n/tmp\n42 a  b\n"), said.err
    assert "oops" in said.err


async def test_ssh_with_no_command_is_a_shell(tools: Tools) -> None:
    said = await tools.type(*tools.ssh(), "-T", "sublet-lab", given=b"pwd; exit 3\n")
    assert (said.code, said.out) == (3, b"/work\n"), said.err


async def test_slow_reader_gets_all_of_it(tools: Tools) -> None:
    size = 8 * MIB
    command = f"head -c {size} /dev/zero; echo end >&2"
    process = await tools.start(*tools.ssh(), "sublet-lab", command)
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(120):
        head = await process.stdout.read(1)
        await asyncio.sleep(3)  # longer than any patience that was meant for the end
        rest = 0
        while content := await process.stdout.read(MIB):
            rest += len(content)
        assert len(head) + rest == size
        assert await process.wait() == 0


async def test_variables_reach_the_command(tools: Tools) -> None:
    flags = ("-o", "SetEnv=EDITOR_KIND=code LC_ALL=xx_XX PATH=/nowhere")
    said = await tools.type(
        *tools.ssh(), *flags, "sublet-lab", "echo $EDITOR_KIND:$LC_ALL:$PATH"
    )
    assert said.out == b"code::/usr/local/bin:/usr/bin:/bin\n", said.err


async def test_many_channels_share_one_connection(tools: Tools) -> None:
    control = tools.folder / "control"
    flags = ("-o", f"ControlPath={control}")
    master = await tools.start(*tools.ssh(), *flags, "-MN", "sublet-lab")
    try:
        async with asyncio.timeout(60):
            while not control.exists():  # noqa: ASYNC110 (another process makes it)
                await asyncio.sleep(0.05)
        for _ in range(4):
            answers = await asyncio.gather(
                *(
                    tools.type(*tools.ssh(), *flags, "sublet-lab", f"echo {number}")
                    for number in range(3)
                )
            )
            assert [said.out for said in answers] == [b"0\n", b"1\n", b"2\n"]
    finally:
        master.terminate()
        await master.wait()


async def test_other_keys_and_hosts_are_refused(tools: Tools) -> None:
    config = (tools.home / "ssh" / "config").read_text()
    known = tools.home / "ssh" / "known_hosts"
    made = await tools.type("ssh-keygen", "-qt", "ed25519", "-N", "", "-f", "other")
    assert made.code == 0
    (tools.folder / "no_key").write_text(
        config.replace(config.split('IdentityFile "')[1].split('"')[0], "other")
    )
    said = await tools.type("ssh", "-F", "no_key", "sublet-lab", "true")
    assert said.code == 255
    assert "Permission denied" in said.err
    foreign = (tools.folder / "other.pub").read_text().split()[:2]
    (tools.folder / "wrong_known").write_text(
        " ".join((known.read_text().split()[0], *foreign)) + "\n"
    )
    (tools.folder / "no_host").write_text(config.replace(str(known), "wrong_known"))
    said = await tools.type("ssh", "-F", "no_host", "sublet-lab", "true")
    assert said.code == 255
    assert "verification failed" in said.err


# ---- scp and sftp -----------------------------------------------------------------


@pytest.mark.parametrize("kind", [(), ("-O",)], ids=["sftp", "scp"])
async def test_scp_round_trips(tools: Tools, kind: tuple[str, ...]) -> None:
    name = f"large{len(kind)}"
    content = secrets.token_bytes(24 * MIB + 7)
    tree = tools.folder / name
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "file").write_bytes(content)
    (tree / "deep" / "er" / "a name with spaces; $(and) 'more'").write_text("x")
    (tree / "deep" / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (tree / "deep" / "run.sh").chmod(0o4755)
    (tree / "empty").touch()
    os.utime(tree / "file", (1_000_000_000, 1_000_000_000))
    scp = (*tools.ssh("scp"), "-q", *kind)
    said = await tools.type(*scp, "-pr", str(tree), "sublet-lab:")
    assert said.code == 0, said.err
    there = tools.work / name
    assert (there / "file").read_bytes() == content
    assert int((there / "file").stat().st_mtime) == 1_000_000_000
    assert (there / "deep" / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert {path.lstat().st_uid for path in there.rglob("*")} == {_uid(tools)}
    said = await tools.type(*tools.ssh(), "sublet-lab", f"{name}/deep/run.sh")
    assert said.out == b"ran\n"
    said = await tools.type(*scp, "-pr", f"sublet-lab:{name}", f"back-{name}")
    assert said.code == 0, said.err
    said = await tools.type("diff", "-r", name, f"back-{name}")
    assert said.code == 0, said.out


async def test_sftp_session_does_the_usual(tools: Tools) -> None:
    (tools.folder / "local").write_text("content")
    batch = b"""pwd
mkdir box
cd box
put local one
rename one two
symlink two link
chmod 600 two
get two fetched
ls -l
rm link
-rmdir /work
-mkdir /elsewhere
-put local /chunks/x
cd ..
rename box crate
rm crate/two
rmdir crate
"""
    said = await tools.type(*tools.ssh("sftp"), "-b", "-", "sublet-lab", given=batch)
    assert said.code == 0, said.err
    assert b"Remote working directory: /work\n" in said.out
    assert b"-rw-------" in said.out
    assert (tools.folder / "fetched").read_text() == "content"
    assert not (tools.work / "crate").exists()
    assert not (tools.work / "elsewhere").exists()


# ---- rsync ------------------------------------------------------------------------


async def test_rsync_keeps_thousands_in_step(tools: Tools) -> None:
    tree = tools.folder / "many"
    for number in range(SMALL_FILES):
        path = tree / f"{number % 40}" / f"file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is number {number}\n")
    (tree / "link").symlink_to("0/file0")
    rsync = ("rsync", "-a", "--delete", "-e", " ".join(tools.ssh()))
    said = await tools.type(*rsync, "many/", "sublet-lab:many/")
    assert said.code == 0, said.err
    there = tools.work / "many"
    assert sum(path.is_file() for path in there.rglob("file*")) == SMALL_FILES
    assert (there / "7" / "file7").read_text() == "this is number 7\n"
    shutil.rmtree(tree / "3")
    (tree / "4" / "file4").write_text("changed")
    said = await tools.type(*rsync, "-i", "many/", "sublet-lab:many/")
    assert said.code == 0, said.err
    sent = [line for line in said.out.decode().splitlines() if line.startswith("<f")]
    assert [line.split()[1] for line in sent] == ["4/file4"]
    assert not (there / "3").exists()
    said = await tools.type(*rsync, "sublet-lab:many/", "again/")
    assert said.code == 0, said.err
    said = await tools.type("diff", "-r", "many", "again")
    assert said.code == 0, said.out


# ---- what a hostile job would do to its owner's tools, and to the machine ---------


async def test_links_lead_nowhere(tools: Tools, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    (outside / "secret").write_text("of the owner")
    trap = (
        f"ln -s {outside} way; ln -s {outside}/secret open; mkfifo pipe; "
        f"mkdir sub; ln -s {outside} sub/way"
    )
    said = await tools.type(*tools.ssh(), "sublet-lab", trap)
    assert said.code == 0, said.err
    (tools.folder / "planted").write_text("planted")
    scp = (*tools.ssh("scp"), "-q")
    attempts = [
        (*scp, "planted", "sublet-lab:way/planted"),
        (*scp, "planted", "sublet-lab:sub/way/planted"),
        (*scp, "planted", "sublet-lab:open"),
        (*scp, "planted", "sublet-lab:pipe"),
        (*scp, "sublet-lab:open", "got"),
        (*scp, "sublet-lab:way/secret", "got"),
        (*scp, "sublet-lab:pipe", "got"),
        (*scp, "planted", f"sublet-lab:{outside}/planted"),
        (*scp, f"sublet-lab:{outside}/secret", "got"),
        (*scp, "sublet-lab:../../../../../../etc/passwd", "got"),
        (*scp, "-O", "planted", "sublet-lab:way/planted"),
        (*scp, "-O", f"sublet-lab:{outside}/secret", "got"),
    ]
    answers = await asyncio.gather(*(tools.type(*argv) for argv in attempts))
    for argv, said in zip(attempts, answers, strict=True):
        assert said.code != 0, argv
    assert not (tools.folder / "got").exists()
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "of the owner"
    batch = f"-chmod 777 open\n-rm way/secret\n-ln {outside}/secret hard\n".encode()
    batch += b"-rename open/x y\n-mkdir way/made\nchmod 700 sub\n"
    said = await tools.type(*tools.ssh("sftp"), "-b", "-", "sublet-lab", given=batch)
    assert said.code == 0, said.err
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").stat().st_mode & 0o777 == 0o644


SWAP = """
import os, shutil, sys
outside = sys.argv[1]
print("swapping", flush=True)
while True:
    os.mkdir("race")
    os.rename("race", "race.old")
    os.symlink(outside, "race")
    os.unlink("race")
    while os.path.exists("race.old"):  # whoever was inside may still add to it
        shutil.rmtree("race.old", ignore_errors=True)
"""


async def test_race_with_a_link_is_lost(tools: Tools, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    swapper = await tools.start(
        *tools.ssh(), "sublet-lab", f"python3 -c '{SWAP}' {outside}"
    )
    try:
        assert swapper.stdout is not None
        async with asyncio.timeout(60):
            assert await swapper.stdout.readline() == b"swapping\n"
        (tools.folder / "planted").write_text("planted")
        batch = b"-put planted race/planted\n-mkdir race/made\n-rm race/planted\n" * 150
        said = await tools.type(
            *tools.ssh("sftp"), "-q", "-b", "-", "sublet-lab", given=batch
        )
        assert said.code == 0, said.err[-500:]
        assert swapper.returncode is None
    finally:
        swapper.kill()
        await swapper.wait()
    assert list(outside.iterdir()) == []
