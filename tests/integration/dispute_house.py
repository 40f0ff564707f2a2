"""One lease among others on one log, the evidence about it, and what a forger makes of that."""

import asyncio
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from sublet.cli.dispute import write_dispute
from sublet.core.lease.phase import Lease
from sublet.service.dispute import Gathered, gather
from sublet.wire.codec import DocumentCodec
from sublet.wire.dispute import Dispute, sign_dispute
from tests.fakes.log_memory import FakeLog
from tests.fakes.world import World, make_key, move, submit

MADE_S = 1_900_000_000


def collect(log: FakeLog, lease_id: str) -> Gathered:
    return gather(log, DocumentCodec(), lease_id)


async def play(scene: Callable, world: World, log: FakeLog) -> Lease:
    service = world.make_service(log)
    await service.open()
    await world.set_up(service)
    lease = await scene(world, service)
    await service.close()
    return lease


def played(scene: Callable) -> tuple[World, FakeLog, Lease]:
    world, log = World(), FakeLog()
    return world, log, asyncio.run(play(scene, world, log))


async def two_leases(world: World, service: object) -> Lease:
    """The second of two, out of one channel, among what others do."""
    await world.play_lease(service)
    other = make_key("somebody")
    await submit(service, world.credit(other.address, 10_000_000))
    lease = await move(service, world.order())
    await submit(service, world.order(other))
    for say in (world.terms, world.delivery, world.start):
        await move(service, say(lease))
    world.clock.at_s += 10
    await move(service, world.usage(lease, ran_ms=10_000, sequence=1))
    await submit(service, world.credit(other.address, 1))
    await move(service, world.kept(lease, ran_ms=9_000))
    lease = await move(service, world.receipt(lease, ran_ms=10_000))
    lease = await move(service, world.voucher(lease, amount=lease.channel_total))
    await submit(service, world.credit(other.address, 2))
    return lease


WORLD, LOG, LEASE = played(two_leases)
GATHERED = collect(LOG, LEASE.id)
RAW = write_dispute(GATHERED, key=WORLD.tenant, made_at_s=MADE_S)
DISPUTE = msgspec.json.decode(RAW, type=Dispute)


def signed(dispute: Dispute) -> bytes:
    """What a maker with a key of its own can make of it."""
    forger = make_key("forger")
    return sign_dispute(replace(dispute, maker=forger.address), key=forger)


def entry_of(kind: str) -> int:
    return next(
        place
        for place, held in enumerate(DISPUTE.entries)
        if f'"document":{{"type":"{kind}"' in held.entry and place
    )


def without(place: int) -> tuple:
    return DISPUTE.entries[:place] + DISPUTE.entries[place + 1 :]


def changed(**fields: object) -> bytes:
    return signed(replace(DISPUTE, **fields))


def change_entry(place: int, **fields: object) -> bytes:
    other = replace(DISPUTE.entries[place], **fields)
    return changed(
        entries=(*DISPUTE.entries[:place], other, *DISPUTE.entries[place + 1 :])
    )
