"""An escrow with a tenant and a provider, on the fake chain and on a real one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sublet.adapter.contract import load_contract
from sublet.adapter.escrow_chain import ChainEscrow, find_token_domain
from sublet.base.ids import NO_DIGEST
from sublet.core.document import Channel, Voucher
from sublet.core.rail.claiming import VoucherClaim
from sublet.core.rail.transaction import Call
from sublet.service.chain_port import Block, Receipt
from sublet.wire import escrow_call, token_message
from sublet.wire.abi import encode_call, encode_values
from sublet.wire.escrow_call import Authorization
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain, digest
from tests.fakes.chain_memory import CHAIN_ID, MemoryChain
from tests.fakes.escrow_memory import place_escrow
from tests.rig.chains import Lent, lend_chain

DOLLAR = 1_000_000
DELAY_S = 900
FOR_EVER = 2**63


class EscrowHouse:
    """A deployed escrow, and two parties of whom only the provider has gas."""

    def __init__(self, lent: Lent, escrow: str, token: str) -> None:
        self.lent = lent
        self.chain = lent.chain
        self.hand = lent.hand
        self.token = token
        self.escrow = ChainEscrow(lent.chain, escrow)
        self.domain = Domain(NO_DIGEST, CHAIN_ID, escrow)
        self.tenant = Key.generate(b"\x11" * 32)
        self.provider = Key.generate(b"\x12" * 32)
        self.channel = self.make_channel(self.tenant)
        self.id = self.name(self.channel)

    def make_channel(self, payer: Key, *, salt: int = 1) -> Channel:
        return Channel(
            payer=payer.address,
            payer_authorizer=payer.address,
            receiver=self.provider.address,
            receiver_authorizer=self.provider.address,
            token=self.token,
            withdraw_delay=DELAY_S,
            salt=f"0x{salt:064x}",
        )

    def name(self, channel: Channel) -> str:
        return digest(channel, self.domain)

    def vouch(
        self, amount: int, *, channel: Channel | None = None, key: Key | None = None
    ) -> VoucherClaim:
        """Sign a voucher, and claim all of it."""
        of = channel or self.channel
        voucher = Voucher(channel_id=self.name(of), max_claimable_amount=amount)
        signature = (key or self.tenant).sign(digest(voucher, self.domain))
        return VoucherClaim(of, amount, signature, amount)

    async def send(self, key: Key, call: Call) -> Receipt:
        """Sign by hand, send, and see it mined."""
        return await self.lent.send(await self.lent.sign(key, call))

    async def mint(self, address: str, amount: int) -> None:
        call = Call(self.token, encode_call("mint(address,uint256)", address, amount))
        assert (await self.send(self.provider, call)).is_success

    async def authorize(
        self, amount: int, *, channel: Channel | None = None, salt: int = 7
    ) -> Authorization:
        """Have the tenant sign a deposit; it needs no gas for that."""
        of = channel or self.channel
        domain = await find_token_domain(self.chain, self.token)
        message = token_message.authorization(
            domain,
            payer=of.payer,
            escrow=self.escrow.address,
            channel_id=self.name(of),
            amount=amount,
            valid_after_s=0,
            valid_before_s=FOR_EVER,
            salt=salt,
        )
        return Authorization(0, FOR_EVER, salt, self.tenant.sign(message.digest))

    async def deposit(self, amount: int, *, salt: int = 7) -> Receipt:
        """Have the provider bring the tenant's money into the channel."""
        await self.mint(self.tenant.address, amount)
        signed = await self.authorize(amount, salt=salt)
        call = escrow_call.deposit_with_authorization(
            self.escrow.address, self.channel, amount, signed
        )
        receipt = await self.send(self.provider, call)
        assert receipt.is_success
        return receipt

    async def newest(self) -> Block:
        block = await self.chain.block()
        assert block is not None
        return block


@asynccontextmanager
async def lend_escrow(kind: str) -> AsyncIterator[EscrowHouse]:
    """Lend a house on one of ``chains.KINDS``."""
    async with lend_chain(kind) as lent:
        provider = Key.generate(b"\x12" * 32)
        lent.hand.fund(provider.address)
        if isinstance(lent.chain, MemoryChain):
            yield EscrowHouse(lent, *place_escrow(lent.chain))
            return
        addresses: list[str] = []
        for name in ("usdc", "escrow"):
            code = bytes.fromhex(load_contract(name).bytecode[2:])
            given = encode_values("(address[])", [addresses]) if addresses else b""
            signed = await lent.sign(provider, Call(None, code + given), gas=8_000_000)
            receipt = await lent.send(signed)
            assert receipt.is_success and receipt.contract is not None
            addresses.append(receipt.contract)
        yield EscrowHouse(lent, addresses[1], addresses[0])
