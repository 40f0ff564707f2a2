"""What the operator says, kind by kind: whose word it is, and when it counts."""

import pytest
from msgspec.structs import replace

from sublet.base.errors import Outdated, Refused
from sublet.base.limits import AMOUNT_MAX
from sublet.core.book.book import Book
from sublet.core.book.by_operator import SealMismatch
from sublet.core.book.outcome import Credited
from sublet.core.book.snapshot import book_hash, dump
from sublet.core.book.step import check, step
from sublet.core.book.view import account
from sublet.core.document import (
    AnyDocument,
    Credit,
    Fact,
    ProviderLost,
    ProviderSeen,
    Resume,
    Seal,
    Tick,
    Upgrade,
)
from sublet.core.lease.phase import Fault, Phase
from sublet.core.version import RULES_VERSION
from tests.unit.core.book.world import (
    OPERATOR,
    PROVIDER,
    RULES,
    START_S,
    TENANT,
    World,
    digest,
    make_order,
)


def test_market_opens_the_book() -> None:
    world = World()
    assert world.book.market == RULES
    assert world.book.operator == OPERATOR
    assert world.book.market_id == world.facts[0].id


@pytest.mark.parametrize(
    "span", ["accept_s", "deliver_s", "prepare_s", "report_s", "close_s", "settle_s"]
)
def test_market_needs_real_deadlines(span: str) -> None:
    book = Book()
    market = replace(RULES, **{span: 0})
    done = step(book, Fact(START_S, digest(1), OPERATOR, market))
    assert done.refusal is not None
    assert (done.refusal.code, done.refusal.field) == ("bad_market", f"market.{span}")
    assert (book.market, book.size) == (None, 1)


def test_market_comes_first_or_never() -> None:
    book = Book()
    tick = step(book, Fact(START_S, digest(1), OPERATOR, Tick(START_S, 1)))
    assert tick.refusal is not None
    assert tick.refusal.code == "no_market"
    late = step(book, Fact(START_S, digest(2), OPERATOR, RULES))
    assert late.refusal is not None
    assert late.refusal.code == "market_exists"


def test_market_comes_once() -> None:
    world = World()
    assert world.refused(OPERATOR, replace(RULES, name="mine")) == "market_exists"
    assert world.book.market == RULES


@pytest.mark.parametrize(
    "document",
    [
        Credit(TENANT, 1, "", 1, 1),
        ProviderSeen(PROVIDER, 1, 1),
        ProviderLost(PROVIDER, 1, 1),
        Tick(1, 1),
        Resume(1, 1),
        Seal(1, digest(1), 1, 1),
        Upgrade(2, 1, 1),
    ],
)
@pytest.mark.parametrize("signer", [TENANT, PROVIDER])
def test_only_operator_may_say(document: AnyDocument, signer: str) -> None:
    assert World().refused(signer, document) == "wrong_signer"


# ---- credits ----------------------------------------------------------------------


def test_credit_reaches_the_wallet() -> None:
    world = World()
    done = world.say(OPERATOR, Credit(TENANT, 500, "hello", 1, 1))
    assert done.outcomes == (Credited(TENANT, 500),)
    wallet = account(world.book, TENANT)
    assert (wallet.balance, wallet.earned, wallet.spent) == (500, 0, 0)


@pytest.mark.parametrize(
    ("amount", "code"), [(0, "zero_amount"), (AMOUNT_MAX + 1, "too_many_credits")]
)
def test_refuses_impossible_credit(amount: int, code: str) -> None:
    assert World().refused(OPERATOR, Credit(TENANT, amount, "", 1, 1)) == code


# ---- providers --------------------------------------------------------------------


def test_seen_and_lost_alternate() -> None:
    world = World()
    seen, lost = ProviderSeen(PROVIDER, 1, 1), ProviderLost(PROVIDER, 1, 1)
    assert world.refused(OPERATOR, lost) == "already_down"
    world.say(OPERATOR, seen)
    assert world.refused(OPERATOR, seen) == "already_up"
    world.now_s += 7
    world.say(OPERATOR, lost)
    assert world.refused(OPERATOR, lost) == "already_down"
    record = world.book.find_provider(PROVIDER)
    assert (record.is_up, record.times_lost) == (False, 1)
    assert record.since_s == START_S + 7


def test_lost_provider_matches_no_more() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    world.say(OPERATOR, ProviderLost(PROVIDER, 1, 1))
    assert world.refused(TENANT, make_order()) == "no_match"
    world.say(OPERATOR, ProviderSeen(PROVIDER, 1, 1))
    assert world.order().phase is Phase.MATCHED


def test_loss_settles_every_open_lease() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    phases = [Phase.SETTLING, Phase.RUNNING, Phase.PREPARING, Phase.MATCHED]
    leases = [world.lease_in(phase) for phase in phases]
    done = world.say(OPERATOR, ProviderLost(PROVIDER, 1, 1))
    assert [outcome.lease.id for outcome in done.outcomes] == [
        lease.id for lease in leases
    ]
    assert not world.book.leases
    for lease in leases:
        settled = world.lease(lease.id)
        assert (settled.reason, settled.fault) == ("provider_lost", Fault.PROVIDER)
        assert settled.paid == 0
    assert account(world.book, TENANT).balance == 10_000_000
    assert world.book.find_provider(PROVIDER).leases_at_fault == 4


# ---- time and seals ---------------------------------------------------------------


def test_tick_lets_deadlines_pass() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    lease = world.order()
    assert world.wait(RULES.accept_s - 1).outcomes == ()
    assert len(world.wait(1).outcomes) == 1
    assert world.lease(lease.id).reason == "not_accepted"


def test_outage_makes_nobody_late() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    lease = world.lease_in(Phase.RUNNING)
    away_s = 100 * RULES.report_s
    world.now_s += away_s  # no node heard anything, for long
    world.say(OPERATOR, Resume(world.now_s, 1))
    assert world.lease(lease.id).phase is Phase.RUNNING
    assert world.lease(lease.id).deadline_s == lease.deadline_s + away_s
    world.wait(RULES.report_s)  # the deadline still binds, from here on
    assert world.lease(lease.id).reason == "silent"


def test_outage_longer_than_the_lease_ends_nobody() -> None:
    """What its job reported meanwhile comes late, and in order: it is all taken."""
    world = World()
    world.add_credit()
    world.add_provider()
    lease = world.lease_in(Phase.RUNNING)
    ran_ms = lease.duration_s * 1_000
    world.now_s += 10 * lease.duration_s
    world.say(OPERATOR, Resume(world.now_s, 1))
    world.say(PROVIDER, world.usage(lease, ran_ms))
    world.now_s += 1
    world.say(PROVIDER, world.receipt(lease, ran_ms))
    ended = world.lease(lease.id)
    assert (ended.phase, ended.fault) == (Phase.SETTLING, Fault.NOBODY)
    assert ended.owed == lease.hold, "the whole duration, and no more"


def test_duration_binds_after_an_outage() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    lease = world.lease_in(Phase.RUNNING)
    world.now_s += 10 * lease.duration_s
    world.say(OPERATOR, Resume(world.now_s, 1))
    resumed_s = world.now_s
    while world.lease(lease.id).phase is Phase.RUNNING:
        assert world.now_s - resumed_s <= lease.duration_s
        world.say(PROVIDER, world.usage(lease, 0))
        world.wait(RULES.report_s - 1)
    assert world.lease(lease.id).reason == "timeout"


def test_refused_resume_forgives_nothing() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    lease = world.lease_in(Phase.RUNNING)
    world.now_s += RULES.report_s
    assert world.refused(PROVIDER, Resume(world.now_s, 1)) == "wrong_signer"
    assert world.lease(lease.id).reason == "silent"


def test_seal_of_this_book_holds() -> None:
    world = World()
    world.add_credit()
    sealed = "0x" + book_hash(world.book).hex()
    world.now_s += 5  # the seal is heard later than it was made
    world.say(OPERATOR, Seal(world.book.size, sealed, 1, 1))


@pytest.mark.parametrize("offset", [-1, 1])
def test_seal_elsewhere_is_void(offset: int) -> None:
    world = World()
    sealed = "0x" + book_hash(world.book).hex()
    seal = Seal(world.book.size + offset, sealed, 1, 1)
    assert world.refused(OPERATOR, seal) == "seal_out_of_place"


def test_seal_of_another_book_stops() -> None:
    world = World()
    fact = world.fact(OPERATOR, Seal(world.book.size, digest(5), 1, 1))
    before = dump(world.book)
    with pytest.raises(Exception, match="it is another one here") as refusal:
        check(world.book, fact)
    assert refusal.value.code == "seal_mismatch"  # type: ignore[attr-defined]
    with pytest.raises(SealMismatch):
        step(world.book, fact)
    assert dump(world.book) == before


def test_seal_counts_before_deadlines() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    lease = world.order()
    sealed = "0x" + book_hash(world.book).hex()
    world.now_s += RULES.accept_s  # by the time it is heard, the lease is overdue
    done = world.say(OPERATOR, Seal(world.book.size, sealed, 1, 1))
    assert [outcome.lease.id for outcome in done.outcomes] == [lease.id]


# ---- upgrades ---------------------------------------------------------------------


def test_upgrade_beyond_this_program_stops_it() -> None:
    world = World()
    upgrade = Upgrade(RULES_VERSION + 1, world.now_s, 1)
    fact = Fact(world.now_s, digest(77), OPERATOR, upgrade)
    with pytest.raises(Refused) as caught:  # a node is asked first, and goes on
        check(world.book, fact)
    assert caught.value.code == "outdated"
    before = dump(world.book)
    with pytest.raises(Outdated, match="update sublet"):
        step(world.book, fact)
    assert dump(world.book) == before


def test_upgrade_goes_only_forward() -> None:
    world = World()
    assert world.refused(OPERATOR, Upgrade(1, world.now_s, 1)) == "upgraded_already"
    assert world.book.version == 1
