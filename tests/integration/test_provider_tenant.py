"""Tenants that mean harm, or vanish: the lease's machine bears them all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest
from blake3 import blake3

from sublet.base import limits
from sublet.base.errors import PeerFault
from sublet.core.lease.phase import Fault, Lease, Phase
from sublet.provider.lease_state import Stage
from sublet.sdk.job_channel import ChannelLost, ClientKey, JobChannel
from sublet.wire.message import (
    Checkpointed,
    Close,
    Deliver,
    Ended,
    FileEntry,
    Kept,
    Manifest,
    Metered,
    Missing,
    Notice,
    Progress,
    Tree,
    Trouble,
    Uploaded,
)
from tests.fakes.world import make_key
from tests.integration.provider_house import (
    House,
    RawTenant,
    hear,
    make_manifest,
    running_house,
    tenant_of,
    wait_true,
)


@asynccontextmanager
async def _rented(
    tmp_path: Path, manifest: Manifest, **changes: object
) -> AsyncIterator[tuple[House, RawTenant, Lease]]:
    async with (
        running_house(tmp_path, **changes) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        tenant = RawTenant(client)
        yield house, tenant, await tenant.rent(manifest)


@asynccontextmanager
async def _dialled(
    tmp_path: Path, manifest: Manifest, **changes: object
) -> AsyncIterator[tuple[House, RawTenant, Lease, JobChannel]]:
    async with (
        _rented(tmp_path, manifest, **changes) as (house, tenant, lease),
        tenant.dial(lease) as channel,
    ):
        yield house, tenant, lease, channel


def _stages(house: House) -> list[Stage]:
    return [record.stage for record in house.agent.roster.records()]


def _list(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


# ---- who is let in ----------------------------------------------------------------


async def test_admits_no_other_key(tmp_path: Path) -> None:
    async with _rented(tmp_path, make_manifest("true")) as (_, tenant, lease):
        with pytest.raises(PeerFault) as error:
            async with tenant.dial(lease, key=ClientKey.generate()):
                pass
        assert error.value.code == "not_admitted"


async def test_offers_no_forwarding(tmp_path: Path) -> None:
    async with _dialled(tmp_path, make_manifest("true")) as (*_, channel):
        ssh = channel._connection
        with pytest.raises(asyncssh.ChannelOpenError):
            await ssh.open_connection("127.0.0.1", 22)
        with pytest.raises(asyncssh.ChannelListenError):
            await ssh.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
        with pytest.raises(asyncssh.ChannelOpenError):
            await ssh.open_unix_connection("/var/run/docker.sock")


async def test_bounds_channels_of_connection(tmp_path: Path) -> None:
    async with _dialled(tmp_path, make_manifest("true")) as (*_, channel):
        ssh = channel._connection
        with pytest.raises(asyncssh.ChannelOpenError):
            for _ in range(40):
                await ssh.create_process("sublet logs stdout 0", encoding=None)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("cat /etc/passwd", 1),  # for the job's sandbox, and no job runs yet
        ("sublet 'unclosed", 1),  # so is this: its shell says what is wrong with it
        ("sublet", 127),
        ("sublet job extra", 127),
        ("sublet logs ../../etc/passwd 0", 2),
        ("sublet logs stdout -1", 2),
        ("sublet logs stdout 1 2", 2),
        ("sublet logs stdout " + "9" * 40, 2),
        ("sublet exec true", 1),  # nothing runs yet
    ],
)
async def test_refuses_other_commands(tmp_path: Path, command: str, code: int) -> None:
    async with _dialled(tmp_path, make_manifest("true")) as (*_, channel):
        done = await channel._connection.run(command, encoding=None)
        assert done.exit_status == code


# ---- what is said -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"garbage\n", "malformed"),
        (b'{"type":"uploaded"}\n', "out_of_order"),
        (b'{"type":"kept","number":1,"more":1}\n', "unknown_field"),
        (b'{"type":"kept","number": 1}\n', "not_canonical"),
        (b"x" * (limits.MANIFEST_BYTES_MAX + 70_000) + b"\n", "too_large"),
    ],
    ids=["garbage", "order", "field", "spaces", "large"],
)
async def test_refuses_nonsense_by_name(tmp_path: Path, line: bytes, code: str) -> None:
    manifest = make_manifest("sleep", "20")
    async with (
        _rented(tmp_path, manifest) as (house, tenant, lease),
        tenant.dial(lease) as good,
    ):
        await tenant.begin(good, manifest)
        await wait_true(lambda: _stages(house) == [Stage.RUNNING])
        async with tenant.dial(lease) as bad:
            await bad.open_job()
            assert bad._writer is not None
            bad._writer.write(line)
            trouble = await hear(bad, Trouble)
            assert trouble.code == code
        assert _stages(house) == [Stage.RUNNING]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"salt": "1" * 32}, "wrong_manifest"),  # not what the order committed to
        ({"argv": ("rm", "-rf", "/")}, "wrong_manifest"),
    ],
)
async def test_refuses_another_manifest(
    tmp_path: Path, changes: dict[str, object], code: str
) -> None:
    manifest = make_manifest("true")
    async with (
        _rented(tmp_path, manifest) as (_, tenant, lease),
        tenant.dial(lease) as channel,
    ):
        await channel.open_job()
        await channel.say(
            Deliver(manifest=make_manifest("true", **changes), order=tenant.order)
        )
        assert (await hear(channel, Trouble)).code == code


async def test_refuses_hostile_paths(tmp_path: Path) -> None:
    tree = Tree(files=(FileEntry("../../evil", 0, 0o644, ()),))
    manifest = make_manifest("true", inputs=tree)
    async with _rented(tmp_path, manifest) as (house, tenant, lease):
        async with tenant.dial(lease) as channel:
            await channel.open_job()
            await channel.say(Deliver(manifest=manifest, order=tenant.order))
            assert (await hear(channel, Trouble)).code == "faults"
        assert _stages(house) == [Stage.ACCEPTED]
    assert "evil" not in str(_list(tmp_path))


async def test_reports_what_cannot_start(tmp_path: Path) -> None:
    manifest = make_manifest("/no/such/program")
    async with _rented(tmp_path, manifest) as (_, tenant, lease):
        async with tenant.dial(lease) as channel:
            await tenant.begin(channel, manifest)
            ended = await hear(channel, Ended)
            assert ended.owed == 0
        over = await tenant.wait_phase(lease, Phase.SETTLED)
        assert (over.reason, over.fault) == ("failed", Fault.PROVIDER)


# ---- chunks and files -------------------------------------------------------------


def _with_input(content: bytes) -> Manifest:
    key = "0x" + blake3(content).hexdigest()
    entry = FileEntry("in", len(content), 0o644, (key,))
    return make_manifest("cat", "in", inputs=Tree(files=(entry,)))


async def test_takes_only_wanted_chunks(tmp_path: Path) -> None:
    content = b"wanted" * 1_000
    manifest = _with_input(content)
    key = manifest.inputs.files[0].chunks[0]
    other = blake3(b"other").hexdigest()
    async with _rented(tmp_path, manifest) as (house, tenant, lease):
        async with tenant.dial(lease) as channel:
            await channel.open_job()
            await channel.say(Deliver(manifest=manifest, order=tenant.order))
            assert (await hear(channel, Missing)).chunks == (key,)
            sftp = await channel.open_sftp()
            for path in (
                f"/chunks/{other}",  # not of this manifest
                "/chunks/../../x",
                "/work/x",
                "/chunks/" + "G" * 64,
                "/etc/x",
            ):
                with pytest.raises(asyncssh.SFTPError):
                    await sftp.open(path, "wb")
            # Wrong bytes under the right name are not taken.
            async with sftp.open(f"/chunks/{key[2:]}", "wb") as file:
                await file.write(b"wrong")
            await channel.say(Uploaded())
            assert (await hear(channel, Missing)).chunks == (key,)
            # Half of it, then the other half: resumed.
            async with sftp.open(f"/chunks/{key[2:]}", "wb") as file:
                await file.write(content[:100])
            assert await sftp.getsize(f"/chunks/{key[2:]}.part") == 100
            async with sftp.open(f"/chunks/{key[2:]}.part", "r+b") as file:
                await file.write(content[100:], 100)
            await sftp.rename(f"/chunks/{key[2:]}.part", f"/chunks/{key[2:]}")
            await channel.say(Uploaded())
            ended = await hear(channel, Ended)
            assert ended.receipt.document.exit_code == 0  # type: ignore[union-attr]
        assert (
            house.home / "leases" / lease.id / "data" / "stdout"
        ).read_bytes() == content


async def test_checked_chunk_is_not_changed_behind_it(tmp_path: Path) -> None:
    """Two have it open: the older one writes no more, and takes nothing."""
    content = b"wanted" * 1_000
    manifest = _with_input(content)
    name = f"/chunks/{manifest.inputs.files[0].chunks[0][2:]}"
    async with (
        _rented(tmp_path, manifest) as (_, tenant, lease),
        tenant.dial(lease) as channel,
    ):
        await channel.open_job()
        await channel.say(Deliver(manifest=manifest, order=tenant.order))
        await hear(channel, Missing)
        sftp = await channel.open_sftp()
        older = await sftp.open(name, "wb")
        await older.write(content)
        newer = await sftp.open(name, "r+b")
        with pytest.raises(asyncssh.SFTPError):
            await older.write(b"X", 0)
        # Written backwards, so nothing of it was hashed on its way.
        await newer.write(content[3_000:], 3_000)
        await newer.write(content[:3_000], 0)
        await newer.close()
        with pytest.raises(asyncssh.SFTPError):
            await older.write(b"X", 0)
        await older.close()
        await channel.say(Uploaded())
        ended = await hear(channel, Ended)
        assert ended.receipt.document.exit_code == 0  # type: ignore[union-attr]


async def test_shows_folder_but_follows_nothing(tmp_path: Path) -> None:
    script = "mkdir d; echo x > d/file; ln -s /etc d/etc; ln -s /etc/passwd p; sleep 20"
    manifest = make_manifest("sh", "-c", script)
    async with _dialled(tmp_path, manifest) as (house, tenant, lease, channel):
        await tenant.begin(channel, manifest)
        work = house.home / "leases" / lease.id / "data" / "work"
        await wait_true(lambda: (work / "p").is_symlink())
        sftp = await channel.open_sftp()
        assert set(await sftp.listdir("/")) == {"chunks", "work"}
        assert set(await sftp.listdir("/work/d")) >= {"file", "etc"}
        async with sftp.open("/work/d/file", "rb") as file:
            assert await file.read() == b"x\n"
        for path in ("/work/p", "/work/d/etc/passwd", "/work/../record.json"):
            with pytest.raises(asyncssh.SFTPError):
                await sftp.open(path, "rb")
        with pytest.raises(asyncssh.SFTPError):
            await sftp.listdir("/work/d/etc")
        out = "/work/d/etc"  # a symlink to a folder of the machine's
        for forbid in (
            lambda: sftp.open("/work/p", "r+b"),
            lambda: sftp.open(f"{out}/new", "wb"),
            lambda: sftp.remove(f"{out}/passwd"),
            lambda: sftp.mkdir(f"{out}/new"),
            lambda: sftp.rmdir(out),
            lambda: sftp.chmod("/work/p", 0o777),
            lambda: sftp.symlink("/etc/passwd", f"{out}/link"),
            lambda: sftp.readlink(f"{out}/mtab"),
            lambda: sftp.rename("/work/d/file", f"{out}/file"),
            lambda: sftp.rename("/work/d/file", "/work/../record.json"),
            lambda: sftp.link("/work/d/file", "/work/hard"),
            lambda: sftp.statvfs("/work"),
        ):
            with pytest.raises(asyncssh.SFTPError):
                await forbid()
        assert (work / "d/file").read_bytes() == b"x\n"


# ---- money ------------------------------------------------------------------------


async def test_stops_who_never_pays(tmp_path: Path) -> None:
    manifest = make_manifest("sleep", "60")
    async with _rented(tmp_path, manifest, credit_s=1) as (_, tenant, lease):
        async with tenant.dial(lease) as channel:
            await tenant.begin(channel, manifest)
            metered = await hear(channel, Metered)
            assert metered.owed == metered.channel_total > 0
            ended = await hear(channel, Ended)
            assert ended.receipt.document.reason == "unpaid"  # type: ignore[union-attr]
            assert 0 < ended.owed < 10_000 * 10  # less than ten seconds of work
        over = await tenant.wait_phase(lease, Phase.SETTLING)
        assert over.reason == "unpaid"


@pytest.mark.parametrize("kind", ["forged", "stale"])
async def test_takes_no_bad_voucher(tmp_path: Path, kind: str) -> None:
    manifest = make_manifest("sleep", "60")
    async with _dialled(tmp_path, manifest) as (house, tenant, lease, channel):
        await tenant.begin(channel, manifest)
        await hear(channel, Metered)
        if kind == "forged":
            await tenant.pay(channel, lease, 1_000, key=make_key("somebody"))
            assert (await hear(channel, Trouble)).code == "wrong_signer"
        else:
            await tenant.pay(channel, lease, 1_000)
            await tenant.pay(channel, lease, 500)
            await wait_true(lambda: house.agent.around.till.total(lease) == 1_000)
            await hear(channel, Metered)
            assert house.agent.around.till.total(lease) == 1_000


async def test_goes_on_within_credit(tmp_path: Path) -> None:
    """The tenant vanishes, comes back, and finds its job where it was."""
    manifest = make_manifest("sh", "-c", "echo a; sleep 2; echo b")
    async with _rented(tmp_path, manifest) as (house, tenant, lease):
        async with tenant.dial(lease) as channel:
            await tenant.begin(channel, manifest)
            await wait_true(lambda: _stages(house) == [Stage.RUNNING])
        async with tenant.dial(lease) as channel:
            await channel.open_job()
            await channel.say(Deliver(manifest=manifest, order=tenant.order))
            assert (await hear(channel, Missing)).chunks == ()
            assert (await hear(channel, Progress)).phase == "running"
            ended = await hear(channel, Ended)
            parts = [part async for part in channel.follow_log("stdout", offset=2)]
            assert b"".join(parts) == b"b\n"
            await tenant.pay(channel, lease, ended.channel_total)
            await channel.say(Close(reason="done"))
            await tenant.wait_phase(lease, Phase.SETTLED)
        await wait_true(lambda: _stages(house) == [])


async def test_ends_when_market_settles(tmp_path: Path) -> None:
    """A tenant that never delivers: the market's deadline erases the lease here."""
    node: dict[str, object] = {"market": {"deliver_s": 1}}
    manifest = make_manifest("true")
    async with _rented(tmp_path, manifest, node=node) as (house, tenant, lease):
        over = await tenant.wait_phase(lease, Phase.SETTLED)
        assert (over.reason, over.fault) == ("not_delivered", Fault.TENANT)
        await wait_true(lambda: _stages(house) == [])
        assert not _list(house.home / "leases")


# ---- the owner --------------------------------------------------------------------


async def test_gives_back_with_notice(tmp_path: Path) -> None:
    script = "trap 'echo last > c/state; exit 0' TERM; while :; do sleep 0.1; done"
    manifest = make_manifest("sh", "-c", script, checkpoint="c")
    async with _rented(tmp_path, manifest) as (house, tenant, lease):
        async with tenant.dial(lease) as channel:
            await tenant.begin(channel, manifest)
            await wait_true(lambda: _stages(house) == [Stage.RUNNING])
            house.agent.give_back(notice_s=1)
            assert (await hear(channel, Notice)).stops_in_s == 1
            shipped = await hear(channel, Checkpointed)
            assert [file.path for file in shipped.tree.files] == ["state"]
            keys = [key for file in shipped.tree.files for key in file.chunks]
            await channel.get_chunks(keys, blobs=tenant.blobs)
            await channel.say(Kept(number=shipped.number))
            ended = await hear(channel, Ended)
            assert ended.receipt.document.reason == "given_back"  # type: ignore[union-attr]
            await tenant.pay(channel, lease, ended.channel_total)
            await channel.say(Close(reason="done"))
        over = await tenant.wait_phase(lease, Phase.SETTLED)
        assert over.fault is Fault.PROVIDER
        await asyncio.wait_for(asyncio.shield(house.task), 10)


async def test_stops_now_on_request(tmp_path: Path) -> None:
    manifest = make_manifest("sh", "-c", "trap '' TERM; sleep 60")
    async with _rented(tmp_path, manifest) as (house, tenant, lease):
        async with tenant.dial(lease) as channel:
            await tenant.begin(channel, manifest)
            await wait_true(lambda: _stages(house) == [Stage.RUNNING])
            await house.agent.stop_now()
            await asyncio.wait_for(asyncio.shield(house.task), 10)
        (lease,) = await tenant.connection.leases(is_all=True)
        assert lease.reason == "given_back"
        assert lease.owed == 0


async def test_shows_lease_to_channel(tmp_path: Path) -> None:
    """The newest channel of a lease counts; an older one ends."""
    manifest = make_manifest("sleep", "20")
    async with (
        _rented(tmp_path, manifest) as (_, tenant, lease),
        tenant.dial(lease) as first,
        tenant.dial(lease) as second,
    ):
        await tenant.begin(first, manifest)
        await tenant.begin(second, manifest)
        with pytest.raises(ChannelLost):
            while True:
                await first.hear()
        assert await hear(second, Metered)
