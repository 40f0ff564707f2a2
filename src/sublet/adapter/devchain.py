"""A chain of one's own for development: anvil, contracts, test tokens, and a faucet.

What is on it outlives a restart: anvil keeps its state in the folder. The contracts
are deployed by a key that everybody knows, in a fixed order, so that their addresses
are the same everywhere. Nothing here is worth anything.
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from sublet.adapter import private_file
from sublet.adapter.anvil import Anvil, find_anvil
from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.contract import Name, load_contract
from sublet.adapter.converter_chain import deploy_converter, find_converter
from sublet.adapter.json_rpc import JsonRpc
from sublet.base.errors import Broken
from sublet.base.ids import Address
from sublet.core.rail.transaction import Call, Transaction
from sublet.service.chain_port import Receipt
from sublet.wire import stake_call
from sublet.wire.abi import encode_call, encode_values
from sublet.wire.signature import Key
from sublet.wire.transaction import compute_contract, sign_transaction

CHAIN_ID = 31_337
STATE_S = 5  # between two times that anvil writes its state; what is newer may be lost
_DEPLOYER = Key.generate(b"sublet development, not a secret")
_FAUCET = Key.generate(b"sublet faucet, and not a secret.")
# Of the stake: two of them open a case, all three uphold one.
ARBITERS = tuple(
    sorted(
        (Key.generate(b"sublet arbiter %d, known to all.." % n) for n in (1, 2, 3)),
        key=lambda key: key.address,
    )
)
QUORUM, APPEAL_QUORUM = 2, 3
_GAS_WEI = 10**20  # that a faucet leaves in a wallet: 100 ether of this chain
_MINED_S = 60.0  # for anvil to make a block, which takes milliseconds
_LOOK_S = 0.01
_GAS_SPARE = 2


class DevChain:
    """A running chain for development. Use it as an async context."""

    chain_id = CHAIN_ID

    def __init__(
        self, folder: Path | None, *, port: int = 0, rpc_url: str = ""
    ) -> None:
        """Take where its state is, or the address of one that runs already.

        Args:
            folder: of a chain that is to be started; None where one runs.
            port: of the loopback; 0: a free one.
            rpc_url: of the one that runs.
        """
        self._folder = folder
        self._port = port
        self._stack = AsyncExitStack()
        self._faucet = asyncio.Lock()
        # By the deployer's nonces; each can name those before it.
        self.token: Address = compute_contract(_DEPLOYER.address, 0)
        self.escrow: Address = compute_contract(_DEPLOYER.address, 1)
        self.collector: Address = compute_contract(_DEPLOYER.address, 2)
        self.stake: Address = compute_contract(_DEPLOYER.address, 3)
        self.render: Address = compute_contract(_DEPLOYER.address, 4)
        self.converter: Address = find_converter(self.escrow)
        self.rpc_url = rpc_url

    async def __aenter__(self) -> Self:
        """Start it, and deploy what is not there yet.

        Raises:
            Refused: ``no_anvil``, with the way to get it.
            Unavailable: it does not start.
        """
        async with AsyncExitStack() as stack:
            if self._folder is not None:
                private_file.make_folder(self._folder)
                anvil = Anvil(
                    find_anvil(),
                    chain_id=CHAIN_ID,
                    port=self._port,
                    state=self._folder / "state.json",
                    options=("--state-interval", str(STATE_S)),
                )
                self.rpc_url = (await stack.enter_async_context(anvil)).rpc_url
            self.chain = await stack.enter_async_context(
                RpcChain([self.rpc_url], chain_id=CHAIN_ID)
            )
            self._rpc = await stack.enter_async_context(JsonRpc([self.rpc_url]))
            if self._folder is not None:
                await self._deploy()
                self._keep_arbiters(self._folder)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it; its state stays in the folder."""
        await self._stack.aclose()

    async def fund(self, address: Address, *, usdc: int, render: int = 0) -> None:
        """Give somebody test tokens, in their smallest units, and money for gas."""
        async with self._faucet:
            await self._give_gas(address)
            await self._give_gas(_FAUCET.address)
            for token, amount in ((self.token, usdc), (self.render, render)):
                if amount:
                    data = encode_call("mint(address,uint256)", address, amount)
                    await self._send(Call(token, data), _FAUCET)

    async def _give_gas(self, address: Address) -> None:
        await self._rpc.ask(
            "anvil_setBalance",
            (address, hex(_GAS_WEI)),
            lambda result: None,
            examine=lambda result: None,
        )

    async def _deploy(self) -> None:
        await self._give_gas(_DEPLOYER.address)
        calls = (
            _deploy("usdc"),
            _deploy("escrow", encode_values("(address[])", [[self.token]])),
            _deploy("collector", encode_values("(address)", [self.escrow])),
            _deploy("stake", self._construct_stake()),
            _deploy("render"),
            deploy_converter(self.escrow),
        )
        # A start that was interrupted goes on where it was.
        done = await self.chain.nonce(_DEPLOYER.address)
        for call in calls[done:]:
            await self._send(call, _DEPLOYER)
        for name, address in (
            ("usdc", self.token),
            ("escrow", self.escrow),
            ("stake", self.stake),
            ("converter", self.converter),
        ):
            if not await self.chain.code(address):
                raise Broken(
                    f"the contract {name} is not on the chain in {self._folder}; "
                    "delete that folder, and start again",
                    code="devchain_broken",
                )

    def _construct_stake(self) -> bytes:
        return stake_call.construct(
            token=self.token,
            escrow=self.escrow,
            arbiters=[key.address for key in ARBITERS],
            quorum=QUORUM,
            appeal_quorum=APPEAL_QUORUM,
        )

    def _keep_arbiters(self, folder: Path) -> None:
        """Lay the arbiters' keys beside the state, for ``sublet dispute sign --key``."""
        for number, key in enumerate(ARBITERS, 1):
            private_file.write(folder / f"arbiter-{number}", key.to_hex().encode())

    async def _send(self, call: Call, key: Key) -> Receipt:
        """Send, and wait; a start that dies here finds its way by the nonce."""
        signed = sign_transaction(
            Transaction(
                chain_id=CHAIN_ID,
                nonce=await self.chain.nonce(key.address),
                call=call,
                gas=_GAS_SPARE * await self.chain.estimate(call, sender=key.address),
                fees=await self.chain.fees(),
            ),
            key,
        )
        await self.chain.send(signed.raw)
        async with asyncio.timeout(_MINED_S):
            while True:
                if receipt := await self.chain.receipt(signed.hash):
                    return receipt
                await asyncio.sleep(_LOOK_S)


def _deploy(name: Name, arguments: bytes = b"") -> Call:
    code = bytes.fromhex(load_contract(name).bytecode[2:])
    return Call(None, code + arguments)
