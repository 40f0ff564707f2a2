"""An open market over a log in memory."""

from collections.abc import AsyncIterator

import pytest

from sublet.service.market import MarketService
from tests.fakes.log_memory import FakeLog
from tests.fakes.world import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
async def service(world: World, log: FakeLog) -> AsyncIterator[MarketService]:
    service = world.make_service(log)
    await service.open()
    await world.set_up(service, gpus=1)
    yield service
    log.gate.set()
    await service.close()
