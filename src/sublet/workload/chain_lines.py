"""What an account did on the chain, as lines for its statement.

Amounts come from the contract's own events, gas from the receipts of what this home has
sent. An RPC that leaves an event out leaves a line out: the statement's balances show it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from sublet.adapter.chain_place import ChainPlace, open_chain
from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.escrow_chain import ChainEscrow
from sublet.adapter.journal_sqlite import SqliteJournal
from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.base.units import MicroUsd
from sublet.core.document import Channel, Market
from sublet.core.escrow import event as ev
from sublet.core.rail.claiming import GasPrice
from sublet.core.rail.sending import Phase, Sending
from sublet.core.statement.line import ChainKind, ChainLine
from sublet.sdk.connection import Connection
from sublet.service.escrow_follower import BLOCKS_PER_QUESTION
from sublet.service.escrow_port import Happening
from sublet.wire.abi import event_topic
from sublet.wire.channel import channel_of
from sublet.wire.escrow_call import read_event
from sublet.wire.typed_data import digest
from sublet.workload.escrow import find_rpc

TOKEN_DECIMALS, COIN_DECIMALS = 6, 18
_SETTLED = event_topic("Settled(address,address,address,uint128)")


async def read_lines(
    chain: RpcChain,
    market: Market,
    *,
    party: Address,
    channels: dict[Digest, Channel],
    sent: Sequence[Sending],
    first: int,
    ether_usd: MicroUsd | None,
) -> list[ChainLine]:
    """List what moved from block ``first`` on, in order.

    Args:
        chain: of the market.
        market: whose contract and token it is.
        party: the account.
        channels: of it, on either side, by their ids.
        sent: what this home has sent with the account's key.
        first: a block.
        ether_usd: for what gas is counted; None: for nothing.

    Raises:
        Unavailable, ChainLied: as the chain's port says.
    """
    head = await chain.block()
    assert head is not None, "the newest block is there"
    escrow = ChainEscrow(chain, market.contract)
    lines: list[ChainLine] = []
    # A claim's event says what the channel's claims are in all: what they were before?
    claimed: dict[Digest, int] = {}
    before = await chain.block(first - 1) if first else None
    for channel_id in channels if before is not None else ():
        claimed[channel_id] = (await escrow.channel(channel_id, at=before)).claimed
    for start in range(first, head.number + 1, BLOCKS_PER_QUESTION):
        end = min(start + BLOCKS_PER_QUESTION - 1, head.number)
        for one in await escrow.happenings(set(channels), first=start, last=end):
            amount = getattr(one.event, "amount", 0)
            if isinstance(one.event, ev.Claimed):
                amount = one.event.total - claimed.get(one.event.channel_id, 0)
                claimed[one.event.channel_id] = one.event.total
            if amount:
                lines += _describe(one, amount, market, party=party, channels=channels)
        lines += await _read_settled(chain, market, party, first=start, last=end)
    for sending in sent:
        lines += await _price_gas(chain, sending, first=first, ether_usd=ether_usd)
    return sorted(lines, key=lambda line: (line.at_s, line.transaction, line.log_index))


def _describe(
    one: Happening,
    amount: int,
    market: Market,
    *,
    party: Address,
    channels: dict[Digest, Channel],
) -> list[ChainLine]:
    event = one.event
    if isinstance(event, ev.Settled | ev.Skipped | ev.WithdrawInitiated):
        return []  # nothing moved between the parties
    channel = channels[event.channel_id]
    is_payer = channel.payer == party
    match event:
        case ev.Deposited() if is_payer:
            kind = ChainKind.DEPOSIT
        case ev.Claimed() if not is_payer:
            kind = ChainKind.CLAIM
        case ev.WithdrawFinalized() if is_payer:
            kind = ChainKind.WITHDRAWAL
        case ev.Refunded() if is_payer:
            kind = ChainKind.REFUND
        case _:
            return []
    other = channel.receiver if is_payer else channel.payer
    line = _of_token(
        market,
        kind,
        amount,
        at_s=one.block.time_s,
        transaction=one.transaction,
        index=one.index,
        channel=event.channel_id,
        other=other,
    )
    return [line]


async def _read_settled(
    chain: RpcChain, market: Market, party: Address, *, first: int, last: int
) -> list[ChainLine]:
    own = "0x" + "0" * 24 + party[2:]
    logs = await chain.logs(
        market.contract, [(_SETTLED,), (own,)], first=first, last=last
    )
    lines = []
    for log in logs:
        event = read_event(log.topics, log.data)
        block = await chain.block(log.block_number)
        if not isinstance(event, ev.Settled) or block is None or not event.amount:
            continue
        lines.append(
            _of_token(
                market,
                ChainKind.SETTLE,
                event.amount,
                at_s=block.time_s,
                transaction=log.transaction,
                index=log.index,
            )
        )
    return lines


async def _price_gas(
    chain: RpcChain, sending: Sending, *, first: int, ether_usd: MicroUsd | None
) -> list[ChainLine]:
    wei = sending.gas_used * sending.gas_price_wei
    is_mined = sending.phase in (Phase.CONFIRMED, Phase.REVERTED)
    if not is_mined or not wei or sending.block_number < first:
        return []
    block = await chain.block(sending.block_number)
    if block is None:
        return []
    price = GasPrice(sending.gas_price_wei, ether_usd or MicroUsd(0))
    return [
        ChainLine(
            kind=ChainKind.GAS,
            at_s=block.time_s,
            chain=f"eip155:{chain.chain_id}",
            transaction=sending.transaction,
            symbol="ETH",
            decimals=COIN_DECIMALS,
            amount=str(wei),
            usd=price.cost(sending.gas_used),
            memo="" if ether_usd else "not priced",
        )
    ]


def _of_token(
    market: Market,
    kind: ChainKind,
    amount: int,
    *,
    at_s: int,
    transaction: Digest,
    index: int,
    channel: Digest = "0x" + "0" * 64,
    other: Address = "0x" + "0" * 40,
) -> ChainLine:
    return ChainLine(
        kind=kind,
        at_s=at_s,
        chain=f"eip155:{market.chain_id}",
        transaction=transaction,
        log_index=index,
        token=market.token,
        symbol="USDC",
        decimals=TOKEN_DECIMALS,
        amount=str(amount),
        usd=amount,  # the market's token is a dollar in micro-USD
        channel=channel,
        counterparty=other,
    )


async def export_lines(
    connection: Connection,
    *,
    journal: Path,
    rpc: str,
    first: int,
    ether_usd: MicroUsd | None,
    say: Callable[[str], None],
) -> list[ChainLine]:
    """List what the account of a connection did on its market's chain.

    Args:
        connection: with the account's key.
        journal: of what that key has sent; none, or one that is open elsewhere, and gas
            is left out, which ``say`` is told.
        rpc: of the chain; "" for the one that the market names.
        first: a block.
        ether_usd: see ``read_lines``.
        say: told what is left out.

    Raises:
        Refused: ``wrong_rail`` or ``no_rpc``.
        Unavailable, ChainLied: market or chain.
    """
    market, domain = await connection.learn_market(), await connection.domain()
    channels: dict[Digest, Channel] = {}
    for lease in await connection.leases(is_all=True):
        channel = channel_of(
            market,
            domain.market,
            tenant=lease.tenant,
            provider=lease.provider,
            authorizer=lease.authorizer,
        )
        channels[digest(channel, domain)] = channel
    place = ChainPlace(rpc=(await find_rpc(connection, rpc),))
    async with open_chain(place, chain_id=market.chain_id) as chain:
        return await read_lines(
            chain,
            market,
            party=connection.key.address,
            channels=channels,
            sent=_read_sent(journal, connection.key.address, say),
            first=first,
            ether_usd=ether_usd,
        )


def _read_sent(
    path: Path, sender: Address, say: Callable[[str], None]
) -> tuple[Sending, ...]:
    if not path.exists():
        return ()
    try:
        journal = SqliteJournal(path)
    except Refused:
        say(f"{path} is open in another process: gas is left out")
        return ()
    try:
        return journal.list_all(sender)
    finally:
        journal.close()
