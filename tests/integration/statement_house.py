"""Statements for tests: real logs of made-up lives, and made-up lines of a chain."""

import asyncio
import random

from sublet.cli.log_option import read_facts
from sublet.core.book.book import Book
from sublet.core.book.step import step
from sublet.core.document import ProviderLost
from sublet.core.ledger.ledger import Account
from sublet.core.statement.line import ChainKind, ChainLine
from sublet.core.statement.period import ALL, Period
from sublet.core.statement.statement import Collector, Statement
from tests.fakes.log_memory import FakeLog
from tests.fakes.world import START_S, World, move, submit

DAY_S = 86_400
ENDS = ("paid", "short", "lost", "stopped", "open")


class Life:
    """A market in which leases came to all kinds of ends, and its whole ledger."""

    def __init__(self, ends: tuple[str, ...], *, days: int = 1) -> None:
        self.world, self.log = World(), FakeLog()
        self.book = Book()
        asyncio.run(self._play(ends, days))
        for fact in read_facts(self.log):
            step(self.book, fact)

    async def _play(self, ends: tuple[str, ...], days: int) -> None:
        world = self.world
        service = world.make_service(self.log)
        await service.open()
        await world.set_up(service)
        for number, end in enumerate(ends):
            lease = await move(service, world.order())
            for say in (world.terms, world.delivery, world.start):
                await move(service, say(lease))
            world.clock.at_s += 10 + number % 3
            lease = await move(service, world.usage(lease, ran_ms=9_000 + number))
            channel = world.channel(lease)
            if channel.id not in service.book.channels:
                await submit(service, channel)
            if end == "lost":
                await move(service, world.kept(lease, ran_ms=5_000))
                await submit(service, world.voucher(lease, amount=lease.channel_total))
                lost = ProviderLost(provider=lease.provider, **world.stamp())
                await submit(service, world.say(lost, world.operator))
                await submit(service, world.seen(world.key_of(lease.provider)))
            elif end != "open":
                lease = await move(service, world.receipt(lease, ran_ms=9_500))
                due = lease.channel_total - (7 if end == "short" else 0)
                if end != "stopped":
                    await submit(service, world.voucher(lease, amount=due))
            world.clock.at_s += 1_000 if end in ("short", "stopped") else 1
            await submit(service, world.credit(world.tenant.address, 1 + number))
            world.clock.at_s += (days - 1) * DAY_S
            for provider in world.providers:
                await submit(service, world.offer(provider))
        await service.close()

    def posted(self, party: str) -> int:
        """What the ledger says that a party has, holds aside."""
        account: Account = self.book.ledger.find(party)
        return account.credits_posted - account.debits_posted

    def state(self, party: str, period: Period = ALL, **wishes: object) -> Statement:
        collector, book = Collector(party, period, **wishes), Book()
        for index, fact in enumerate(read_facts(self.log)):
            collector.hear(index, fact, step(book, fact), book)
        return collector.close(market=book.market_id, market_name=book.market.name)


TOKENS = {"USDC": 6, "WETH": 18, "T2": 0}


def make_chain_lines(seed: int, count: int) -> tuple[ChainLine, ...]:
    """Make up lines of a chain, by chance."""
    chance = random.Random(seed)
    return tuple(_make_chain_line(chance) for _ in range(count))


def _make_chain_line(chance: random.Random) -> ChainLine:
    kind = chance.choice(list(ChainKind))
    symbol = "ETH" if kind is ChainKind.GAS else chance.choice(sorted(TOKENS))
    return ChainLine(
        kind=kind,
        at_s=START_S + chance.randrange(400 * DAY_S),
        chain="eip155:8453",
        transaction=f"0x{chance.getrandbits(256):064x}",
        log_index=chance.randrange(-1, 10),
        symbol=symbol,
        decimals=18 if symbol == "ETH" else TOKENS[symbol],
        amount=str(chance.randrange(1, 10 ** chance.randrange(1, 23))),
        usd=chance.randrange(1, 10**12),
        memo="".join(chance.choices('ab;|"\\=@{}#*!', k=chance.randrange(20))),
    )
