"""What every price feed must do: one suite for the fake and the real ones."""

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from sublet.adapter.feed_chainlink import Aggregator, ChainlinkFeed
from sublet.adapter.feed_coingecko import CoinGeckoFeed
from sublet.adapter.feed_pyth import PythFeed
from sublet.adapter.feed_recorded import RecordedFeed
from sublet.base.errors import PeerFault, Unavailable
from sublet.core.pricing.reading import Reading, Round
from sublet.service.price_port import PriceFeed, take_round
from tests.fakes.price_feed import FakeFeed
from tests.rig.price_server import Aggregators, serve_prices

NOW_S = 1_785_143_400
AGO_S = NOW_S - 20
KNOWN, OTHER = "RENDER", "GLM"
HEX = {KNOWN: "c4" * 32, OTHER: "0a" * 32}
NAMES = {KNOWN: "render-token", OTHER: "golem"}
PLACES = {KNOWN: "0x" + "c4" * 20, OTHER: "0x" + "0a" * 20}


class World(NamedTuple):
    """A feed, and how to make what it reads."""

    feed: PriceFeed
    say: Callable[[str, int, int], None]  # token, price, time
    break_down: Callable[[], None]


async def make_http_world(
    kind: str, http: aiohttp.ClientSession
) -> AsyncIterator[World]:
    async with serve_prices() as server:
        ids = HEX if kind == "pyth" else NAMES
        make = PythFeed if kind == "pyth" else CoinGeckoFeed

        def break_down() -> None:
            server.answer = aiohttp.web.Response(status=503)

        yield World(
            make(http, url=server.url, ids=ids),
            lambda token, price, at_s: server.say(ids[token], price, at_s=at_s),
            break_down,
        )


def make_chain_world() -> World:
    chain = Aggregators()
    for token, address in PLACES.items():
        chain.place(address, pair=f"{token} / USD")
        chain.say(address, 100, at_s=1)

    def break_down() -> None:
        chain.is_down = True

    feed = ChainlinkFeed(
        chain.call,
        aggregators={
            token: Aggregator(address=address, heartbeat_s=60, pair=f"{token} / USD")
            for token, address in PLACES.items()
        },
    )
    return World(
        feed,
        lambda token, price, at_s: chain.say(PLACES[token], price, at_s=at_s),
        break_down,
    )


def make_fake_world() -> World:
    fake = FakeFeed(tokens=[KNOWN, OTHER])

    def break_down() -> None:
        fake.is_down = True

    return World(
        fake, lambda token, price, at_s: fake.say(token, price, at_s=at_s), break_down
    )


@pytest_asyncio.fixture(params=["fake", "pyth", "coingecko", "chainlink"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "fake":
        yield make_fake_world()
    elif request.param == "chainlink":
        yield make_chain_world()
    else:
        async with aiohttp.ClientSession() as http:
            async for one in make_http_world(request.param, http):
                yield one


PRICES = [183_487_211, 1, 10**17, 6_321_000_000_000]


@pytest.mark.parametrize("price_e8", PRICES)
async def test_reads_a_price_to_the_last_digit(world: World, price_e8: int) -> None:
    world.say(KNOWN, price_e8, AGO_S)
    (reading,) = await world.feed.read([KNOWN], at_s=NOW_S)
    assert reading == Reading(
        source=world.feed.source,
        token=KNOWN,
        price_e8=price_e8,
        published_at_s=AGO_S,
        fresh_s=reading.fresh_s,
    )
    assert reading.fresh_s >= 60


async def test_reads_several_tokens(world: World) -> None:
    world.say(KNOWN, 5, AGO_S)
    world.say(OTHER, 7, AGO_S)
    found = await world.feed.read([KNOWN, OTHER], at_s=NOW_S)
    assert {x.token: x.price_e8 for x in found} == {KNOWN: 5, OTHER: 7}
    assert await world.feed.read([], at_s=NOW_S) in ([], ())
    assert await world.feed.read(["nobody's"], at_s=NOW_S) in ([], ())


async def test_says_when_it_is_down(world: World) -> None:
    world.say(KNOWN, 5, AGO_S)
    world.break_down()
    with pytest.raises(Unavailable):
        await world.feed.read([KNOWN], at_s=NOW_S)
    taken = await take_round([world.feed], [KNOWN], at_s=NOW_S)
    assert [fault.source for fault in taken.faults] == [world.feed.source]
    assert taken.readings == ()


@pytest.mark.parametrize("price_e8", [0, -1, 10**18, 10**30])
async def test_refuses_a_price_that_cannot_be(world: World, price_e8: int) -> None:
    world.say(KNOWN, price_e8, AGO_S)
    with pytest.raises(PeerFault):
        await world.feed.read([KNOWN], at_s=NOW_S)


async def test_a_feed_that_is_down_costs_no_other_feed(world: World) -> None:
    world.break_down()
    other = FakeFeed("other", tokens=[KNOWN])
    other.say(KNOWN, 5, at_s=NOW_S)
    taken = await take_round([world.feed, other], [KNOWN, "?"], at_s=NOW_S)
    assert [reading.source for reading in taken.readings] == ["other"]
    assert [fault.token for fault in taken.faults] == [KNOWN]


async def test_a_recording_says_again_what_was_said() -> None:
    fake = FakeFeed("pyth", tokens=[KNOWN])
    rounds = []
    for minute in range(3):
        fake.say(KNOWN, 100 + minute, at_s=NOW_S + 60 * minute)
        rounds.append(await take_round([fake], [KNOWN], at_s=NOW_S + 60 * minute))
    feed: PriceFeed = RecordedFeed(rounds)
    assert feed.tokens == (KNOWN,)
    assert await feed.read([KNOWN], at_s=NOW_S - 1) == ()
    assert await feed.read([KNOWN], at_s=NOW_S + 119) == list(rounds[1].readings)
    assert await feed.read([OTHER], at_s=NOW_S + 119) == []
    assert await take_round([feed], [KNOWN], at_s=NOW_S + 120) == rounds[2]
    assert RecordedFeed([Round(at_s=1)]).tokens == ()
