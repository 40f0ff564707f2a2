"""Services that run are changed in place: same lease, same folder, same log."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.base.errors import Refused
from sublet.core.document import Delivery, Order, Replacement
from sublet.core.lease.phase import Phase
from sublet.wire.manifest import commitment
from sublet.wire.message import LogEntry, Manifest, Replace, Replaced, Trouble
from sublet.workload.client import AsyncClient
from sublet.workload.deploy.file import read_file
from sublet.workload.deploy.launch import Deployment, find_going
from sublet.workload.deploy.plan import DeployPlan
from sublet.workload.deploy.update import update
from sublet.workload.run import event
from tests.image_rig import busybox_image
from tests.integration.provider_house import (
    House,
    RawTenant,
    hear,
    make_manifest,
    running_agent,
    running_house,
    tenant_of,
    wait_settled,
    wait_true,
)

pytestmark = pytest.mark.container

FILE = """\
sublet: 1
name: shop
services:
  web:
    image: oci-archive:{archive}
    command: [sh, -c, "echo $WORD {said}; cat /work/left; echo $WORD > /work/left; {then}"]
    env: {{WORD: {word}}}
    memory: 256MiB
    max_price: 500
"""


# Ends at once when it is told to: a shell that is its own first process hears nothing.
LOOP = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


class Heard:
    """What the services said on stdout, and when leases began."""

    def __init__(self) -> None:
        self.text = b""
        self.leases = 0

    async def show(self, name: str, what: event.AnyEvent) -> None:
        if isinstance(what, event.Wrote) and what.stream == "stdout":
            self.text += what.data
        self.leases += isinstance(what, event.Matched)

    def says(self, text: bytes) -> Callable[[], bool]:
        return lambda: text in self.text


def read(
    archive: Path, *, word: str, said: str = "here", then: str = LOOP
) -> DeployPlan:
    text = FILE.format(archive=archive, word=word, said=said, then=then)
    return read_file(text.encode(), file="sublet.yaml", name="shop").plan


@asynccontextmanager
async def running_shop(
    tmp_path: Path, plan: DeployPlan, heard: Heard
) -> AsyncIterator[tuple[House, AsyncClient, Deployment]]:
    async with (
        running_house(tmp_path, sandbox=BubblewrapSandbox()) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        deployment = Deployment()
        await deployment.start(client, plan, on_event=heard.show, max_total="50")
        try:
            yield house, client, deployment
        finally:
            deployment.stop()
            await deployment.result()


async def test_changes_the_program_on_its_lease(tmp_path: Path) -> None:
    one = busybox_image().write_archive(tmp_path / "one.tar")
    two = busybox_image().write_archive(tmp_path / "two.tar")
    heard = Heard()
    async with running_shop(tmp_path, read(one, word="old"), heard) as (
        house,
        client,
        deployment,
    ):
        await wait_true(heard.says(b"old here\n"))
        (before,) = await client.leases()
        told: list[str] = []
        plan = read(two, word="new", said="there")
        done = await update(
            client, plan, await find_going(client, "shop"), tell=told.append
        )
        assert done == ["shop.web.1"]
        assert told[0] == "shop.web.1: changing image, command, env"
        # What the first one left lies there, and the log goes on behind its own.
        await wait_true(heard.says(b"new there\nold\n"))
        assert heard.text.startswith(b"old here\n")
        (after,) = await client.leases()
        assert (after.id, after.price_hour) == (before.id, before.price_hour)
        assert (
            await update(client, plan, await find_going(client, "shop"), tell=print)
            == []
        )
        deployment.stop()
        (result,) = (await deployment.result()).values()
        (lease,) = await wait_settled(client)
        _, body = await house.guest.get("/v1/log/entries?first=0&limit=1000")
        entries = [
            msgspec.json.decode(line, type=LogEntry) for line in body.splitlines()
        ]
        documents = [entry.document for entry in entries]
    assert (result.message, heard.leases) == ("stopped", 1)
    # Who reads the log sees which programs were asked for, and that they ran.
    (order,) = (one for one in documents if isinstance(one, Order))
    (asked,) = (one for one in documents if isinstance(one, Replacement))
    ran = [one.manifest for one in documents if isinstance(one, Delivery)]
    assert ran == [order.manifest, asked.manifest]
    assert (lease.manifest, lease.runs) == (order.manifest, asked.manifest)
    assert lease.ran_ms > 0 and lease.paid == lease.owed


async def test_what_cannot_start_leaves_the_old(tmp_path: Path) -> None:
    one = busybox_image().write_archive(tmp_path / "one.tar")
    (tmp_path / "bad.tar").write_bytes(b"no archive at all")
    heard = Heard()
    async with running_shop(tmp_path, read(one, word="old"), heard) as (
        _,
        client,
        _deployment,
    ):
        await wait_true(heard.says(b"old here\n"))
        plan = read(tmp_path / "bad.tar", word="new")
        with pytest.raises(Refused) as caught:
            await update(client, plan, await find_going(client, "shop"), tell=print)
        assert caught.value.code == "bad_image"
        assert "shop.web.1 goes on as it was" in caught.value.message
        # It is there for the next try, which is as good as the first.
        plan = read(one, word="newer")
        assert await update(client, plan, await find_going(client, "shop"), tell=print)
        await wait_true(heard.says(b"newer here\nold\n"))
    assert heard.leases == 1


async def test_an_agent_finds_the_replaced_program(tmp_path: Path) -> None:
    one = busybox_image().write_archive(tmp_path / "one.tar")
    heard = Heard()
    async with running_shop(tmp_path, read(one, word="old"), heard) as (
        house,
        client,
        deployment,
    ):
        await wait_true(heard.says(b"old here\n"))
        then = "while [ ! -e /work/end ]; do sleep 0.1; done; exit 7"
        plan = read(one, word="new", then=then)
        await update(client, plan, await find_going(client, "shop"), tell=print)
        await wait_true(heard.says(b"new here\n"))
        house.task.cancel()
        await asyncio.gather(house.task, return_exceptions=True)
        sandbox = BubblewrapSandbox()
        async with running_agent(house.home, house.url, sandbox=sandbox):
            (folder,) = (house.home / "leases").iterdir()
            (folder / "data" / "work" / "end").touch()
            (result,) = (await deployment.result()).values()
            await wait_settled(client)
    assert result.exit_code == 7 and heard.leases == 1


async def change(
    tenant: RawTenant, manifest: Manifest, lease_id: str, /, **other: object
) -> Replace:
    document = Replacement(
        lease_id=lease_id,
        manifest=commitment(manifest),
        signed_at_s=int(time.time()),
        salt=1,
    )
    return Replace(
        manifest=manifest,
        replacement=await tenant.connection.sign(replace(document, **other)),
    )


async def test_what_was_leased_is_not_changed(tmp_path: Path) -> None:
    async with (
        running_house(tmp_path) as house,
        tenant_of(tmp_path, house.guest) as client,
        tenant_of(tmp_path, house.guest, name="other") as stranger,
    ):
        tenant, manifest = RawTenant(client), make_manifest("sleep", "600")
        lease = await tenant.rent(manifest)
        async with tenant.dial(lease) as channel:
            await tenant.begin(channel, manifest)
            await tenant.wait_phase(lease, Phase.RUNNING)
            for fault, wish in {
                "not_replaceable": replace(manifest, memory_bytes=1 << 20),
                "faults": replace(manifest, argv=("a\0b",)),
            }.items():
                await channel.say(await change(tenant, wish, lease.id))
                assert (await hear(channel, Replaced)).code == fault
            await channel.say(
                await change(tenant, manifest, lease.id, manifest=lease.id)
            )
            assert (await hear(channel, Replaced)).code == "wrong_manifest"
            # Somebody else's word is no word, and ends the conversation, not the job.
            forged = await change(RawTenant(stranger), manifest, lease.id)
            await channel.say(forged)
            assert (await hear(channel, Trouble)).code == "wrong_signer"
        (now,) = await client.leases()
        assert (now.phase, now.replacements) == (Phase.RUNNING, 0)
