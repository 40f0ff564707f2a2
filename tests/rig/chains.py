"""Both chains behind one face, for suites that run on the fake and on a real one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from sublet.adapter.chain_rpc import RpcChain
from sublet.core.rail.transaction import Call, SignedTransaction, Transaction
from sublet.service.chain_port import Chain, Receipt
from sublet.wire.signature import Key
from sublet.wire.transaction import sign_transaction
from tests.fakes.chain_memory import CHAIN_ID, MemoryChain
from tests.rig.anvil import run_anvil
from tests.rig.echo import CREATION, Echo

KINDS = ("fake", "anvil")
WAIT_S = 60


class Hand(Protocol):
    """What only a test may do to a chain."""

    def fund(self, address: str, wei: int = ...) -> None: ...
    def mine(self, count: int = ...) -> None: ...
    def pass_time(self, seconds: int) -> None: ...
    def reorg(self, depth: int) -> None: ...
    def set_automine(self, *, on: bool) -> None: ...
    def forget_pending(self) -> None: ...


class Lent:
    """A chain for a test; ``url`` is empty where there is no RPC."""

    def __init__(self, chain: Chain, hand: Hand, *, url: str = "") -> None:
        self.chain = chain
        self.hand = hand
        self.url = url

    async def sign(
        self,
        key: Key,
        call: Call,
        *,
        nonce: int | None = None,
        percent: int = 100,
        gas: int = 1_000_000,
    ) -> SignedTransaction:
        """Sign a call by hand, offering so much of what the chain suggests."""
        if nonce is None:
            nonce = await self.chain.nonce(key.address)
        fees = await self.chain.fees()
        fees = type(fees)(fees.max_wei * percent // 100, fees.tip_wei * percent // 100)
        return sign_transaction(Transaction(CHAIN_ID, nonce, call, gas, fees), key)

    async def deploy_echo(self, key: Key) -> str:
        signed = await self.sign(key, Call(None, CREATION))
        receipt = await self.send(signed)
        assert receipt.contract is not None
        return receipt.contract

    async def send(self, signed: SignedTransaction) -> Receipt:
        """Send, and wait until it is mined, which takes a moment even at once."""
        assert await self.chain.send(signed.raw) == signed.hash
        async with asyncio.timeout(WAIT_S):
            while True:
                if receipt := await self.chain.receipt(signed.hash):
                    return receipt
                await asyncio.sleep(0.01)


@asynccontextmanager
async def lend_chain(kind: str) -> AsyncIterator[Lent]:
    """Lend one of ``KINDS``; skips where there is no anvil."""
    if kind == "fake":
        chain = MemoryChain()
        chain.makers[CREATION[:64]] = Echo
        yield Lent(chain, chain)
        return
    async with (
        run_anvil() as rig,
        RpcChain([rig.url], chain_id=CHAIN_ID) as rpc,
    ):
        yield Lent(rpc, rig, url=rig.url)
