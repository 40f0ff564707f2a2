"""What Chainlink's contracts return, and what a liar in their place would."""

import pytest

from sublet.adapter.feed_chainlink import (
    DECIMALS,
    DESCRIPTION,
    LATEST_ROUND_DATA,
    Aggregator,
    ChainlinkFeed,
    parse_round,
    parse_text,
    parse_word,
)
from sublet.base.errors import PeerFault, SubletError
from sublet.core.pricing.reading import sift
from tests.rig.price_server import Aggregators, pack_text, pack_words

NOW_S = 1_785_143_400
PLACE, UPTIME = "0x" + "11" * 20, "0x" + "22" * 20


def make(chain: Aggregators, *, sequencer: str = "") -> ChainlinkFeed:
    aggregator = Aggregator(address=PLACE, heartbeat_s=3_600, pair="RENDER / USD")
    return ChainlinkFeed(
        chain.call, aggregators={"RENDER": aggregator}, sequencer=sequencer
    )


def make_chain(*, decimals: int = 8, answer: int = 5) -> Aggregators:
    chain = Aggregators()
    chain.place(PLACE, pair="RENDER / USD", decimals=decimals)
    chain.say(PLACE, answer, at_s=NOW_S - 100)
    return chain


@pytest.mark.parametrize(
    ("decimals", "answer", "price_e8"),
    [
        (8, 183, 183),
        (18, 2 * 10**18 + 5, 2 * 10**8),
        (2, 150, 150_000_000),
        (0, 3, 3 * 10**8),
    ],
)
async def test_scales_by_the_contracts_decimals(
    decimals: int, answer: int, price_e8: int
) -> None:
    chain = make_chain(decimals=decimals, answer=answer)
    (reading,) = await make(chain).read(["RENDER"], at_s=NOW_S)
    assert reading.price_e8 == price_e8


async def test_is_fresh_for_its_heartbeat_and_a_minute() -> None:
    chain = make_chain()
    readings = await make(chain).read(["RENDER"], at_s=NOW_S)
    said_s = readings[0].published_at_s
    assert len(sift(readings, at_s=said_s + 3_660)[0]) == 1
    assert [x.why for x in sift(readings, at_s=said_s + 3_661)[1]] == ["stale"]


async def test_asks_a_contract_once_what_it_is() -> None:
    chain = make_chain()
    feed = make(chain)
    await feed.read(["RENDER"], at_s=NOW_S)
    await feed.read(["RENDER"], at_s=NOW_S)
    assert [data for _, data in chain.calls].count(DESCRIPTION) == 1
    assert [data for _, data in chain.calls].count(LATEST_ROUND_DATA) == 2


UPTIMES = [
    # what the sequencer's feed says (0: up), since when: whether prices are read
    (0, NOW_S - 3_601, True),
    (0, NOW_S - 3_600, False),  # it has only just come back
    (1, NOW_S - 9_000, False),
    (0, 0, False),  # it never said anything
]


@pytest.mark.parametrize(("answer", "since_s", "is_read"), UPTIMES)
async def test_waits_for_the_sequencer(
    answer: int, since_s: int, is_read: bool
) -> None:
    chain = make_chain()
    chain.say(UPTIME, answer, at_s=NOW_S, started_at_s=since_s)
    feed = make(chain, sequencer=UPTIME)
    if is_read:
        assert len(await feed.read(["RENDER"], at_s=NOW_S)) == 1
        return
    with pytest.raises(SubletError) as caught:
        await feed.read(["RENDER"], at_s=NOW_S)
    assert caught.value.code == "feed_down"
    assert (PLACE, LATEST_ROUND_DATA) not in chain.calls


LIES = [
    # a question, and a contract's answer to it
    (LATEST_ROUND_DATA, b""),  # there is no contract
    (LATEST_ROUND_DATA, pack_words(7, 5, 1, 2)),
    (LATEST_ROUND_DATA, pack_words(7, 5, 1, 2, 7, 0)),
    (LATEST_ROUND_DATA, pack_words(7, 0, 1, 2, 7)),
    (LATEST_ROUND_DATA, pack_words(7, -5, 1, 2, 7)),
    (LATEST_ROUND_DATA, pack_words(7, 1 << 254, 1, 2, 7)),
    (LATEST_ROUND_DATA, pack_words(7, 5, 1, 0, 7)),  # never updated
    (LATEST_ROUND_DATA, pack_words(7, 5, 1, 1 << 200, 7)),
    (LATEST_ROUND_DATA, pack_words(7, 5, 1, 2, 6)),  # the answer of an earlier round
    (DECIMALS, pack_words(37)),
    (DECIMALS, pack_words(1 << 200)),
    (DECIMALS, b"\x08"),
    (DESCRIPTION, pack_text("GLM / USD")),  # another token's
    (DESCRIPTION, pack_words(32, 1 << 200)),
    (DESCRIPTION, pack_words(32, 0)),
    (DESCRIPTION, pack_words(64, 12)),
    (DESCRIPTION, b""),
]


@pytest.mark.parametrize(("data", "answer"), LIES, ids=range(len(LIES)))
async def test_refuses_what_is_no_price(data: bytes, answer: bytes) -> None:
    chain = make_chain()
    chain.put(PLACE, data, answer)
    with pytest.raises(PeerFault):
        await make(chain).read(["RENDER"], at_s=NOW_S)


def test_reads_words_as_the_interface_says() -> None:
    data = parse_round(pack_words(18446744073709562776, -3, 10, 11, 12))
    assert (data.round_id, data.answer) == (18446744073709562776, -3)
    assert (data.started_at_s, data.updated_at_s) == (10, 11)
    assert data.answered_in_round == 12
    assert parse_word(pack_words(8)) == 8
    assert parse_text(pack_text("ETH / USD")) == "ETH / USD"
