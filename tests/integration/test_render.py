"""A scene is rendered by several providers, who check each other; on a real node.

The renderer is the toy one, with the contract of Blender's: its pictures are computed
in the tasks, by real programs.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sublet.adapter.exr_file import read_picture
from sublet.base.errors import Refused
from sublet.core.render.look import DONE
from sublet.core.render.picture import Picture
from sublet.workload.render.render import (
    RenderResult,
    RunningRender,
    prepare_render,
)
from sublet.workload.render.wish import RenderWish
from tests.fakes.provider import FakeProvider, Temper
from tests.integration.provider_house import wait_settled, wait_true
from tests.integration.tenant_house import Market, running_market

RENDER_S = 90
OTHER_SEED = ("engine_toy.py", b'recipe["seed"]]', b'recipe["seed"] + 1]')


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Market]:
    async with running_market(tmp_path) as house:
        yield house


def write_scene(market: Market, **settings: Any) -> str:
    place = market.folder / "scene.json"
    place.write_text(json.dumps({"colour": [0.9, 0.4, 0.1], **settings}))
    return str(place)


async def provide(market: Market, **temper: Any) -> FakeProvider:
    price = 900_000 + 1_000 * len(market.providers)
    return await market.provide(Temper(**{"first_price": price, **temper}))


async def start(
    market: Market, output: str, *, parallel: int = 3, **asked: Any
) -> RunningRender:
    """Begin a render of 64 by 36 pixels; each machine takes one worker."""

    async def tell(text: str) -> None:
        pass

    async def show(said: object) -> None:
        pass

    asked.setdefault("scene", str(market.folder / "scene.json"))
    asked.setdefault("frames", "1-6")
    wish = RenderWish(output=str(market.folder / output), **asked)
    options = {"max_total": "5.00", "wait": "5s", "parallel": parallel, "cpus": "3"}
    job = await prepare_render(market.client, wish, options=options, tell=tell)
    return await job.start(show=show)


async def render(market: Market, output: str, **asked: Any) -> RenderResult:
    async with asyncio.timeout(RENDER_S):
        return await (await start(market, output, **asked)).result()


def read_frames(market: Market, output: str, count: int) -> list[Picture]:
    places = sorted((market.folder / output / "frames").glob("*.exr"))
    assert len(places) == count
    return [read_picture(place, width=64, height=36) for place in places]


async def test_many_machines_make_the_picture_of_one(market: Market) -> None:
    write_scene(market)
    await provide(market)
    alone = await render(market, "alone", check="none", frames="1-2")
    assert alone.outcome == "done", alone
    await provide(market)
    await provide(market)
    found = await render(market, "many", frames="1-2", tiles="3x2")
    assert (found.outcome, found.units) == ("done", 12), found
    assert found.units_checked >= 2  # the first of each provider that worked
    for one, many in zip(
        read_frames(market, "alone", 2), read_frames(market, "many", 2), strict=True
    ):
        assert np.array_equal(one, many)
    leases = await wait_settled(market.client)
    assert found.cost + alone.cost == sum(lease.paid for lease in leases) > 0


async def test_liar_is_caught_and_its_frames_are_rendered_again(market: Market) -> None:
    write_scene(market, sample_s=0.005)
    honest = [await provide(market) for _ in range(2)]
    alone = await render(market, "alone", check="none")
    # The cheapest: it is rented first.
    liar = await provide(market, first_price=700_000, alters=OTHER_SEED)
    found = await render(market, "checked")
    assert found.outcome == "done", found
    assert found.dismissed.keys() == {liar.key.address}, found
    assert alone.outcome == "done"
    for one, other in zip(
        read_frames(market, "alone", 6), read_frames(market, "checked", 6), strict=True
    ):
        assert np.array_equal(one, other)
    assert {one.key.address for one in honest}.isdisjoint(found.dismissed)
    await wait_settled(market.client)


async def test_nobody_else_can_check(market: Market) -> None:
    write_scene(market)
    await provide(market)
    found = await render(market, "one", frames="1-2")
    assert (found.outcome, found.units_checked) == ("done", 0), found


async def test_goes_on_where_it_was_stopped(market: Market) -> None:
    write_scene(market, sample_s=0.02)
    for _ in range(2):
        await provide(market)
    running = await start(market, "out", frames="1-8")
    ending = asyncio.create_task(running.result())
    frames = market.folder / "out" / "frames"
    await wait_true(lambda: len(list(frames.glob("*.exr"))) >= 2)
    running.stop()
    first = await ending
    assert first.outcome == "stopped", first
    kept = {one.name: one.stat().st_mtime_ns for one in frames.glob("*.exr")}
    again = await start(market, "out", frames="1-8")
    second = await again.result()
    assert (second.outcome, second.frames_done) == ("done", 8), second
    assert all(frame.state == DONE for frame in again.look().frames)
    results = market.folder / "out" / ".work" / "map" / "results.jsonl"
    names = [json.loads(line)["id"] for line in results.read_bytes().splitlines()]
    assert len(set(names)) == len(names)  # nothing was rendered twice
    assert kept
    await wait_settled(market.client)


async def test_folder_of_another_render_is_refused(market: Market) -> None:
    write_scene(market)
    await provide(market)
    await render(market, "out", frames="1", check="none")
    for other in ({"samples": 4}, {"frames": "1-2"}, {"tiles": "2x1"}):
        with pytest.raises(Refused, match="holds another render"):
            await start(market, "out", **{"frames": "1", **other})
    kept = market.folder / "out" / ".work" / "job"
    assert kept.stat().st_mode & 0o077 == 0  # whoever knows the salt knows the probes
    kept.write_text("{")
    with pytest.raises(Refused, match="holds something"):
        await start(market, "out", frames="1")


async def test_goes_on_with_the_units_that_were_chosen_first(market: Market) -> None:
    """The pace is measured anew each time, and may have other units chosen."""
    write_scene(market)
    await provide(market)
    running = await start(market, "out", frames="1", check="none")
    chosen = running.job.plan.units
    running.stop()
    await running.result()
    again = await start(market, "out", frames="1", check="none", parallel=1)
    assert again.job.plan.units == chosen
    assert len(chosen) > 1
    assert (await again.result()).outcome == "done"
