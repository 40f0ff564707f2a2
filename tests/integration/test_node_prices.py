"""Prices over HTTP and in a terminal: what a real node says of what happened on it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sublet.core.lease.phase import Lease
from sublet.core.outlook import Outlook
from sublet.core.pricing.catalogue import COLUMNS
from sublet.wire.codec import decode, encode
from sublet.wire.prices import PriceDepth, PriceHistory, PriceRow, Prices
from tests.fakes.world import World
from tests.integration.node_house import (
    ANSWER_MAX,
    Guest,
    fault_code,
    running_node,
    stock,
)
from tests.integration.shell_house import Shell

# A whole machine: 8 CPUs at $0.02, 32 GiB at $0.002, and two GPUs at $0.40 or more.
WHOLE = 8 * 20_000 + 32 * 2_000
# Of it, the slice that ``World.order`` wants: one CPU, one GiB, one GPU; the second
# provider asks $0.41 for a GPU and sets the price.
PAID = 20_000 + 2_000 + 410_000
# Nobody answers the links' pings here, and a command takes its time.
PATIENT = {"lost_after_s": 600, "gone_after_s": 600}


@pytest.fixture
async def guest(tmp_path: Path) -> AsyncIterator[Guest]:
    async with running_node(tmp_path / "node", World(), limits=PATIENT) as guest:
        yield guest


async def let_one(guest: Guest, *, gpus: int) -> Lease:
    """Bring an order to where its job runs."""
    world = guest.world
    (result,) = await guest.accept(world.order(gpus=gpus))
    assert result.lease is not None
    lease = result.lease
    for said in (world.terms, world.delivery, world.start):
        (result,) = await guest.accept(said(lease))
    assert result.lease is not None
    return result.lease


async def read(guest: Guest, path: str, kind: Any) -> Any:
    status, body = await guest.get(path)
    assert status == 200, body
    return decode(body, kind, size_max=ANSWER_MAX)


async def read_row(guest: Guest, query: str) -> PriceRow:
    (row,) = (await read(guest, f"/v1/prices?{query}", Prices)).rows
    return row


async def test_empty_market_has_no_prices(guest: Guest) -> None:
    found = await read(guest, "/v1/prices", Prices)
    assert (found.total, found.rows, found.size) == (0, (), 1)
    assert (await read(guest, "/v1/prices/depth", PriceDepth)).kinds == ()
    assert (await read(guest, "/v1/prices/history", PriceHistory)).kinds == ()


async def test_tells_what_is_asked_and_paid(guest: Guest) -> None:
    await stock(guest, gpus=2)
    lease = await let_one(guest, gpus=1)
    row = await read_row(guest, "model=h200&region=DE")
    assert (row.machines, row.units_milli, row.units_milli_free) == (3, 6_000, 5_000)
    assert row.ask == row.ask_p10 == WHOLE // 2 + 400_000
    assert row.ask_p90 == WHOLE // 2 + 420_000
    assert (row.last, row.last_at_s, row.deals) == (PAID, lease.started_at_s, 1)
    assert row.p10 == row.median == row.p90 == PAID
    every = await read_row(guest, "model=h200&region=*")
    assert every.units_milli == row.units_milli
    assert (await read(guest, "/v1/prices?region=US", Prices)).total == 0


async def test_depth_lists_prices_and_what_is_free(guest: Guest) -> None:
    await stock(guest, gpus=2)
    await let_one(guest, gpus=1)
    path = "/v1/prices/depth?model=h200&region=DE"
    (kind,) = (await read(guest, path, PriceDepth)).kinds
    assert [(row.price, row.units_milli_free) for row in kind.rows] == [
        (WHOLE // 2 + 400_000, 1_000),
        (WHOLE // 2 + 410_000, 2_000),
        (WHOLE // 2 + 420_000, 2_000),
    ]
    (kind,) = (await read(guest, f"{path}&levels=1", PriceDepth)).kinds
    assert (kind.levels, len(kind.rows)) == (3, 1)


async def test_pages_and_cache_are_named(guest: Guest) -> None:
    await stock(guest)
    async with guest.http.get(guest.url + "/v1/prices?limit=1") as answer:
        assert answer.headers["Cache-Control"] == "public, max-age=5"
        first = decode(await answer.read(), Prices, size_max=ANSWER_MAX)
    second = await read(guest, "/v1/prices?limit=1&first=1", Prices)
    assert (first.total, len(first.rows), len(second.rows)) == (2, 1, 1)
    assert {first.rows[0].region, second.rows[0].region} == {"*", "DE"}
    assert (await read(guest, "/v1/prices?first=2", Prices)).rows == ()


@pytest.mark.parametrize("query", ["first=-1", "limit=x", "model=" + "x" * 129])
async def test_bad_query_is_named(guest: Guest, query: str) -> None:
    status, body = await guest.get(f"/v1/prices?{query}")
    assert (status, fault_code(body)) == (400, "bad_query")


async def test_history_survives_restart(tmp_path: Path) -> None:
    world = World()
    path = "/v1/prices/history?model=&region=DE"
    async with running_node(tmp_path / "node", world) as guest:
        await stock(guest)
        await let_one(guest, gpus=0)
        before = await read(guest, path, PriceHistory)
        assert [row.deals for row in before.kinds[0].rows] == [1]
    async with running_node(tmp_path / "node", world) as guest:
        after = await read(guest, path, PriceHistory)
        # Both the sealed snapshot and a replay from the start have it.
        assert after.kinds == before.kinds


async def test_command_shows_prices(guest: Guest, tmp_path: Path) -> None:
    await stock(guest, gpus=2)
    await let_one(guest, gpus=1)
    shell = Shell(guest.url, tmp_path)
    code, out, err = await shell.type("prices")
    assert code == 0, err
    assert [line.split() for line in out.splitlines()] == [
        ["MODEL", "REGION", "FREE", "ASKED", "P10", "MEDIAN", "P90", "LAST", "DEALS"],
        ["h200", "DE", "5/6", "$0.5120", *["$0.4320"] * 4, "1"],
    ]
    code, out, _ = await shell.type("prices", "NVIDIA H200", "--depth", "--csv")
    assert code == 0
    assert out.splitlines()[:2] == [
        "model,region,price,machines,units_milli,units_milli_free",
        f"h200,*,{WHOLE // 2 + 400_000},1,2000,1000",
    ]
    code, out, _ = await shell.type("prices", "h200", "--history", "--json")
    assert code == 0
    assert json.loads(out)["kinds"][0]["rows"][0]["median"] == PAID


async def test_command_draws_history(guest: Guest, tmp_path: Path) -> None:
    await stock(guest, gpus=2)
    await let_one(guest, gpus=1)
    shell = Shell(guest.url, tmp_path)
    code, out, _ = await shell.type("prices", "h200", "--region", "DE", "--history")
    assert (code, "median  " in out, "█" in out) == (0, True, True)
    code, out, _ = await shell.type("prices", "cpu")
    assert (code, out) == (0, "nothing of that kind is offered, and nothing was let\n")
    code, _, err = await shell.type("prices", "--json", "--csv")
    assert (code, "one of" in err) == (2, True)


async def test_outlook_answers_an_order(guest: Guest) -> None:
    await stock(guest, gpus=1)
    order = guest.world.order(gpus=1).document
    status, body = await guest.post("/v1/outlook", encode(order))
    assert status == 200, body
    outlook = decode(body, Outlook, size_max=ANSWER_MAX)
    assert (outlook.wait_basis, outlook.wait_s) == ("free", 0)
    assert outlook.finish_s_min <= outlook.finish_s <= outlook.finish_s_max
    status, body = await guest.post("/v1/outlook", b"[]")
    assert (status, fault_code(body)) == (400, "bad_field")


async def test_quote_tells_wait_finish_and_clouds(guest: Guest, tmp_path: Path) -> None:
    world = guest.world
    world.providers = world.providers[:1]
    await stock(guest, gpus=1)
    shell = Shell(guest.url, tmp_path)
    wish = ("quote", "--gpu", "h200:1", "--timeout", "2h", "--max-total", "9")
    code, out, err = await shell.type(*wish)
    assert code == 0, err
    assert "$0.422/h on box of " in out
    assert "begins  now: a machine is free" in out
    assert "done    in " in out
    # The catalogue is older than this GPU, and nothing is made up for it.
    assert [line.split()[:2] for line in out.splitlines() if "catalogue" in line] == [
        [name, "not"] for name in ("AWS", "GCP", "Azure")
    ]
    mine = tmp_path / "mine.csv"
    row = "AWS,p5e,H200,8,192,2048,,40.00,,2026-01-01,a price list,5.00"
    mine.write_text(f"{','.join(COLUMNS)}\n{row}\n")
    code, out, err = await shell.type(*wish, "--catalogue", str(mine), "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["price_hour"] == 422_000
    assert said["outlook"]["wait_basis"] == "free"
    assert [cloud["on_demand_hour"] for cloud in said["clouds"]] == [40_000_000, -1, -1]
    code, _, err = await shell.type(*wish, "--catalogue", "no such file")
    assert (code, "cannot be read" in err) == (2, True)


async def test_quote_tells_when_a_machine_comes_free(
    guest: Guest, tmp_path: Path
) -> None:
    guest.world.providers = guest.world.providers[:1]
    await stock(guest, gpus=1)
    await let_one(guest, gpus=1)
    shell = Shell(guest.url, tmp_path)
    code, out, err = await shell.type("quote", "--gpu", "h200:1", "--max-total", "9")
    assert (code, "none of the 1 offers fits" in err) == (3, True)
    assert "1 of the open leases" in out
    code, out, _ = await shell.type("quote", "--gpu", "h200:2", "--max-total", "9")
    assert (code, "nobody can tell" in out) == (3, True)
