"""anvil for tests: a real EVM chain on a free port of the loopback, ended with the test.

It is looked for as ``sublet up --devchain`` does; where it is not, tests are skipped.
"""

import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sublet.adapter.anvil import Anvil, find_anvil
from sublet.base.errors import Refused

CHAIN_ID = 31_337


def need_anvil() -> Path:
    """Give the program, or skip the test with the reason."""
    try:
        return find_anvil()
    except Refused as refused:
        pytest.skip(refused.message)


class Rig:
    """A running anvil, and what only a test may do to it."""

    def __init__(self, anvil: Anvil) -> None:
        self.anvil = anvil
        self.url = anvil.rpc_url

    def tell(self, method: str, *params: Any) -> Any:
        """Ask anvil itself, without any of Sublet's code in between."""
        question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        request = urllib.request.Request(
            self.url,
            data=json.dumps(question).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = json.load(answer)
        assert "error" not in said, said
        return said["result"]

    def fund(self, address: str, wei: int = 10**21) -> None:
        self.tell("anvil_setBalance", address, hex(wei))

    def mine(self, count: int = 1) -> None:
        for _ in range(count):  # anvil_mine would leave blocks without own times
            self.tell("evm_mine")

    def pass_time(self, seconds: int) -> None:
        """Let this much of the chain's time pass, and make a block."""
        self.tell("evm_increaseTime", seconds)
        self.mine()

    def reorg(self, depth: int) -> None:
        """Put other, empty blocks in the place of the newest ones."""
        self.tell("anvil_reorg", depth, [])

    def set_automine(self, *, on: bool) -> None:
        self.tell("evm_setAutomine", on)

    def forget_pending(self) -> None:
        """Drop what waits for a block."""
        self.tell("anvil_dropAllTransactions")


@asynccontextmanager
async def run_anvil(*options: str) -> AsyncIterator[Rig]:
    """Lend a chain that mines a block for each transaction."""
    program = need_anvil()
    async with Anvil(program, chain_id=CHAIN_ID, options=options) as anvil:
        yield Rig(anvil)
