"""Which watch is the market's dollar's, and what a home without sources says."""

import shutil
from pathlib import Path

import pytest

from sublet.adapter.price_settings import read_price_settings
from sublet.adapter.price_watch import (
    check_dollar,
    find_dollar,
    fold_rounds,
    watch_now,
)
from sublet.base.errors import Refused
from tests.style.tree import ROOT

MARKETS, OTHER = "0x" + "aB" * 20, "0x" + "cd" * 20
TOKEN = '[tokens.{name}]\ndecimals = 6\ndollar = {dollar}\naddress = "{address}"\n'


def dollar_of(place: Path, *tokens: tuple[str, str, str]) -> str | None:
    """Write tokens of (name, dollar, address); name the one that is the market's."""
    place.write_text(
        "".join(TOKEN.format(name=n, dollar=d, address=a) for n, d, a in tokens)
    )
    settings = read_price_settings(place)
    watches = fold_rounds(settings, ())
    found = find_dollar(settings, watches, MARKETS.lower())
    return found and found.token


def test_finds_the_dollar_by_its_address(tmp_path: Path) -> None:
    place = tmp_path / "prices.toml"
    usdc, dai = ("USDC", "true", MARKETS), ("DAI", "true", OTHER)
    assert dollar_of(place, usdc, dai) == "USDC"
    assert dollar_of(place, dai) is None
    assert dollar_of(place, ("X", "false", MARKETS)) is None
    # Without an address it has to be the only one.
    assert dollar_of(place, dai, ("USDC", "true", "")) == "USDC"
    assert dollar_of(place, ("USDC", "true", ""), ("USDT", "true", "")) is None


async def test_asks_nothing_where_there_are_no_sources(tmp_path: Path) -> None:
    assert await watch_now(tmp_path) is None
    await check_dollar(tmp_path, MARKETS.lower())
    with pytest.raises(Refused):  # but a file that is named has to be there
        await watch_now(tmp_path, tmp_path / "other.toml")


async def test_takes_a_recording_as_of_now(tmp_path: Path) -> None:
    for name in ("feeds.toml", "synthetic.jsonl"):
        shutil.copy(ROOT / "examples/prices" / name, tmp_path)
    (tmp_path / "feeds.toml").rename(tmp_path / "prices.toml")
    seen = await watch_now(tmp_path)
    assert seen is not None
    # It was recorded long ago: nobody has looked lately.
    assert seen.watches["RENDER"].judged_at_s < seen.at_s - 300
    await check_dollar(tmp_path, MARKETS.lower())
    assert not (tmp_path / "prices.jsonl").exists()
