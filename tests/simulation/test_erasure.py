"""A slice whose tenant required erasure is nobody else's before it is erased."""

import pytest
from msgspec.structs import replace

from sublet.base.ids import NO_DIGEST
from sublet.base.limits import LEASES_KEPT_MAX, UNERASED_PER_PROVIDER_MAX
from sublet.core.book.book import Book
from sublet.core.book.outcome import LeaseErased
from sublet.core.book.snapshot import dump, load
from sublet.core.document import OfferWithdrawal, ProviderLost, ProviderSeen, Stop
from sublet.core.lease.phase import Lease, Phase
from tests.unit.core.book.world import (
    GIB,
    OPERATOR,
    OTHER_PROVIDER,
    PROVIDER,
    TENANT,
    World,
    digest,
    make_offer,
    make_order,
)

ERASURE = ("erasure",)


@pytest.fixture
def world() -> World:
    world = World()
    world.add_credit()
    world.add_provider(
        gpu_model="h200",
        gpu_memory_bytes=141 * GIB,
        gpu_uuids=("gpu-a",),
        features=ERASURE,
    )
    return world


def free_cpus(book: Book) -> int:
    (record,) = book.offers.of_provider(PROVIDER)
    return record.offer.cpus_milli - record.cpus_milli_used


def lease_in(world: World, phase: Phase) -> Lease:
    return world.lease_in(phase, features=ERASURE, gpu_count=1)


# What made the lease end does not matter: the data is there all the same.
@pytest.mark.parametrize("phase", [Phase.SETTLING, Phase.SETTLED])
def test_slice_waits_for_the_erasure(world: World, phase: Phase) -> None:
    lease = lease_in(world, phase)
    assert lease.is_erasure_due
    assert free_cpus(world.book) == 6_000
    order = make_order(gpu_count=1, salt=99)
    assert world.refused(TENANT, order) == "no_match"

    done = world.say(PROVIDER, world.erasure(lease))
    erased = world.lease(lease.id)
    assert (erased.erasure, erased.erasure_level) == (digest(7), "A1")
    assert erased.phase is phase
    assert free_cpus(world.book) == 8_000
    assert any(isinstance(o, LeaseErased) for o in done.outcomes) == (
        phase is Phase.SETTLED
    )
    world.order(gpu_count=1)


def test_erased_while_settling_settles_as_ever(world: World) -> None:
    lease = lease_in(world, Phase.SETTLING)
    world.say(PROVIDER, world.erasure(lease))
    world.wait(world.book.rules.settle_s)
    settled = world.book.settled[lease.id]
    assert (settled.reason, settled.erasure) == ("not_paid", digest(7))


@pytest.mark.parametrize("phase", [Phase.ACCEPTED, Phase.PREPARING])
def test_cancelled_lease_may_have_left_data(world: World, phase: Phase) -> None:
    lease = lease_in(world, phase)
    world.say(TENANT, Stop(lease.id, "cancelled", 1, 1))
    assert lease.id in world.book.unerased
    assert free_cpus(world.book) == 6_000


def test_match_that_nobody_signed_left_none(world: World) -> None:
    world.order(features=ERASURE)
    world.wait(world.book.rules.accept_s)
    assert free_cpus(world.book) == 8_000
    assert not world.book.unerased


def test_lost_provider_erases_when_it_is_back(world: World) -> None:
    lease = lease_in(world, Phase.RUNNING)
    world.say(OPERATOR, ProviderLost(PROVIDER, 1, 1))
    assert world.lease(lease.id).reason == "provider_lost"
    world.say(OPERATOR, ProviderSeen(PROVIDER, 1, 2))
    assert free_cpus(world.book) == 6_000
    world.say(PROVIDER, world.erasure(lease))
    assert free_cpus(world.book) == 8_000


def test_money_does_not_wait(world: World) -> None:
    channel = world.add_channel()
    lease = lease_in(world, Phase.SETTLING)
    world.vouch(channel, lease.owed)
    settled = world.lease(lease.id)
    assert (settled.phase, settled.paid) == (Phase.SETTLED, lease.owed)
    assert settled.is_erasure_due


# Each wrong Erasure changes nothing.
@pytest.mark.parametrize(
    ("phase", "signer", "code"),
    [
        (Phase.RUNNING, PROVIDER, "illegal_step"),  # the program may still write
        (Phase.MATCHED, PROVIDER, "illegal_step"),
        (Phase.SETTLED, OTHER_PROVIDER, "wrong_signer"),
        (Phase.SETTLED, TENANT, "wrong_signer"),
    ],
)
def test_refuses_wrong_erasures(
    world: World, phase: Phase, signer: str, code: str
) -> None:
    lease = lease_in(world, phase)
    before = dump(world.book).replace(b'"size":%d' % world.book.size, b"")
    assert world.refused(signer, world.erasure(lease)) == code
    after = dump(world.book).replace(b'"size":%d' % world.book.size, b"")
    assert before == after


def test_refuses_an_erasure_that_is_not_due(world: World) -> None:
    plain = world.lease_in(Phase.SETTLED)
    assert world.refused(PROVIDER, world.erasure(plain)) == "no_erasure_due"
    lease = lease_in(world, Phase.SETTLED)
    world.say(PROVIDER, world.erasure(lease))
    assert world.refused(PROVIDER, world.erasure(lease)) == "no_erasure_due"


def test_slice_survives_a_new_offer_and_a_withdrawal(world: World) -> None:
    lease = lease_in(world, Phase.SETTLED)
    world.say(PROVIDER, make_offer(salt=5))
    assert free_cpus(world.book) == 6_000
    offer_id = world.facts[-1].id
    world.say(PROVIDER, OfferWithdrawal(offer_id, 1, 1))
    # Its GPU cannot be offered under another machine's name meanwhile.
    other = make_offer(
        machine="m2",
        gpu_model="h200",
        gpu_memory_bytes=141 * GIB,
        gpu_uuids=("gpu-a",),
    )
    assert world.refused(PROVIDER, other) == "gpu_offered_twice"
    world.say(PROVIDER, world.erasure(lease))
    world.say(PROVIDER, other)


def test_unerased_lease_is_never_forgotten(world: World) -> None:
    lease = lease_in(world, Phase.SETTLED)
    for number in range(LEASES_KEPT_MAX):  # as if so many had come and gone
        key = digest(5_000_000 + number)
        world.book.settled[key] = replace(lease, id=key, is_erasure_due=False)
    world.lease_in(Phase.SETTLED)
    assert len(world.book.settled) == LEASES_KEPT_MAX
    assert world.lease(lease.id).is_erasure_due
    world.say(PROVIDER, world.erasure(lease))
    assert world.lease(lease.id).erasure == digest(7)


def test_who_owes_too_many_is_not_matched(world: World) -> None:
    lease = lease_in(world, Phase.SETTLED)
    book = world.book
    for number in range(UNERASED_PER_PROVIDER_MAX - 1):
        book.unerased_of_provider[PROVIDER][digest(6_000_000 + number)] = None
    book.offers.set_up(PROVIDER, is_up=book.may_match(PROVIDER))
    assert world.refused(TENANT, make_order(salt=98)) == "no_match"
    world.say(PROVIDER, world.erasure(lease))
    world.order()


def test_snapshot_keeps_what_is_owed(world: World) -> None:
    lease = lease_in(world, Phase.SETTLED)
    twin = load(dump(world.book))
    assert dump(twin) == dump(world.book)
    assert twin.unerased[lease.id].erasure == NO_DIGEST
    assert free_cpus(twin) == 6_000
    assert not twin.copy().may_match(OTHER_PROVIDER)
