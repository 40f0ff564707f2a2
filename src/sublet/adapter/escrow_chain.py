"""The port ``Escrow`` over a chain, and the questions to a token.

Not here: the bytes (``wire.escrow_call``), sending (``service.sender``).
"""

from collections.abc import Collection
from contextlib import suppress

from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.core.escrow.event import Settled
from sublet.core.escrow.state import ChannelState, Earned
from sublet.core.rail.transaction import Call
from sublet.service.chain_port import Block, Chain, ChainLied, Log, Reverted
from sublet.service.escrow_port import Happening
from sublet.wire import escrow_call
from sublet.wire.abi import decode_values, encode_call
from sublet.wire.token_message import TokenDomain

_IDS_PER_QUESTION_MAX = 200  # over that, all events are asked for and sifted here
_VERSIONS = ("1", "2")  # of tokens that have no ``version()``


class ChainEscrow:
    """One escrow contract on one chain."""

    def __init__(self, chain: Chain, address: Address) -> None:
        """Take where it is."""
        self.address = address
        self._chain = chain

    async def channel(self, channel_id: Digest, *, at: Block | None) -> ChannelState:
        """As the port says."""
        call = escrow_call.ask_channel(self.address, channel_id)
        answer = await self._chain.call(call, at=at)
        balance, claimed = decode_values("(uint128,uint128)", answer)
        call = escrow_call.ask_withdrawal(self.address, channel_id)
        answer = await self._chain.call(call, at=at)
        withdrawing, initiated_at_s = decode_values("(uint128,uint40)", answer)
        if claimed > balance:
            raise ChainLied("an RPC says that more was claimed than is in a channel")
        return ChannelState(
            balance=balance,
            claimed=claimed,
            withdrawing=withdrawing,
            initiated_at_s=initiated_at_s,
        )

    async def earned(
        self, receiver: Address, token: Address, *, at: Block | None
    ) -> Earned:
        """As the port says."""
        call = escrow_call.ask_earned(self.address, receiver=receiver, token=token)
        answer = await self._chain.call(call, at=at)
        claimed, settled = decode_values("(uint128,uint128)", answer)
        return Earned(claimed=claimed, settled=settled)

    async def happenings(
        self, channel_ids: Collection[Digest], *, first: int, last: int
    ) -> tuple[Happening, ...]:
        """As the port says."""
        wanted = frozenset(channel_ids)
        if not wanted or last < first:
            return ()
        ids = sorted(wanted) if len(wanted) <= _IDS_PER_QUESTION_MAX else ()
        logs = await self._chain.logs(
            self.address, [escrow_call.CHANNEL_TOPICS, ids], first=first, last=last
        )
        blocks: dict[int, Block] = {}
        found = []
        for log in logs:
            event = escrow_call.read_event(log.topics, log.data)
            if isinstance(event, Settled) or event.channel_id not in wanted:
                continue
            block = blocks.get(log.block_number) or await self._find_block(log)
            blocks[log.block_number] = block
            found.append(Happening(event, block, log.transaction, log.index))
        return tuple(found)

    async def _find_block(self, log: Log) -> Block:
        block = await self._chain.block(log.block_number)
        if block is None or block.hash != log.block_hash:
            raise ChainLied("an RPC gives an event of a block that it does not have")
        return block


async def find_token_domain(chain: Chain, token: Address) -> TokenDomain:
    """Ask a token in which domain its messages are signed, and check its answer.

    Raises:
        Refused: ``token_domain``: it has none, or one that its name does not explain.
        Unavailable, ChainLied: as the chain's port says.
    """
    name = await _ask_text(chain, token, "name()")
    version = await _ask_text(chain, token, "version()")
    said = b""
    with suppress(Reverted):
        said = await chain.call(Call(token, encode_call("DOMAIN_SEPARATOR()")))
    for guess in (version,) if version else _VERSIONS:
        domain = TokenDomain(name, guess, chain.chain_id, token)
        if domain.separator == said:
            return domain
    raise Refused(
        f"the token {token} does not say in which domain its messages are signed, so it "
        "takes neither permits nor authorizations; approve the escrow and deposit",
        code="token_domain",
    )


async def _ask_text(chain: Chain, token: Address, question: str) -> str:
    try:
        answer = await chain.call(Call(token, encode_call(question)))
    except Reverted:
        return ""
    return str(decode_values("(string)", answer)[0]) if answer else ""


async def find_balance(chain: Chain, token: Address, holder: Address) -> int:
    """Ask how much of a token somebody has, in its smallest units."""
    answer = await chain.call(Call(token, encode_call("balanceOf(address)", holder)))
    amount: int = decode_values("(uint256)", answer)[0]
    return amount


async def find_permit_nonce(chain: Chain, token: Address, owner: Address) -> int:
    """Ask for the nonce of an owner's next permit."""
    answer = await chain.call(Call(token, encode_call("nonces(address)", owner)))
    nonce: int = decode_values("(uint256)", answer)[0]
    return nonce
