"""What is kept beside the entries, and what happens when it cannot be."""

import pytest

from sublet.base.errors import Unavailable
from sublet.core.document import Stop
from sublet.core.lease.phase import Lease, Phase
from sublet.core.merkle import EMPTY_ROOT
from sublet.service.keeper import Keeper
from sublet.service.ports import Snapshot
from tests.fakes.log_memory import FakeLog
from tests.fakes.world import World, move


class FullLog(FakeLog):
    """Keeps nothing beside the entries while ``is_full``."""

    is_full = True

    def put_checkpoint(self, *, size: int, note: bytes) -> None:
        self._refuse()
        super().put_checkpoint(size=size, note=note)

    def put_snapshot(self, snapshot: Snapshot) -> None:
        self._refuse()
        super().put_snapshot(snapshot)

    def _refuse(self) -> None:
        if self.is_full:
            raise Unavailable("the disk is full", code="disk_full")


@pytest.fixture
async def lease() -> Lease:
    world = World()
    service = world.make_service(FakeLog())
    await service.open()
    await world.set_up(service)
    matched = await move(service, world.order())
    stop = Stop(lease_id=matched.id, reason="cancelled", **world.stamp())
    settled = await move(service, world.say(stop, world.tenant))
    assert settled.phase is Phase.SETTLED
    await service.close()
    return settled


def test_keeps_settled_leases_only(lease: Lease) -> None:
    log = FakeLog()
    keeper = Keeper(log, World().make_codec())
    keeper.keep(size=1, root=EMPTY_ROOT, moved=[lease])
    assert keeper.find_settled(lease.id) == lease
    assert keeper.find_settled("0x" + "00" * 32) is None


def test_full_disk_is_tried_again(lease: Lease) -> None:
    log = FullLog()
    keeper = Keeper(log, World().make_codec())
    keeper.keep(size=1, root=EMPTY_ROOT, moved=[lease])
    assert keeper.checkpoint is None  # nothing is served that was not kept
    assert keeper.find_settled(lease.id) is None
    log.is_full = False
    keeper.keep(size=2, root=EMPTY_ROOT)
    assert keeper.checkpoint is not None
    assert keeper.checkpoint[0] == 2
    assert keeper.find_settled(lease.id) == lease


def test_snapshot_that_cannot_be_kept() -> None:
    log = FullLog()
    Keeper(log, World().make_codec()).keep_snapshot(Snapshot(1, b"", b"", b""))
    assert log.find_snapshot() is None
