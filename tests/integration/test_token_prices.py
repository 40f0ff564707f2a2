"""``sublet prices token``, typed by a person: offline, and against feeds on this machine."""

import asyncio
import json
import signal
import time
from pathlib import Path

import pytest

from sublet.core.pricing.reading import E8
from tests.integration.shell_house import Shell
from tests.rig.price_server import PriceServer, serve_prices
from tests.style.tree import ROOT

RECORDED = ("--feeds", str(ROOT / "examples/prices/feeds.toml"))
HEX, PLACE = "ab" * 32, "0x" + "c4" * 20
SECRET = "k3y-that-nobody-may-see"
WAIT_S = 60


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell("http://127.0.0.1:9", tmp_path)


def write_feeds(shell: Shell, server: PriceServer) -> None:
    """Put a prices.toml with all three sources into the home."""
    shell.home.mkdir()
    (shell.home / "pyth.key").write_text(SECRET)
    (shell.home / "prices.toml").write_text(
        f'''
        every = "5s"
        [tokens.RENDER]
        decimals = 18
        pyth = "{HEX}"
        coingecko = "render-token"
        chainlink = {{ address = "{PLACE}", pair = "RENDER / USD", heartbeat = "1h" }}
        [pyth]
        url = "{server.url}"
        key_file = "pyth.key"
        [coingecko]
        url = "{server.url}"
        [chainlink]
        rpc = "{server.url}/rpc"
        chain_id = 31337
        '''
    )
    server.chain.place(PLACE, pair="RENDER / USD")
    say(server, 2 * E8, 2 * E8, 2 * E8)


def say(server: PriceServer, pyth: int, coingecko: int, chainlink: int) -> None:
    now_s = int(time.time())
    server.say(HEX, pyth, at_s=now_s)
    server.say("render-token", coingecko, at_s=now_s)
    server.chain.say(PLACE, chainlink, at_s=now_s)


async def test_shows_a_recording_without_a_network(shell: Shell) -> None:
    code, out, err = await shell.type("prices", "token", *RECORDED)
    assert (code, err) == (0, "")
    assert "RENDER  spot $5.9192" in out
    assert "dropped: more than 1.5 % off the median" in out
    assert "HHHHHHHH" in out
    assert "USDC  spot $0.9998" in out
    assert "a recording" in out
    assert not (shell.home / "prices.jsonl").exists()  # nothing was asked


async def test_writes_for_machines(shell: Shell) -> None:
    code, out, _ = await shell.type("prices", "token", "RENDER", "--json", *RECORDED)
    (row,) = json.loads(out)
    assert (code, row["guard"], row["spot_e8"]) == (0, "ok", 591_918_400)
    assert [one["why"] for one in row["sources"]] == ["", "off_median", ""]
    code, out, _ = await shell.type(
        "prices", "token", "RENDER", "--csv", "--since", "10m", *RECORDED
    )
    lines = out.splitlines()
    assert lines[0] == "token,at_s,spot_e8,average_e8,guard"
    assert lines[-1] == "RENDER,1790010800,591918400,589496860,ok"
    assert len(lines) == 1 + 6


async def test_one_source_instead_of_the_median(shell: Shell) -> None:
    words = ("prices", "token", "RENDER", "--csv", *RECORDED)
    code, out, _ = await shell.type(*words, "--source", "coingecko")
    assert (code, out.splitlines()[-1]) == (0, "RENDER,1790010800,1185198900,0,ok")
    code, _, err = await shell.type(*words, "--source", "nobody")
    assert code == 2
    assert "chainlink, coingecko, pyth" in err


async def test_says_what_a_deposit_is_worth(shell: Shell) -> None:
    words = ("prices", "token", "RENDER", *RECORDED, "--amount")
    code, out, _ = await shell.type(*words, "250")
    assert (code, out) == (0, "250 RENDER is worth $1479.796 now, at $5.9192\n")
    code, _, err = await shell.type(*words, "1e5")
    assert (code, "write it like 2.5" in err) == (2, True)


async def test_asks_three_sources_and_keeps_what_they_say(shell: Shell) -> None:
    async with serve_prices() as server:
        write_feeds(shell, server)
        say(server, 2 * E8, 202 * E8 // 100, 3 * E8)
        code, out, err = await shell.type("prices", "token", "RENDER", "--json")
        assert (code, err) == (0, "")
        (row,) = json.loads(out)
        whys = {one["source"]: one["why"] for one in row["sources"]}
        assert whys == {"chainlink": "off_median", "coingecko": "", "pyth": ""}
        # One look is no average, so nothing is converted yet.
        assert (row["guard"], row["reasons"]) == ("warn", ["no_average"])
        code, _, err = await shell.type("prices", "token", "RENDER", "--amount", "1")
        assert (code, "is not converted now" in err) == (3, True)
    code, out, err = await shell.type("prices", "token")
    assert code == 0
    assert "still counts; no answer: feed_down" in out  # what was said is fresh yet
    kept = (shell.home / "prices.jsonl").read_text()
    assert kept.count('"at_s"') == 3
    assert kept.count("feed_down") == 2  # chainlink says it in the chain's own word
    assert SECRET not in out + err + kept


async def test_watches_until_it_is_interrupted(shell: Shell) -> None:
    async with serve_prices() as server:
        write_feeds(shell, server)
        process = await shell.start("prices", "token", "--watch", "--json")
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            lines = [json.loads(await process.stdout.readline()) for _ in range(2)]
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
    times_s = [line[0]["judged_at_s"] for line in lines]
    assert times_s[1] - times_s[0] >= 5
    assert lines[1][0]["spot_e8"] == 2 * E8
    assert "Traceback" not in (await process.stderr.read()).decode()  # type: ignore[union-attr]


async def test_refuses_what_cannot_be_asked(shell: Shell) -> None:
    for words, told in [
        (("token", "DOGE", *RECORDED), "RENDER, USDC"),
        (("token",), "examples/prices/feeds.toml"),
        (("token", "--json", "--csv", *RECORDED), "one of --json and --csv"),
        (("token", "--amount", "1", *RECORDED), "--amount needs a TOKEN"),
        (("token", "--watch", *RECORDED), "does not go on"),
    ]:
        code, _, err = await shell.type("prices", *words)
        assert (code, told in err) == (2, True), err
