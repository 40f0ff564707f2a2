"""A maker's quote as it travels: what is read, and what is taken from whom."""

from typing import Any

import msgspec
import pytest

from sublet.base.errors import PeerFault
from sublet.wire.exchange import (
    QuoteWish,
    SignedQuote,
    TokenQuote,
    check_quote,
    sign_quote,
)
from sublet.wire.signature import Key

MAKER, THIEF = Key.generate(b"\x07" * 32), Key.generate(b"\x66" * 32)
PAYER, TOKEN = "0x" + "aa" * 20, "0x" + "cc" * 20
CHANNEL = "0x" + "1d" * 32
PLACE: dict[str, Any] = {"chain_id": 31_337, "converter": "0x" + "c0" * 20}
ASKED: dict[str, Any] = {
    "payer": PAYER,
    "channel_id": CHANNEL,
    "token": TOKEN,
    "units": 12 * 10**18,  # more than a number of JSON holds everywhere
    **PLACE,
}
QUOTE = TokenQuote(
    maker=MAKER.address,
    payer=PAYER,
    channel_id=CHANNEL,
    token=TOKEN,
    units=str(12 * 10**18),
    dollars=24_000_000,
    deadline_s=1_790_000_060,
    salt="0x" + "5a" * 32,
)
SAID = sign_quote(QUOTE, key=MAKER, **PLACE)


def test_takes_what_was_asked_for() -> None:
    read = msgspec.json.decode(msgspec.json.encode(SAID), type=SignedQuote)
    assert read == SAID
    check_quote(read, **ASKED)


@pytest.mark.parametrize(
    "change",
    [
        {"payer": MAKER.address},
        {"channel_id": "0x" + "2d" * 32},
        {"token": "0x" + "dd" * 20},
        {"units": 12},
        {"chain_id": 1},
        {"converter": "0x" + "c1" * 20},
    ],
    ids=str,
)
def test_refuses_a_quote_for_something_else(change: dict[str, Any]) -> None:
    with pytest.raises(PeerFault) as caught:
        check_quote(SAID, **{**ASKED, **change})
    assert caught.value.code == "bad_quote"


def test_refuses_a_quote_that_another_signed() -> None:
    said = sign_quote(QUOTE, key=THIEF, **PLACE)
    with pytest.raises(PeerFault, match=THIEF.address):
        check_quote(said, **ASKED)


@pytest.mark.parametrize("units", ["0", "-1", "1.5", "", "01", "9" * 39, "1e3", "١"])
def test_refuses_amounts_that_are_none(units: str) -> None:
    body = {"provider": PAYER, "token": TOKEN, "units": units}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, QuoteWish)
