"""Prices say what the log says: everything is worked out again from the facts alone."""

import random
from collections import Counter, defaultdict

import pytest

from sublet.core.book.book import Book
from sublet.core.book.prices import list_prices, sort_asks, take_stock
from sublet.core.book.snapshot import dump, load
from sublet.core.book.step import step
from sublet.core.document import (
    Offer,
    OfferWithdrawal,
    Order,
    ProviderLost,
    ProviderSeen,
    Start,
)
from sublet.core.lease.phase import Lease, Phase
from sublet.core.tape.tape import list_hours
from tests.unit.core.book.world import GIB, OPERATOR, World, address

TENANTS = [address(0x1000 + number) for number in range(3)]
PROVIDERS = [address(0x2000 + number) for number in range(4)]
REGIONS = ["DE", "US-CA", "US", ""]
DAY_S = 86_400
HOUR_S = 3_600
WEEK_HOURS = 168
MOVES = 150


def live(seed: int) -> World:
    """Let owners and tenants do as they like for some days."""
    chance = random.Random(seed)
    world = World()
    for tenant in TENANTS:
        world.add_credit(tenant, 500_000_000)
    for number, provider in enumerate(PROVIDERS):
        world.add_provider(provider, region=REGIONS[number])
    for number in range(MOVES):
        world.now_s += chance.choice((0, 1, 5, 300, 2_000, 6_000))
        provider = chance.choice(PROVIDERS)
        match chance.randrange(10):
            case 0 | 1:
                offer_something(world, chance, provider)
            case 2:
                up = world.book.find_provider(provider).is_up
                said = ProviderLost if up and chance.random() < 0.4 else ProviderSeen
                world.fold(world.fact(OPERATOR, said(provider, world.now_s, number)))
            case 3:
                for record in world.book.offers.of_provider(provider)[:1]:
                    gone = OfferWithdrawal(record.id, 1, number)
                    world.fold(world.fact(provider, gone))
            case _:
                lease_something(world, chance)
    return world


def offer_something(world: World, chance: random.Random, provider: str) -> None:
    machine = chance.choice(("m1", "m2"))
    gpus = chance.choice((0, 2))
    world.add_provider(
        provider,
        machine=machine,
        gpu_model="h200" if gpus else "",
        gpu_memory_bytes=141 * GIB if gpus else 0,
        gpu_uuids=tuple(f"{provider[-4:]}-{machine}-{n}" for n in range(gpus)),
        region=chance.choice(REGIONS),
        cpu_price_hour=chance.choice((9_000, 10_000, 12_345)),
        gpu_price_hour=chance.randrange(400_000, 500_000, 7),
        expires_at_s=world.now_s + chance.choice((3_000, 80_000)),
    )


def lease_something(world: World, chance: random.Random) -> None:
    try:
        lease = world.lease_in(
            chance.choice((Phase.MATCHED, Phase.RUNNING, Phase.RUNNING)),
            tenant=chance.choice(TENANTS),
            gpu_count=chance.choice((0, 1)),
            cpus_milli=chance.choice((700, 2_000)),
        )
    except AssertionError:
        return  # nobody has it now: the order stands in the log, void
    if lease.phase is Phase.RUNNING and chance.random() < 0.7:
        world.now_s += 5
        world.say(lease.provider, world.receipt(lease, 5_000))


def rank(values: list[int], percent: int) -> int:
    """Give the nearest rank, of the list written out."""
    values = sorted(values)
    return values[-(-percent * len(values) // 100) - 1] if values else -1


class Judge:
    """Hears the facts and what became of them; knows nothing of tape or columns."""

    def __init__(self) -> None:
        self.offers: dict[tuple[str, str], Offer] = {}
        self.leases: dict[str, Lease] = {}
        self.deals: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(
            list
        )

    def hear(self, fact, done) -> None:
        document = fact.document
        if done.refusal is not None:
            return
        if isinstance(document, Offer):
            self.offers[fact.signer, document.machine] = document
        elif isinstance(document, Order):
            self.leases[fact.id] = done.outcomes[-1].lease
        elif isinstance(document, Start):
            lease = self.leases[document.lease_id]
            region = self.offers[lease.provider, lease.machine].region
            units = len(lease.gpu_uuids) * 1_000 or lease.cpus_milli
            deal = (fact.at_s, lease.price_hour * 1_000 // units, units // 100)
            model = "h200" if lease.gpu_uuids else ""
            for place in {region, "*"}:
                self.deals[model, place].append(deal)


@pytest.mark.parametrize("seed", range(4))
def test_prices_equal_counting_anew(seed: int) -> None:
    world = live(seed)
    book, judge = Book(), Judge()
    for number, fact in enumerate(world.facts):
        judge.hear(fact, step(book, fact))
        if number == len(world.facts) // 2:
            book = load(dump(book))  # a restart in the middle loses nothing
    assert dump(book) == dump(world.book)
    now_s = book.now_s
    rows = list_prices(sort_asks(take_stock(book)), book.tape.series, now_s=now_s)
    assert len(judge.deals) > 4  # or nothing was looked at
    assert set(judge.deals) == set(book.tape.series)
    for row in rows:
        deals = judge.deals.get((row.model, row.region), [])
        # A deal counts by its units: written out, a price for each tenth of one.
        day = [
            price
            for at_s, price, tenths in deals
            if at_s > now_s - DAY_S
            for _ in range(tenths)
        ]
        assert (row.p10, row.median, row.p90) == tuple(
            rank(day, p) for p in (10, 50, 90)
        )
        assert row.deals == sum(at_s > now_s - DAY_S for at_s, *_ in deals)
        assert (row.last, row.last_at_s) == (
            (deals[-1][1], deals[-1][0]) if deals else (-1, 0)
        )
    for kind, series in book.tape.series.items():
        hours = Counter(at_s // HOUR_S for at_s, *_ in judge.deals[kind])
        kept = {h: n for h, n in hours.items() if h > now_s // HOUR_S - WEEK_HOURS}
        assert {h.hour: h.deals for h in list_hours(series, now_s=now_s)} == kept


@pytest.mark.parametrize("seed", range(4))
def test_depth_equals_counting_anew(seed: int) -> None:
    world = live(seed)
    book = world.book
    gpus, used = Counter(), Counter()
    for (provider, machine), offer in offers_by_machine(world).items():
        record = book.offers.find_machine(provider, machine)
        is_live = record is not None and record.is_live(book.now_s)
        if not is_live or not book.find_provider(provider).is_up or not offer.gpu_uuids:
            continue
        whole = sum(
            (
                offer.cpus_milli * offer.cpu_price_hour // 1_000,
                offer.memory_bytes // GIB * offer.memory_price_hour,
                2 * offer.gpu_price_hour,
            )
        )
        price = -(-whole // 2)
        gpus[price] += 2
        for lease in book.leases.values():
            if (lease.provider, lease.machine) == (provider, machine):
                held = lease.phase not in (Phase.SETTLING, Phase.SETTLED)
                used[price] += held * len(set(lease.gpu_uuids) & set(offer.gpu_uuids))
    asks = sort_asks(take_stock(book)).get(("h200", "*"), ())
    assert {ask.price: ask.units_milli for ask in asks} == {
        price: count * 1_000 for price, count in gpus.items()
    }
    assert {ask.price: ask.units_milli_free for ask in asks} == {
        price: (count - used[price]) * 1_000 for price, count in gpus.items()
    }
    assert [ask.price for ask in asks] == sorted(gpus)


def offers_by_machine(world: World) -> dict[tuple[str, str], Offer]:
    """Give the last offer of each machine that was not refused."""
    found, book = {}, Book()
    for fact in world.facts:
        done = step(book, fact)
        if isinstance(fact.document, Offer) and done.refusal is None:
            found[fact.signer, fact.document.machine] = fact.document
    return found
