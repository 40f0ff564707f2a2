"""How fast one key may speak, by the log's clock."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST
from sublet.base.limits import OFFERS_A_MINUTE, OFFERS_AT_ONCE
from sublet.core.book.book import Book
from sublet.core.book.pace import ANY_KIND, PACES, check_pace, note_pace
from sublet.core.book.snapshot import dump, load
from sublet.core.book.step import step
from sublet.core.document import Bid, Credit, Delegation, Fact, Order, Tick
from tests.unit.core.book.world import (
    OPERATOR,
    OTHER_PROVIDER,
    PROVIDER,
    START_S,
    TENANT,
    World,
    address,
    digest,
    make_offer,
    make_order,
)


def flap(world: World, *, provider: str = PROVIDER) -> str:
    """Offer one machine once more, for another price; give the refusal's code."""
    salt = len(world.facts)
    offer = make_offer(cpu_price_hour=salt, signed_at_s=world.now_s, salt=salt)
    fact = world.fact(provider, offer)
    world.facts.append(fact)  # unlike world.fold: this is done hundreds of times
    done = step(world.book, fact)
    return done.refusal.code if done.refusal else ""


def test_offers_that_flap_are_slowed() -> None:
    world = World()
    world.add_provider()
    world.add_provider(OTHER_PROVIDER)
    said = [flap(world) for _ in range(OFFERS_AT_ONCE + 9)]
    assert said == [""] * (OFFERS_AT_ONCE - 1) + ["over_pace"] * 10
    assert flap(world, provider=OTHER_PROVIDER) == ""  # nobody else pays for it
    world.now_s += 60
    said = [flap(world) for _ in range(OFFERS_A_MINUTE + 5)]
    assert said == [""] * OFFERS_A_MINUTE + ["over_pace"] * 5


def test_refusal_says_how_long() -> None:
    world = World()
    world.add_provider()
    while not flap(world):
        pass
    refusal = step(world.book, world.fact(PROVIDER, make_offer())).refusal
    assert refusal is not None
    assert refusal.detail == {"wait_s": 1}
    world.now_s += 1
    assert flap(world) == ""


def test_refused_documents_do_not_count() -> None:
    world = World()
    world.add_provider()
    before = dump(world.book)
    for _ in range(2 * OFFERS_AT_ONCE):
        void = world.fact(PROVIDER, make_offer(machine=""))
        assert step(world.book, void).refusal is not None
    world.book.size -= 2 * OFFERS_AT_ONCE
    assert dump(world.book) == before


def test_snapshot_keeps_the_pace() -> None:
    world = World()
    world.add_provider()
    while not flap(world):
        pass
    world.book = load(dump(world.book))
    assert flap(world) == "over_pace"


KINDS = {
    "order": make_order(),
    "bid": Bid(NO_DIGEST, NO_DIGEST, 1, START_S, 1),
    "offer": make_offer(),
    "delegation": Delegation(OTHER_PROVIDER, 1, 1, (), "", START_S, START_S, 1),
    "tick": Tick(START_S, 1),
}


@settings(deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    gaps=st.lists(
        st.tuples(st.integers(1, 5_000), st.integers(0, 600)), min_size=1, max_size=6
    ),
)
def test_no_key_exceeds_its_pace(kind: str, gaps: list[tuple[int, int]]) -> None:
    """In every span as many are taken as at once, and so many a minute of the span."""
    said = KINDS[kind]
    pace = PACES.get(type(said), ANY_KIND)
    book, taken = Book(), []
    book.operator = OPERATOR
    book.now_s = START_S
    for count, gap_s in gaps:
        for _ in range(count):
            fact = Fact(book.now_s, digest(1), TENANT, said)
            try:
                check_pace(book, fact, book.now_s)
            except Refused as refusal:
                assert refusal.code == "over_pace"
                break
            note_pace(book, fact)
            taken.append(book.now_s)
        book.now_s += gap_s
    for first, from_s in enumerate(taken):
        if first and taken[first - 1] == from_s:
            continue
        for until_s in sorted(set(taken[first:])):
            within = sum(from_s <= at_s <= until_s for at_s in taken)
            most = pace.at_once + (until_s - from_s) * pace.a_minute // 60
            assert within <= most


def test_silent_keys_are_forgotten() -> None:
    """A key for each document: what is remembered stays what was said lately."""
    book = Book()
    book.operator = OPERATOR
    for number in range(5_000):
        book.now_s = START_S + number
        note_pace(book, Fact(book.now_s, digest(number), address(number), make_order()))
    assert len(book.paces) < 5


def test_operator_has_no_pace() -> None:
    world = World()
    credit = Credit(TENANT, 1, "", START_S, 1)
    for _ in range(2 * ANY_KIND.at_once):
        note_pace(world.book, world.fact(OPERATOR, credit))
    check_pace(world.book, world.fact(OPERATOR, credit), START_S)
    assert not world.book.paces


def test_an_order_at_once_is_a_thousand_leases() -> None:
    """Who may have 1,024 leases can also order them: the pace is not in its way."""
    assert PACES[Order].at_once >= 1_024
