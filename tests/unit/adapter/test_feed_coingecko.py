"""What CoinGecko answers, and what a liar in its place would."""

from pathlib import Path

import pytest

from sublet.adapter.feed_coingecko import parse_answer
from sublet.base.errors import PeerFault, Unavailable

DATA = Path(__file__).parents[2] / "data/prices"
WANTED = {"bitcoin": "BTC", "ethereum": "ETH"}


def write(usd: str = "5", at: str = "9") -> str:
    return f'{{"bitcoin":{{"usd":{usd},"last_updated_at":{at}}}}}'


def test_reads_what_was_recorded() -> None:
    raw = (DATA / "coingecko_2026-09-01.json").read_bytes()
    found = {reading.token: reading for reading in parse_answer(raw, WANTED)}
    assert found["BTC"].price_e8 == 6_321_000_000_000
    assert found["ETH"].price_e8 == 267_257_000_000
    assert found["ETH"].published_at_s == 1_788_263_940


PRICES = [
    ("0.1", 10_000_000),  # which no float holds
    ("1e-8", 1),
    ("1.5E3", 150_000_000_000),
    ("0.123456789", 12_345_678),
]


@pytest.mark.parametrize(("text", "price_e8"), PRICES)
def test_reads_decimals_digit_by_digit(text: str, price_e8: int) -> None:
    assert parse_answer(write(text).encode(), WANTED)[0].price_e8 == price_e8


ERRORS = [
    # an answer instead of prices: the code that it comes to
    ('{"error":"Could not find coin"}', "feed_down"),
    ('{"status":{"error_code":10002,"error_message":"key missing"}}', "feed_down"),
    ('{"error":{"status":{"error_code":429}}}', "feed_busy"),
    ('{"status":{"error_code":429,"error_message":"slow down"}}', "feed_busy"),
    ('{"error":{"status":[]}}', "feed_down"),
    ('{"error":null}', "feed_down"),
]


@pytest.mark.parametrize(("text", "code"), ERRORS)
def test_tells_an_error_in_each_of_its_shapes(text: str, code: str) -> None:
    with pytest.raises(Unavailable) as caught:
        parse_answer(text.encode(), WANTED)
    assert caught.value.code == code


HOSTILE = [
    "",
    "[]",
    "[" * 100_000,
    '{"bitcoin":' * 20_000,
    '{"bitcoin":5}',
    '{"bitcoin":{}}',
    write(usd="NaN"),
    write(usd="Infinity"),
    write(usd='"5"'),
    write(usd="true"),
    write(usd="null"),
    write(usd="0"),
    write(usd="-5"),
    write(usd="1e999999999"),
    write(usd="1e-999999999"),
    write(usd="1" * 100_000),
    write(usd="0." + "1" * 100_000),
    write(usd="1e10"),  # ten billion dollars
    write(at="9.5"),
    write(at="true"),
    write(at="-1"),
    write(at="1" * 40),
    write().replace("bitcoin", "dogecoin"),
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_refuses_what_is_no_price(text: str) -> None:
    with pytest.raises(PeerFault):
        parse_answer(text.encode(), WANTED)
