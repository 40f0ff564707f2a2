"""The outbox: in order, until answered, over restarts of either side."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from sublet.base.errors import Refused, Unavailable
from sublet.core.document import UsageRecord
from sublet.provider.journal import Journal
from sublet.provider.outbox import Outbox
from sublet.wire.message import Appended, Signed
from tests.fakes.world import World

WORLD = World()
DONE = Appended(id="0x" + "0" * 64, index=1)


def _signed(number: int) -> Signed:
    withdrawal = WORLD.seen(WORLD.providers[0])
    document = replace(withdrawal.document, salt=number)
    return Signed(v=1, document=document, signature="0x" + "0" * 130)


def _usage(lease: int, ran_ms: int) -> Signed:
    record = UsageRecord(
        lease_id=f"0x{lease:064x}",
        sequence=0,
        ran_ms=ran_ms,
        cpu_ms=0,
        memory_bytes_max=0,
        signed_at_s=0,
        salt=ran_ms,
    )
    return Signed(v=1, document=record, signature="0x" + "0" * 130)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


class _Market:
    """Answers, stays away, or refuses whole requests, as told."""

    def __init__(self) -> None:
        self.got: list[Signed] = []
        self.away = 0
        self.refuses: Callable[[Signed], bool] = lambda _: False

    async def submit(self, documents: tuple[Signed, ...]) -> tuple[Appended, ...]:
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise Unavailable("nobody answers")
        if any(self.refuses(each) for each in documents):
            raise Refused("a bad request", code="spoilt")
        self.got += documents
        return tuple(DONE for _ in documents)


@asynccontextmanager
async def _running(
    folder: Path, market: _Market
) -> AsyncIterator[tuple[Outbox, list[tuple[Signed, Appended]]]]:
    heard: list[tuple[Signed, Appended]] = []
    outbox = Outbox(
        folder,
        submit=market.submit,
        heard=lambda signed, answer: heard.append((signed, answer)),
        journal=Journal(),
    )
    outbox.load()
    task = asyncio.create_task(outbox.run())
    try:
        yield outbox, heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_keeps_the_order(tmp_path: Path) -> None:
    market, documents = _Market(), [_signed(number) for number in range(300)]
    async with _running(tmp_path, market) as (outbox, heard):
        for document in documents:
            outbox.put(document)
        assert await outbox.wait_drained(timeout_s=5)
    assert market.got == documents
    assert [signed for signed, _ in heard] == documents
    assert _names(tmp_path) == []


async def test_waits_for_the_market(tmp_path: Path) -> None:
    market = _Market()
    market.away = 2
    async with _running(tmp_path, market) as (outbox, _):
        outbox.put(_signed(1))
        assert await outbox.wait_drained(timeout_s=5)
    assert len(market.got) == 1


async def test_survives_its_agent(tmp_path: Path) -> None:
    gone, market = _Market(), _Market()
    gone.away = 1_000_000
    async with _running(tmp_path, gone) as (outbox, _):
        outbox.put(_signed(1))
        outbox.put(_signed(2))
        assert not await outbox.wait_drained(timeout_s=0.05)
    (tmp_path / "000000000009.json").write_bytes(b"half writ")  # from a full disk
    async with _running(tmp_path, market) as (outbox, _):
        outbox.put(_signed(3))
        assert await outbox.wait_drained(timeout_s=5)
    assert market.got == [_signed(1), _signed(2), _signed(3)]


async def test_finds_what_spoils_a_request(tmp_path: Path) -> None:
    market = _Market()
    market.refuses = lambda signed: signed == _signed(2)
    async with _running(tmp_path, market) as (outbox, heard):
        for number in range(1, 5):
            outbox.put(_signed(number))
        assert await outbox.wait_drained(timeout_s=5)
    assert market.got == [_signed(1), _signed(3), _signed(4)]
    (fault,) = [answer.fault for _, answer in heard if answer.fault]
    assert fault is not None
    assert fault.code == "spoilt"


async def test_sends_only_newest_usage(tmp_path: Path) -> None:
    market = _Market()
    outbox = Outbox(
        tmp_path, submit=market.submit, heard=lambda *_: None, journal=Journal()
    )
    outbox.load()
    for signed in (_usage(1, 10), _usage(2, 10), _signed(1), _usage(1, 20)):
        outbox.put(signed)
    assert outbox.size() == 3
    task = asyncio.create_task(outbox.run())
    assert await outbox.wait_drained(timeout_s=5)
    task.cancel()
    assert market.got == [_usage(2, 10), _signed(1), _usage(1, 20)]
