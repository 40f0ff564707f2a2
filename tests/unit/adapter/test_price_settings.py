"""What may stand in prices.toml, and what comes of it."""

from pathlib import Path

import aiohttp
import pytest

from sublet.adapter.price_settings import compose_feeds, read_price_settings
from sublet.base.errors import Refused
from tests.style.tree import ROOT

TOKEN = '[tokens.RENDER]\ndecimals = 18\npyth = "' + "ab" * 32 + '"\n'
PYTH = '[pyth]\nurl = "https://pyth.example.org/hermes/"\nkey_file = "key"\n'


def write(folder: Path, text: str) -> Path:
    (folder / "key").write_text("k3y\n")
    place = folder / "prices.toml"
    place.write_text(text)
    return place


async def test_makes_the_feeds_that_are_named(tmp_path: Path) -> None:
    settings = read_price_settings(write(tmp_path, 'every = "30s"\n' + TOKEN + PYTH))
    assert settings.every_s == 30
    assert settings.keys["pyth"].reveal() == "k3y"
    assert "k3y" not in repr(settings)
    async with aiohttp.ClientSession() as http:
        (feed,) = compose_feeds(settings, http, call=None)
    assert (feed.source, list(feed.tokens)) == ("pyth", ["RENDER"])


def test_reads_the_examples(tmp_path: Path) -> None:
    text = (ROOT / "examples/prices/live.toml").read_text()
    for name in ("pyth.key", "coingecko.key"):
        (tmp_path / name).write_text("k3y")
    settings = read_price_settings(write(tmp_path, text))
    assert settings.heartbeats_s == {"ETH": 1_200}
    recorded = read_price_settings(ROOT / "examples/prices/feeds.toml").recorded
    assert recorded == ROOT / "examples/prices/synthetic.jsonl"


FAULTS = [
    # a file: what is said of it
    ("", "tokens"),
    ("[tokens]", "tokens"),
    ("colour = 1\n" + TOKEN + PYTH, "colour"),
    (TOKEN, "there is no table [pyth]"),
    (TOKEN.replace("ab", "zz", 1) + PYTH, "pyth"),
    (TOKEN.replace("18", "37") + PYTH, "decimals"),
    (TOKEN.replace("RENDER", '"R E"') + PYTH, "tokens"),
    (TOKEN + PYTH.replace("https", "http"), "pyth.url"),
    (TOKEN + PYTH.replace('"key"', '"nothing"'), "nothing"),
    ('every = "1s"\n' + TOKEN + PYTH, "every"),
    ('every = "1h"\n' + TOKEN + PYTH, "every"),
    ('every = "often"\n' + TOKEN + PYTH, "every"),
    ("[", ""),
    (TOKEN + "#" * 300_000, ""),
]


@pytest.mark.parametrize(("text", "told"), FAULTS, ids=range(len(FAULTS)))
def test_says_what_is_wrong(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        read_price_settings(write(tmp_path, text))
    assert told in caught.value.message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        read_price_settings(tmp_path / "prices.toml")
    assert caught.value.code == "bad_price_settings"
