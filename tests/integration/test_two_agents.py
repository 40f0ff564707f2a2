"""Two agents with one key: one of them offers, the other says why it does not."""

import asyncio
import shutil
from pathlib import Path

import pytest

from sublet.provider.compose import serve
from sublet.provider.journal import Journal
from sublet.provider.link import KeyInUse
from tests.fakes.sandbox_fake import FakeSandbox
from tests.fakes.world import World
from tests.integration.node_house import running_node
from tests.integration.provider_house import (
    make_home,
    running_agent,
    running_house,
    wait_offered,
    wait_true,
)
from tests.integration.silent_proxy import silent_proxy

WAIT_S = 90
PATIENT = {"limits": {"lost_after_s": 60, "gone_after_s": 60, "ping_s": 1}}


def copy_key(source: Path, target: Path, url: str) -> None:
    """Lay out another home, on another machine, with the key of the first."""
    make_home(target, url)
    shutil.copyfile(source / "key", target / "key")


async def test_second_agent_with_one_key_gives_way(tmp_path: Path) -> None:
    async with running_house(tmp_path) as house:
        copy_key(house.home, tmp_path / "second", house.url)
        before = (await house.guest.learn()).size
        async with asyncio.timeout(WAIT_S):
            with pytest.raises(KeyInUse, match="another agent") as error:
                await serve(
                    tmp_path / "second", sandboxes=(FakeSandbox(),), journal=Journal()
                )
        assert error.value.code == "key_in_use"
        info = await house.guest.learn()
        assert (info.offers, info.providers_up) == (1, 1)
        assert info.size == before, "neither was lost, seen again, or offered twice"
        assert house.agent.is_linked
        assert not (tmp_path / "second" / "offers.json").exists()


async def test_agent_takes_over_from_one_that_is_gone(tmp_path: Path) -> None:
    """The first one's machine lost its power: its link stands, and nobody is there."""
    async with running_node(tmp_path / "node", World(), **PATIENT) as guest:
        async with silent_proxy(guest.url) as proxy:
            home = tmp_path / "first"
            async with running_agent(home, proxy.url) as (first, task):
                await wait_offered(guest)
                copy_key(home, tmp_path / "second", guest.url)
                proxy.go_silent()
                async with running_agent(tmp_path / "second", guest.url) as (second, _):
                    async with asyncio.timeout(WAIT_S):
                        await wait_true(lambda: second.is_linked)
                    # Back again, the first one finds its place taken, and ends.
                    proxy.come_back()
                    async with asyncio.timeout(WAIT_S):
                        with pytest.raises(KeyInUse):
                            await task
                    assert second.is_linked
                    assert second.offering.newest is not None
                    assert first.offering.newest is None
        assert (await guest.learn()).size


async def test_agent_that_restarts_is_no_second(tmp_path: Path) -> None:
    """Killed and started again at once, it is admitted."""
    async with running_house(tmp_path) as house:
        house.task.cancel()
        await asyncio.gather(house.task, return_exceptions=True)
        async with running_agent(house.home, house.url) as (again, _):
            await wait_true(lambda: again.is_linked)
