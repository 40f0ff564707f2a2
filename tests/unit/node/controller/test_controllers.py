"""How much tenants may leave, and what is forgotten, without a market to fly in."""

import asyncio
from pathlib import Path

import pytest

from sublet.base.errors import Unavailable
from sublet.node.controller.controllers import KEPT_S, UNSTARTED_S, Controllers
from sublet.node.controller.keys import ControllerKeys
from sublet.node.journal import Journal
from tests.fakes.vault_memory import MemoryVault
from tests.fakes.world import World, make_key

TENANT, JOB = "0x" + "a" * 40, "0123456789ab"


def make_controllers(
    folder: Path, vault: MemoryVault, world: World, *, bytes_max: int = 100
) -> Controllers:
    return Controllers(
        vault,
        ControllerKeys(make_key("operator"), world.market_id),
        scratch=folder,
        bytes_max=bytes_max,
        market=world.market,
        clock=world.clock,
        journal=Journal(),
    )


async def test_refuses_more_than_all_jobs_may_hold(tmp_path: Path) -> None:
    world, vault = World(), MemoryVault()
    vault.find(TENANT, JOB).begin(bytes(60))
    controllers = make_controllers(tmp_path, vault, world)
    await controllers.check_room(30)
    with pytest.raises(Unavailable) as caught:
        await controllers.check_room(30)  # what the first may leave counts already
    assert caught.value.code == "vault_full"
    vault.find(TENANT, JOB).drop()
    world.clock.at_s += 60
    await controllers.check_room(90)


@pytest.mark.parametrize("is_ended", [True, False])
async def test_forgets_what_nobody_fetches(tmp_path: Path, is_ended: bool) -> None:
    world, vault = World(), MemoryVault()
    job = vault.find(TENANT, JOB)
    job.begin(b"plan")
    if is_ended:
        job.start()
        epoch = job.claim("node", span_ms=0)
        assert epoch is not None
        job.end(epoch=epoch)
    stands = job.stand()
    assert stands is not None
    world.clock.at_s = stands.kept_at_s + (KEPT_S if is_ended else UNSTARTED_S) - 60
    flying = asyncio.create_task(
        make_controllers(tmp_path, vault, world).run("http://127.0.0.1:9")
    )
    try:
        await asyncio.sleep(0.1)
        assert job.stand() is not None
        world.clock.at_s += 120
        async with asyncio.timeout(60):
            while job.stand() is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        flying.cancel()
        await asyncio.gather(flying, return_exceptions=True)
