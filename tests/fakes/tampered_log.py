"""A whole log in plain lists, to be tampered with and audited."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sublet.core.document import Entry, Fact
from sublet.core.merkle import Frontier, leaf_hash
from sublet.service.audit import verify
from sublet.service.market import MarketService
from sublet.service.ports import Row, Snapshot
from sublet.service.verdict import Verdict
from sublet.wire.codec import DocumentCodec
from sublet.wire.note import read_checkpoint
from tests.fakes.log_memory import FakeLog
from tests.fakes.world import HandClock, World, move, submit


@dataclass
class TamperedLog:
    """What an auditor is shown. Each test changes its own copy."""

    rows: list[Row]
    notes: list[tuple[int, bytes]]
    snapshots: list[Snapshot] = field(default_factory=list)

    def read(self, *, first: int, limit: int) -> list[Row]:
        return [row for row in self.rows if row.index >= first][:limit]

    def size(self) -> int:
        return len(self.rows)

    def read_checkpoints(self, *, first: int, limit: int) -> list[tuple[int, bytes]]:
        return [pair for pair in self.notes if pair[0] >= first][:limit]

    def find_snapshot(self, *, size_max: int | None = None) -> Snapshot | None:
        return self.snapshots[-1] if self.snapshots else None

    def copy(self) -> "TamperedLog":
        return TamperedLog(self.rows[:], self.notes[:], self.snapshots[:])

    def put(self, number: int, body: bytes) -> None:
        """Replace an entry as somebody would who also mends its leaf."""
        row = self.rows[number]
        self.rows[number] = Row(row.index, row.id, body, leaf_hash(body))

    def renumber(self) -> None:
        self.rows = [
            msgspec.structs.replace(row, index=number)
            for number, row in enumerate(self.rows)
        ]

    def sign_again(self, world: World) -> None:
        """Rebuild the tree and sign all checkpoints anew: a dishonest operator."""
        sizes, tree, codec = (
            {size for size, _ in self.notes},
            Frontier(),
            world.make_codec(),
        )
        self.notes = []
        for row in self.rows:
            tree.append(row.leaf)
            if tree.size in sizes:
                note = codec.sign_note(size=tree.size, root=tree.root())
                self.notes.append((tree.size, note))

    def audit(self, **options: Any) -> Verdict:
        return verify(
            self, DocumentCodec(), HandClock(), read_note=read_checkpoint, **options
        )


def make_row(number: int, entry: Entry) -> Row:
    body = DocumentCodec().write_entry(entry)
    return Row(number, entry.fact.id, body, leaf_hash(body))


async def build_log(world: World) -> TamperedLog:
    """Play a market: leases that end well, badly and not at all; batches; two Seals."""
    log = FakeLog()
    service = world.make_service(log, seal_every=20)
    await service.open()
    await world.set_up(service, gpus=2)
    await world.play_lease(service)
    await _play_misfortunes(world, service)
    await world.play_lease(service)
    await service.close()
    return TamperedLog(
        log.read(first=0, limit=10_000),
        log.read_checkpoints(first=0, limit=10_000),
        [snapshot for snapshot in [log.find_snapshot()] if snapshot],
    )


async def _play_misfortunes(world: World, service: MarketService) -> None:
    late = await move(service, world.order(gpus=1))
    world.clock.at_s = late.deadline_s
    await service.tick()
    # One commit for several documents, one of them void: two GPUs a machine.
    await service.submit([world.order(gpus=1) for _ in range(7)])
    running = await move(service, world.order())
    await submit(service, world.terms(running))
    await submit(service, world.delivery(running), world.start(running))


def entries_of(log: TamperedLog) -> Iterable[Entry]:
    codec = DocumentCodec()
    return [codec.read_entry(row.body) for row in log.rows]


def change_time(entry: Entry, *, by_s: int) -> Entry:
    fact = entry.fact
    moved = Fact(fact.at_s + by_s, fact.id, fact.signer, fact.document)
    return Entry(moved, entry.signature)
