"""What Pyth answers, and what a liar in its place would."""

from pathlib import Path

import pytest

from sublet.adapter.feed_pyth import parse_answer
from sublet.base.errors import PeerFault

DATA = Path(__file__).parents[2] / "data/prices"
NEAR = "c415de8d2eba7db216527dff4b60e8f3a5311c740dadb233e13e12547e226750"
WANTED = {NEAR: "NEAR"}


def write(
    price: str = '"5"', conf: str = '"0"', expo: str = "-8", at: str = "9"
) -> str:
    return (
        f'{{"parsed":[{{"id":"{NEAR}","price":{{"price":{price},"conf":{conf},'
        f'"expo":{expo},"publish_time":{at}}}}}]}}'
    )


def test_reads_what_was_recorded() -> None:
    raw = (DATA / "pyth_near_2026-07-27.json").read_bytes()
    (reading,) = parse_answer(raw, WANTED)
    assert (reading.token, reading.price_e8) == ("NEAR", 183_487_211)
    assert (reading.confidence_e8, reading.published_at_s) == (211_694, 1_785_143_368)


SCALES = [
    # price, width and exponent as Pyth writes them: price and width in 10^-8 dollars
    ("36712345", "15", -5, 36_712_345_000, 15_000),
    ("18348721199", "1", -10, 183_487_211, 1),  # price down, width up
    ("2", "0", 0, 200_000_000, 0),
]


@pytest.mark.parametrize(("price", "conf", "expo", "price_e8", "conf_e8"), SCALES)
def test_scales_by_each_feeds_exponent(
    price: str, conf: str, expo: int, price_e8: int, conf_e8: int
) -> None:
    raw = write(f'"{price}"', f'"{conf}"', str(expo)).encode()
    (reading,) = parse_answer(raw, WANTED)
    assert (reading.price_e8, reading.confidence_e8) == (price_e8, conf_e8)


HOSTILE = [
    "",
    "[]",
    "[" * 100_000,
    '{"parsed":' * 20_000,
    '{"parsed":null}',
    '{"parsed":[{}]}',
    write(price="5"),  # a number, where text is promised
    write(price="NaN"),
    write(price='"NaN"'),
    write(price='"1e5"'),
    write(price='"٥"'),
    write(price='" 5"'),
    write(price='"-5"'),
    write(price='"0"'),
    write(price=f'"{"9" * 31}"'),
    write(price=f'"{"9" * 100_000}"'),
    write(conf='"-1"'),
    write(conf='""'),
    write(expo="-8.5"),
    write(expo="-1000000000"),
    write(expo="1000000000"),
    write(expo="12"),  # five trillion dollars
    write(at="-1"),
    write(at="99999999999999999"),
    write(at='"9"'),
    write().replace(NEAR, "0x" + NEAR),
    write().replace(NEAR, "0a" * 32),  # nobody asked for that
    write()[:-2] + "," + write()[11:],  # twice
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_refuses_what_is_no_price(text: str) -> None:
    with pytest.raises(PeerFault):
        parse_answer(text.encode(), WANTED)
