"""A development chain: deployed the same everywhere, funded, and still there later."""

import asyncio
from pathlib import Path

import psutil
import pytest

from sublet.adapter.anvil import find_anvil
from sublet.adapter.converter_chain import check_converter
from sublet.adapter.devchain import DevChain
from sublet.adapter.escrow_chain import find_balance, find_token_domain
from sublet.adapter.key_file import load_key
from sublet.adapter.stake_chain import ChainStake
from sublet.base.errors import Refused
from tests.rig.anvil import need_anvil

SOMEBODY = "0x" + "5" * 40
# What people have written into their settings.
ESCROW = "0xac85d29a9acf95b4365a856145331a0828d3625d"
TOKEN = "0xca083c7df167bff40669f2d62c59baccae431f4c"
COLLECTOR = "0xae568e76a1c339e89db9bdb2dda86659dd1b8afe"


async def test_is_the_same_chain_after_a_restart(tmp_path: Path) -> None:
    need_anvil()
    async with DevChain(tmp_path / "chain") as chain:
        await asyncio.gather(*(chain.fund(SOMEBODY, usdc=5_000_000) for _ in range(3)))
        assert await find_balance(chain.chain, chain.token, SOMEBODY) == 15_000_000
        assert await chain.chain.balance(SOMEBODY) > 10**18
        domain = await find_token_domain(chain.chain, chain.token)
        assert (domain.name, domain.version) == ("Test USD", "2")
        before = chain.escrow, chain.token, chain.collector
        await _check_stake(chain, tmp_path / "chain")
        assert before == (ESCROW, TOKEN, COLLECTOR)  # as every development chain has
        await chain.fund(SOMEBODY, usdc=0, render=7 * 10**18)
        assert await find_balance(chain.chain, chain.render, SOMEBODY) == 7 * 10**18
        assert await check_converter(chain.chain, chain.escrow) == chain.converter
        block = await chain.chain.block()
    assert not [one for one in psutil.Process().children() if one.name() == "anvil"]
    async with DevChain(tmp_path / "chain") as chain:
        assert (chain.escrow, chain.token, chain.collector) == before
        assert await find_balance(chain.chain, chain.token, SOMEBODY) == 15_000_000
        again = await chain.chain.block()
        assert again is not None and block is not None
        assert again.number >= block.number  # nothing was deployed anew
        assert await chain.chain.code(chain.collector)
        assert await chain.chain.code(chain.stake)
        assert await chain.chain.code(chain.converter)
        async with DevChain(None, rpc_url=chain.rpc_url) as other:
            await other.fund(SOMEBODY, usdc=1)
        assert await find_balance(chain.chain, chain.token, SOMEBODY) == 15_000_001


async def _check_stake(chain: DevChain, folder: Path) -> None:
    stake = ChainStake(chain.chain, chain.stake)
    terms = await stake.check(escrow=chain.escrow, dollar=chain.token)
    assert (len(terms.arbiters), terms.quorum, terms.appeal_quorum) == (3, 2, 3)
    keys = [load_key(folder / f"arbiter-{number}").address for number in (1, 2, 3)]
    assert sorted(keys) == list(terms.arbiters)
    for address, escrow in (
        (chain.stake, SOMEBODY),  # of other markets
        (chain.token, chain.escrow),  # another contract
        (SOMEBODY, chain.escrow),  # nobody's
    ):
        with pytest.raises(Refused) as refused:
            await ChainStake(chain.chain, address).check(escrow=escrow)
        assert refused.value.code == "bad_stake"


def test_says_how_to_get_anvil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="npm install @foundry-rs") as refused:
        find_anvil(tmp_path)
    assert refused.value.code == "no_anvil"
    place = tmp_path / "node_modules" / ".bin" / "anvil"
    place.parent.mkdir(parents=True)
    place.write_text("#!/bin/sh\n")
    place.chmod(0o755)
    assert find_anvil(tmp_path / "deeper") == place
