"""The operator as a maker: dollars for tokens, by feeds and with a key of its own.

A quote is a word, and no reservation: where the dollars are gone when its tokens come,
the contract moves nothing. What the price moves until a quote's deadline is the maker's
risk, and what the spread is for.

Not here: how much it gives (``core.pricing.exchange``), what is signed
(``wire.exchange``). Claims, refunds and withdrawals know nothing of this.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sublet.adapter.chain_rpc import RpcChain
from sublet.adapter.converter_chain import check_converter, find_allowance
from sublet.adapter.escrow_chain import find_balance
from sublet.adapter.key_file import load_key
from sublet.adapter.price_history import PriceHistory
from sublet.adapter.price_settings import PriceSettings, read_price_settings
from sublet.adapter.price_watch import (
    HISTORY_FILE,
    find_dollar,
    fold_rounds,
    gather_rounds,
    open_feeds,
)
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Address
from sublet.base.units import MicroUsd
from sublet.core.document import Market
from sublet.core.pricing.exchange import MakerTerms, offer_dollars
from sublet.core.pricing.oracle import Watch
from sublet.core.pricing.oracle import take_round as judge
from sublet.node.config import NodeConfig
from sublet.node.journal import Journal
from sublet.service.ports import Clock
from sublet.service.price_port import PriceFeed, take_round
from sublet.wire.channel import channel_of
from sublet.wire.exchange import QuoteWish, SignedQuote, TokenQuote, sign_quote
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain, digest

GOOD_S = 60  # that a quote counts, by the chain's time


class Maker:
    """Gives quotes for the tokens of its settings; ``open_maker`` makes it."""

    def __init__(
        self,
        chain: RpcChain,
        feeds: Sequence[PriceFeed],
        *,
        market: Market,
        domain: Domain,
        settings: PriceSettings,
        history: PriceHistory,
        terms: MakerTerms,
        key: Key,
        clock: Clock,
        journal: Journal,
    ) -> None:
        """Take what it works with; nothing is asked yet."""
        self._chain = chain
        self._feeds = feeds
        self._market = market
        self._domain = domain
        self._settings = settings
        self._history = history
        self._terms = terms
        self._key = key
        self._clock = clock
        self._journal = journal
        self._watches = fold_rounds(settings, ())
        self._names = {
            token.address.lower(): name
            for name, token in settings.file.tokens.items()
            if token.address
        }
        self._converter: Address | None = None
        self._has_looked = False
        self._quoting = asyncio.Lock()  # each asks the chain: one at a time

    async def run(self) -> None:
        """Ask the feeds again and again until cancelled; the market does not mind."""
        while True:
            try:
                await self.look()
            except (Refused, Unavailable, PeerFault) as fault:
                self._journal.warning("feeds_away", code=fault.code, why=fault.message)
            await asyncio.sleep(self._settings.every_s)

    async def look(self) -> None:
        """Ask the feeds once, and judge; the first time by all that was kept.

        Raises:
            Refused: ``bad_price_history``: what is kept cannot be read or written.
        """
        settings, at_s = self._settings, self._clock.now_s()
        if not self._has_looked:
            rounds = await gather_rounds(
                settings, self._history, self._feeds, until_s=at_s
            )
            self._watches = fold_rounds(settings, rounds)
            self._has_looked = True
            return
        taken = await take_round(self._feeds, list(settings.file.tokens), at_s=at_s)
        if settings.recorded is None:
            self._history.append(taken)
        for name, watch in self._watches.items():
            self._watches[name] = judge(watch, taken)
            self._tell(watch, self._watches[name])

    async def quote(self, payer: Address, wish: QuoteWish) -> SignedQuote:
        """Say what it gives, for ``GOOD_S`` from now.

        Raises:
            Refused: ``unknown_token``, ``no_converter``, or as ``offer_dollars`` says.
            Unavailable: no price that may be used, no dollars, or no chain.
        """
        name = self._names.get(wish.token)
        if name is None:
            raise Refused(
                f"this market gives no dollars for the token {wish.token}; it takes "
                + (", ".join(sorted(self._names.values())) or "none"),
                code="unknown_token",
                field="token",
            )
        async with self._quoting:
            return await self._quote(payer, wish, name)

    async def _quote(self, payer: Address, wish: QuoteWish, name: str) -> SignedQuote:
        fixed = offer_dollars(
            self._watches[name],
            find_dollar(self._settings, self._watches, self._market.token),
            units=int(wish.units),
            decimals=self._settings.file.tokens[name].decimals,
            at_s=self._clock.now_s(),
            terms=self._terms,
            free=await self._find_free(),
        )
        channel = channel_of(
            self._market, self._domain.market, tenant=payer, provider=wish.provider
        )
        block = await self._chain.block()
        assert block is not None, "the newest block is there"
        quote = TokenQuote(
            maker=self._key.address,
            payer=payer,
            channel_id=digest(channel, self._domain),
            token=wish.token,
            units=wish.units,
            dollars=fixed.value,
            deadline_s=block.time_s + GOOD_S,
            salt="0x" + secrets.token_hex(32),
        )
        self._journal.info("quoted", token=name, dollars=fixed.value)
        return sign_quote(
            quote,
            chain_id=self._market.chain_id,
            converter=await self._find_converter(),
            key=self._key,
        )

    async def _find_converter(self) -> Address:
        if self._converter is None:
            self._converter = await check_converter(self._chain, self._market.contract)
        return self._converter

    async def _find_free(self) -> MicroUsd:
        """Count the dollars that the maker has, and lets the converter take."""
        token, own = self._market.token, self._key.address
        spender = await self._find_converter()
        has = await find_balance(self._chain, token, own)
        may = await find_allowance(self._chain, token, owner=own, spender=spender)
        return MicroUsd(min(has, may))

    def _tell(self, was: Watch, watch: Watch) -> None:
        if was.guard is not watch.guard:
            self._journal.warning(
                "price_guard",
                token=watch.token,
                guard=watch.guard.value,
                why=", ".join(watch.reasons),
            )


@asynccontextmanager
async def open_maker(
    config: NodeConfig,
    chain: RpcChain,
    *,
    market: Market,
    domain: Domain,
    clock: Clock,
) -> AsyncIterator[Maker | None]:
    """Open the feeds that ``[convert]`` names; None where the node has no such table.

    Raises:
        Refused: feeds or key cannot be read.
    """
    if config.convert is None:
        yield None
        return
    settings = read_price_settings(config.home / config.convert.feeds)
    key = load_key(config.home / config.convert.key_file)
    async with open_feeds(settings) as feeds:
        yield Maker(
            chain,
            feeds,
            market=market,
            domain=domain,
            settings=settings,
            history=PriceHistory(config.home / HISTORY_FILE),
            terms=config.convert.terms,
            key=key,
            clock=clock,
            journal=Journal(),
        )
