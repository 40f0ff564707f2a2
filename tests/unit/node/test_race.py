"""The first to end ends them all."""

import asyncio

import pytest

from sublet.node.race import race


async def test_others_are_stopped_and_awaited() -> None:
    tidied: list[str] = []

    async def last() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidied.append("last")

    async def first() -> None:
        await asyncio.sleep(0)

    await race(last(), first())
    assert tidied == ["last"]


async def test_failure_of_first_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("first")

    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(ValueError, match="first"):
        await race(wait(), fail())


async def test_cancelling_stops_all() -> None:
    stopped: list[int] = []

    async def wait(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(number)

    task = asyncio.ensure_future(race(wait(1), wait(2)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(stopped) == [1, 2]
