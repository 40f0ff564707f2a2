"""What price feeds answer, what a price file says, what x402 clients send."""

import base64
import json
from pathlib import Path

from sublet.adapter import feed_coingecko, feed_pyth
from sublet.adapter.feed_chainlink import parse_round, parse_text
from sublet.adapter.price_settings import read_price_settings
from sublet.base.limits import AMOUNT_MAX
from sublet.core.pricing.reading import PRICE_E8_MAX, Reading
from sublet.wire import x402
from tests.fuzz.target import target
from tests.fuzz.text_targets import _HOME
from tests.rig.price_server import pack_text, pack_words
from tests.style.tree import ROOT
from tests.unit.adapter.test_feed_pyth import NEAR
from tests.unit.wire.test_x402 import TERMS, add_deposit, write

_ANSWERS = ROOT / "tests/data/prices"
_NUMBERS = ["1e9", "-1", "NaN", "null", '"', "0.1"]


def _check(readings: list[Reading]) -> None:
    for reading in readings:
        assert 0 < reading.price_e8 <= PRICE_E8_MAX
        assert 0 <= reading.confidence_e8 <= PRICE_E8_MAX


@target(
    "pyth",
    seeds=[(_ANSWERS / "pyth_near_2026-07-27.json").read_bytes()],
    words=[*_NUMBERS, '"expo":', '"parsed":'],
)
def _pyth(raw: bytes) -> None:
    _check(feed_pyth.parse_answer(raw, {NEAR: "NEAR"}))


@target(
    "coingecko",
    seeds=[(_ANSWERS / "coingecko_2026-09-01.json").read_bytes()],
    words=[*_NUMBERS, '"error":', '"status":', '"usd":'],
)
def _coingecko(raw: bytes) -> None:
    wanted = {"bitcoin": "BTC", "ethereum": "ETH"}
    _check(feed_coingecko.parse_answer(raw, wanted))


@target("chainlink_round", seeds=[pack_words(7, 5, 1, 2, 7)])
def _round(raw: bytes) -> None:
    assert parse_round(raw).round_id >= 0


@target("chainlink_text", seeds=[pack_text("ETH / USD")])
def _text(raw: bytes) -> None:
    assert len(parse_text(raw)) <= 64


@target(
    "prices_toml",
    seeds=[(ROOT / "examples/prices/feeds.toml").read_bytes()],
    words=["[tokens.A]\n", "decimals = ", "every = ", "[pyth]\n", "url = "],
)
def _settings(raw: bytes) -> None:
    place = Path(_HOME / "prices.toml")
    place.write_bytes(raw)
    assert read_price_settings(place).every_s > 0


@target(
    "x402_payment",
    seeds=[json.dumps(write(100)), json.dumps(add_deposit(write(100)))],
    words=['"type":', '"deposit"', '"x402Version":', '"0x', '"salt":'],
)
def _payment(raw: bytes) -> None:
    payment = x402.read_payment(base64.b64encode(raw).decode(), TERMS)
    assert 0 <= payment.voucher.max_claimable_amount <= AMOUNT_MAX
    if payment.deposit is not None:
        assert payment.deposit.encode()
        assert payment.name_deposit()
    x402.check_voucher(payment, TERMS)
