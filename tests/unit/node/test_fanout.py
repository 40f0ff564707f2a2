"""Fan-out: every change to who listens, and never a wait for who does not."""

import asyncio

import pytest
from msgspec.structs import replace

from sublet.core.lease.phase import Lease
from sublet.node.fanout import Fanout, FellBehind
from tests.unit.node.lease import make_lease

LEASE = make_lease()
TOPICS = (LEASE.id, LEASE.provider)


async def test_lease_and_provider_topics_hear() -> None:
    fanout: Fanout[Lease] = Fanout()
    with (
        fanout.subscribe(LEASE.id) as by_lease,
        fanout.subscribe(LEASE.provider) as by_provider,
        fanout.subscribe("0x" + "77" * 20) as other,
    ):
        assert fanout.publish(LEASE, TOPICS) == 0
        assert await by_lease.wait_change() == LEASE
        assert await by_provider.wait_change() == LEASE
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(other.wait_change(), 0)


async def test_changes_keep_their_order() -> None:
    fanout: Fanout[Lease] = Fanout()
    with fanout.subscribe(LEASE.id) as changes:
        for ran_ms in range(5):
            fanout.publish(replace(LEASE, ran_ms=ran_ms), TOPICS)
        heard = [(await changes.wait_change()).ran_ms for _ in range(5)]
    assert heard == [0, 1, 2, 3, 4]


async def test_slow_listener_is_dropped() -> None:
    fanout: Fanout[Lease] = Fanout()
    with (
        fanout.subscribe(LEASE.id, waiting_max=2) as slow,
        fanout.subscribe(LEASE.id) as quick,
    ):
        assert [fanout.publish(LEASE, TOPICS) for _ in range(4)] == [0, 0, 1, 0]
        with pytest.raises(FellBehind):
            await slow.wait_change()
        for _ in range(4):
            assert await quick.wait_change() == LEASE


async def test_nobody_is_kept_after_leaving() -> None:
    fanout: Fanout[Lease] = Fanout()
    with fanout.subscribe(LEASE.id) as changes:
        pass
    fanout.publish(LEASE, TOPICS)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(changes.wait_change(), 0)
