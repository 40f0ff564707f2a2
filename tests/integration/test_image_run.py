"""A tenant brings an image; a real node, a real provider, a real sandbox."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.sandbox_oci import GvisorSandbox, PodmanSandbox
from sublet.adapter.scratch_gocryptfs import GocryptfsScratch
from sublet.core.image import ImageRules, Registry
from sublet.service.ports import Sandbox
from sublet.workload.detached.client import attach, detach
from sublet.workload.run import event
from tests.image_rig import (
    BUSYBOX_CONFIG,
    busybox_image,
    busybox_layer,
    entry,
    pack_image,
    running_registry,
)
from tests.integration.provider_house import running_house, tenant_of, wait_settled

pytestmark = pytest.mark.container

KINDS: dict[str, Callable[[], Sandbox]] = {
    "bubblewrap": BubblewrapSandbox,
    "podman": PodmanSandbox,
    "gvisor": GvisorSandbox,
}
MONEY = {"max_total": "50", "max_price": "500", "memory": "512MiB"}
LOOK = (
    "cat /app/greeting; pwd; echo $FROM_IMAGE $MINE $HOME; ls /; "
    "touch /forbidden || echo read-only; echo made inside > result"
)


def read(path: str | Path) -> str:
    return Path(path).read_text()


@pytest.mark.parametrize("kind", KINDS)
async def test_runs_in_an_image_that_was_brought(tmp_path: Path, kind: str) -> None:
    archive = busybox_image().write_archive(tmp_path / "box.tar")
    async with (
        running_house(tmp_path, sandbox=KINDS[kind]()) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        result = await client.run(
            *("sh", "-c", LOOK),
            image=f"oci-archive:{archive}",
            is_command=True,
            sandbox=kind,
            env=["MINE=too"],
            outputs=[f"result:{tmp_path / 'got'}"],
            **MONEY,  # type: ignore[arg-type]
        )
        (lease,) = await wait_settled(client)
        folders = house.home / "leases" / lease.id
    assert result.exit_code == 0, result
    assert lease.features == ("image",)
    lines = (await asyncio.to_thread(read, result.stdout)).splitlines()
    assert lines[:3] == ["hello from the image", "/work", "yes too /work"]
    assert "usr" not in lines  # nothing of the provider's system is there
    assert "read-only" in lines
    assert await asyncio.to_thread(read, tmp_path / "got") == "made inside\n"
    assert not (folders / "work/box.tar").exists()


@pytest.mark.parametrize("kind", KINDS)
async def test_runs_in_an_image_on_encrypted_scratch(tmp_path: Path, kind: str) -> None:
    scratch = GocryptfsScratch()
    if not (probe := scratch.probe()).is_ok:
        pytest.skip(probe.reason)
    layer = [*busybox_layer(), entry("app/canary", "canary-5f2a9c", mode=0o644)]
    packed = pack_image(layer, config=BUSYBOX_CONFIG)
    archive = packed.write_archive(tmp_path / "box.tar")
    async with (
        running_house(tmp_path, sandbox=KINDS[kind](), scratches=[scratch]) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        said: list[bytes] = []

        async def show(what: event.AnyEvent) -> None:
            if isinstance(what, event.Wrote):
                said.append(what.data)
                # The image is the tenant's, too: none of it lies there in the clear.
                (lease,) = (house.home / "leases").iterdir()
                for path in lease.rglob("*"):
                    if not path.is_relative_to(lease / "data") and path.is_file():
                        assert b"canary-5f2a9c" not in path.read_bytes()

        job = await client.start(
            *("sh", "-c", "cat /app/canary; sleep 1"),
            image=f"oci-archive:{archive}",
            is_command=True,
            sandbox=kind,
            erasure=True,
            on_event=show,
            **MONEY,  # type: ignore[arg-type]
        )
        result = await job.result()
        assert result.exit_code == 0, result.message
        assert b"".join(said) == b"canary-5f2a9c", result
        (attempt,) = result.attempts
        async with asyncio.timeout(150):
            while True:
                lease = await client.connection.lease(attempt.lease_id)
                if lease.erasure_level and not lease.is_erasure_due:
                    break
                await asyncio.sleep(0.05)
        assert set(lease.features) == {"erasure", "image"}


async def test_runs_detached_in_an_image_that_was_brought(tmp_path: Path) -> None:
    archive = busybox_image().write_archive(tmp_path / "box.tar")
    async with (
        running_house(tmp_path, sandbox=PodmanSandbox()) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        record = await detach(
            *(client, "sh", "-c", LOOK),
            image=f"oci-archive:{archive}",
            is_command=True,
            outputs=[f"result:{tmp_path / 'got'}"],
            **MONEY,  # type: ignore[arg-type]
        )
        async with asyncio.timeout(120):
            result = await attach(client, record.id)
        await wait_settled(client)
    assert result.exit_code == 0, result
    said = await asyncio.to_thread(read, result.stdout)
    assert said.startswith("hello from the image\n")
    assert await asyncio.to_thread(read, tmp_path / "got") == "made inside\n"


async def test_runs_the_program_of_an_image_of_a_registry(tmp_path: Path) -> None:
    async with running_registry(busybox=busybox_image()) as registry:
        rules = ImageRules(registries=(Registry(registry.host, is_plain=True),))
        async with (
            running_house(tmp_path, sandbox=PodmanSandbox(), images=rules) as house,
            tenant_of(tmp_path, house.guest) as client,
        ):
            for _ in range(2):
                result = await client.run(
                    image=registry.reference("busybox:latest"),
                    **MONEY,  # type: ignore[arg-type]
                )
                # Its entrypoint and its words, in its own folder.
                assert result.exit_code == 0, result
                said = await asyncio.to_thread(read, result.stdout)
                assert said == "hello from the image\n"
            await wait_settled(client)
        blobs = [path for path in registry.asked if "/blobs/" in path]
        assert len(blobs) == 2  # one layer and one description, fetched once


async def test_nobody_offers_a_registry_that_is_not_allowed(tmp_path: Path) -> None:
    async with (
        running_house(tmp_path, images=ImageRules(registries=())) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        quote = await client.quote(image="ghcr.io/owner/name", max_price="500")
    assert quote.fault is not None
    assert "image:ghcr.io" in quote.fault.message


async def test_goes_on_after_a_hostile_image(tmp_path: Path) -> None:
    bad = pack_image([entry("../../escaped", "out")])
    archive = bad.write_archive(tmp_path / "bad.tar")
    good = busybox_image().write_archive(tmp_path / "good.tar")
    async with (
        running_house(tmp_path, sandbox=PodmanSandbox()) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        refused = await client.run(
            "sh",
            image=f"oci-archive:{archive}",
            is_command=True,
            retries=0,
            **MONEY,  # type: ignore[arg-type]
        )
        assert refused.exit_code != 0
        assert refused.cost == 0
        result = await client.run(
            "id",
            image=f"oci-archive:{good}",
            is_command=True,
            **MONEY,  # type: ignore[arg-type]
        )
        await wait_settled(client)
    assert "uid=4242" in await asyncio.to_thread(read, result.stdout)
