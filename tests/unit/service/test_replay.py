"""Restarting from a stored log: what is compared, what is refused."""

from collections.abc import Callable
from hashlib import sha256

import pytest
from msgspec.structs import replace

from sublet.base.errors import PeerFault
from sublet.core.book.snapshot import book_hash, dump
from sublet.core.lease.phase import Phase
from sublet.core.merkle import leaf_hash
from sublet.service.market import MarketService
from sublet.service.ports import Row, Snapshot
from sublet.service.replay import LogInconsistent, Replayed, is_sealed, replay
from sublet.wire.note import NoteKey, read_checkpoint
from tests.fakes.log_memory import FakeLog
from tests.fakes.world import World, submit


@pytest.fixture
async def played(world: World) -> tuple[FakeLog, MarketService]:
    log = FakeLog()
    service = world.make_service(log, seal_every=10)
    await service.open()
    await world.set_up(service)
    await world.play_lease(service)
    await service.close()
    return log, service


Played = tuple[FakeLog, MarketService]


def restart(log: FakeLog, world: World) -> Replayed:
    return replay(log, world.make_codec(), read_note=read_checkpoint)


def test_empty_log_gives_empty_fold(world: World) -> None:
    replayed = restart(FakeLog(), world)
    assert (replayed.fold.size, replayed.sealed_size) == (0, 0)


@pytest.mark.parametrize("snapshots", [0, 1, 2])
def test_replay_gives_the_same_state(
    world: World, played: Played, snapshots: int
) -> None:
    log, service = played
    while len(log.snapshots) > snapshots:
        del log.snapshots[min(log.snapshots)]
    if snapshots == 1:  # the older one
        log.snapshots.clear()
        log.put_snapshot(_older(log, world))
    fold = restart(log, world).fold
    assert book_hash(fold.book) == book_hash(service.book)
    assert fold.leaves == list(service.leaves) == [row.leaf for row in log.rows]
    assert fold.at_s == world.clock.at_s


def _older(log: FakeLog, world: World) -> Snapshot:
    """Make the snapshot of the first Seal, as the service once kept it."""
    short = FakeLog()
    codec = world.make_codec()
    for row in log.rows:
        short.append([(row.id, row.body, row.leaf)])
        if row.index == 9:
            break
    fold = replay(short, codec, read_note=read_checkpoint).fold
    book = dump(fold.book)
    return Snapshot(10, book, sha256(book).digest(), fold.tree.to_bytes())


def test_leases_settled_since_snapshot_come_back(world: World, played: Played) -> None:
    log, _ = played
    log.snapshots.clear()
    (settled,) = restart(log, world).settled
    assert settled.phase is Phase.SETTLED


async def test_restarted_market_goes_on(world: World, played: Played) -> None:
    log, first = played
    service = world.make_service(log)
    await service.open()
    (result,) = await submit(service, world.credit(world.tenant.address, 1))
    assert result.index == first.size
    await service.close()
    assert service.checkpoint is not None


async def test_missing_checkpoint_is_signed_at_start(
    world: World, played: Played
) -> None:
    # As after a kill between the commit and its checkpoint.
    log, _ = played
    size = log.size()
    del log.checkpoints[size]
    service = world.make_service(log)
    await service.open()
    assert service.checkpoint is not None
    assert service.checkpoint[0] == size
    assert size in log.checkpoints
    await service.close()


def test_false_snapshot_only_costs_time(world: World, played: Played) -> None:
    log, service = played
    true = log.find_snapshot()
    assert true is not None
    log.snapshots[true.size] = replace(true, book=true.book + b" ")
    replayed = restart(log, world)
    assert book_hash(replayed.fold.book) == book_hash(service.book)


def test_snapshot_of_another_book_is_not_sealed(world: World, played: Played) -> None:
    log, _ = played
    true = log.find_snapshot()
    assert true is not None
    codec = world.make_codec()
    assert is_sealed(true, log, codec)
    book = true.book.replace(b'"name":"test"', b'"name":"tost"')
    false = replace(true, book=book, book_hash=sha256(book).digest())
    assert not is_sealed(false, log, codec)
    assert not is_sealed(replace(true, size=true.size - 1), log, codec)
    assert not is_sealed(replace(true, size=10_000), log, codec)


def _flip_body(log: FakeLog) -> None:
    row = log.rows[-2]
    log.rows[-2] = Row(row.index, row.id, row.body + b" ", row.leaf)
    log.snapshots.clear()


def _flip_leaf(log: FakeLog) -> None:
    row = log.rows[3]
    log.rows[3] = Row(row.index, row.id, row.body, bytes(32))


def _change_entry_and_leaf(log: FakeLog) -> None:
    # A memo does nothing to the book, so only the signed tree can tell.
    log.snapshots.clear()
    row = log.rows[1]
    body = row.body.replace(b'"memo":"test"', b'"memo":"tost"')
    assert body != row.body
    log.rows[1] = Row(row.index, row.id, body, leaf_hash(body))


def _drop_last(log: FakeLog) -> None:
    log.rows.pop()


def _drop_middle(log: FakeLog) -> None:
    del log.rows[4]


def _false_tree(log: FakeLog) -> None:
    size = max(log.snapshots)
    log.snapshots[size] = replace(log.snapshots[size], tree=bytes(40))


@pytest.mark.parametrize(
    "spoil",
    [
        _flip_body,
        _flip_leaf,
        _change_entry_and_leaf,
        _drop_last,
        _drop_middle,
        _false_tree,
    ],
)
def test_refuses_a_spoilt_log(
    world: World, played: Played, spoil: Callable[[FakeLog], None]
) -> None:
    log, _ = played
    spoil(log)
    with pytest.raises(LogInconsistent):
        restart(log, world)


def test_refuses_a_foreign_checkpoint(world: World, played: Played) -> None:
    log, service = played
    thief = NoteKey.generate(bytes(32), "market.test")
    note = thief.sign_checkpoint(origin="sublet/x", size=service.size, root=bytes(32))
    log.put_checkpoint(size=service.size, note=note)
    with pytest.raises(PeerFault):
        restart(log, world)


async def test_market_does_not_open_on_lies(world: World, played: Played) -> None:
    log, _ = played
    log.rows.pop()
    service = world.make_service(log)
    with pytest.raises(LogInconsistent):
        await service.open()
    await service.close()
