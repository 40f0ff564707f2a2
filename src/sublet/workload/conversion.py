"""A tenant's tokens into dollars of a channel, and what it looks at before it pays in.

The operator's quote is checked against the tenant's own sources of prices, never against
the operator's. The tokens go for the dollars in one transaction, or stay.

Not here: money back (``workload.escrow``), which knows no price.
"""

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from sublet.adapter.converter_chain import (
    check_converter,
    find_allowance,
    find_converter,
)
from sublet.adapter.escrow_chain import find_permit_nonce, find_token_domain
from sublet.adapter.price_watch import SETTINGS_FILE, Watched, watch_now
from sublet.base.errors import Refused
from sublet.base.ids import Address
from sublet.base.units import MicroUsd
from sublet.core.pricing.conversion import Conversion, convert_deposit
from sublet.core.pricing.exchange import check_offer, check_peg
from sublet.sdk import exchange as calls
from sublet.wire import escrow_call
from sublet.wire.exchange import (
    QuoteWish,
    SignedQuote,
    TokenQuote,
    check_quote,
    exchange,
    exchange_with_permit,
)
from sublet.wire.token_message import permit
from sublet.wire.typed_data import digest
from sublet.workload.escrow import AUTHORIZED_S, TenantEscrow


class OwnToken(Struct, frozen=True):
    """A token as the tenant's own settings know it."""

    name: str
    address: Address
    decimals: int


class Converted(Struct, frozen=True):
    """What came of it; money in micro-USD."""

    provider: Address
    token: str
    units: str  # of the token's smallest
    dollars: int  # by which the channel has more
    left: int  # in the channel, and not claimed, now


async def look_up(home: Path, feeds: Path | None) -> Watched:
    """Ask the tenant's own sources; there have to be some.

    Raises:
        Refused: ``no_feeds``, or their settings cannot be read.
    """
    seen = await watch_now(home, feeds)
    if seen is None:
        raise Refused(
            f"there is no {home / SETTINGS_FILE}, and without sources of your own you "
            "would have to believe whoever takes your tokens; examples/prices/live.toml "
            "shows how to name two",
            code="no_feeds",
            field="--feeds",
        )
    return seen


def find_token(seen: Watched, name: str) -> OwnToken:
    """Find a token in the tenant's own settings.

    Raises:
        Refused: ``unknown_token``, or they do not say where its contract is.
    """
    file = seen.settings.file
    token = file.tokens.get(name)
    if token is None or not token.address:
        known = sorted(name for name, one in file.tokens.items() if one.address)
        raise Refused(
            f"your settings of prices have no token {name!r} with an address; those with "
            f"one are: {', '.join(known) or 'none'}",
            code="unknown_token",
            field="TOKEN",
        )
    return OwnToken(name, token.address.lower(), token.decimals)


def value_own(
    seen: Watched, token: OwnToken, units: int, *, dollar: Address
) -> Conversion:
    """Say what tokens are worth by the tenant's own sources, at least two.

    Raises:
        Unavailable: ``no_conversion`` or ``off_peg``: a guard is up.
    """
    market_dollar = seen.find_dollar(dollar)
    if market_dollar is not None:
        check_peg(market_dollar)
    return convert_deposit(
        seen.watches[token.name],
        units=units,
        decimals=token.decimals,
        at_s=seen.at_s,
    )


async def ask_quote(
    escrow: TenantEscrow, provider: Address, *, token: Address, units: int
) -> SignedQuote:
    """Ask the operator what it gives for tokens, into the channel to a provider.

    Raises:
        Refused: it is no maker, does not take this token, or there is no converter.
        Unavailable: it gives no quotes now.
        PeerFault: what it answers is not what was asked for.
    """
    channel, domain = await escrow.channel(provider)
    converter = await check_converter(escrow.chain, domain.contract)
    wish = QuoteWish(provider=provider, token=token, units=str(units))
    said = await escrow.client.connection.ask(calls.ask_token_quote(wish))
    check_quote(
        said,
        payer=escrow.client.key.address,
        channel_id=digest(channel, domain),
        token=token,
        units=units,
        chain_id=domain.chain_id,
        converter=converter,
    )
    return said


async def convert(
    escrow: TenantEscrow,
    provider: Address,
    *,
    token: OwnToken,
    own: Conversion,
    slip_bps: int,
    say: Callable[[TokenQuote], None],
) -> Converted:
    """Give tokens for dollars in the channel to a provider.

    Where the token takes permits that is one transaction, else two: what is approved is
    what this takes, and no more; the quote is then asked anew, as it does not wait long.

    Args:
        escrow: the tenant's.
        provider: to whom the channel is.
        token: of the tenant's settings.
        own: what the tokens are worth by the tenant's own sources, and how many.
        slip_bps: how much less the operator may give.
        say: told of each quote that is good enough, before it is taken.

    Raises:
        Refused: ``offer_too_low``, or as ``ask_quote`` says; ``not_taken``: the chain
            refuses. No token has moved then.
    """
    channel, domain = await escrow.channel(provider)
    converter, before = find_converter(domain.contract), await escrow.line(provider)

    async def ask() -> SignedQuote:
        said = await ask_quote(escrow, provider, token=token.address, units=own.units)
        check_offer(own, MicroUsd(said.quote.dollars), slip_bps=slip_bps)
        say(said.quote)
        return said

    said = await ask()
    await escrow.client.connection.submit(channel)  # the book has to know it
    own_address = escrow.client.key.address
    allowed = await find_allowance(
        escrow.chain, token.address, owner=own_address, spender=converter
    )
    if allowed >= own.units:
        call = exchange(converter, channel, said)
    elif permitted := await _permit(escrow, token.address, converter, own.units):
        call = exchange_with_permit(
            converter, channel, said, deadline_s=permitted[0], permit=permitted[1]
        )
    else:
        allowing = escrow_call.approve(
            token.address, spender=converter, amount=own.units
        )
        await escrow.courier.send("approve", allowing)
        call = exchange(converter, channel, await ask())
    await escrow.courier.send("convert", call)
    line = await escrow.line(provider)
    return Converted(
        provider=provider,
        token=token.name,
        units=str(own.units),
        dollars=line.balance - before.balance,
        left=line.balance - line.claimed,
    )


async def _permit(
    escrow: TenantEscrow, token: Address, spender: Address, units: int
) -> tuple[int, bytes] | None:
    """Let the converter take so much by a signature; give its deadline with it.

    None where the token takes none.
    """
    own = escrow.client.key.address
    try:
        domain = await find_token_domain(escrow.chain, token)
        nonce = await find_permit_nonce(escrow.chain, token, own)
    except Refused as refused:
        if refused.code in ("token_domain", "reverted"):
            return None
        raise
    block = await escrow.chain.block()
    assert block is not None, "the newest block is there"
    deadline_s = block.time_s + AUTHORIZED_S
    message = permit(
        domain,
        owner=own,
        spender=spender,
        amount=units,
        nonce=nonce,
        deadline_s=deadline_s,
    )
    return deadline_s, escrow.client.key.sign(message.digest)
