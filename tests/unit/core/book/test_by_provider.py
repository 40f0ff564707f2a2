"""Offer and OfferWithdrawal: what is taken, replaced, refused."""

import pytest
from msgspec.structs import replace

from sublet.base.limits import OFFERS_PER_PROVIDER_MAX
from sublet.core.book.view import offers
from sublet.core.document import OfferWithdrawal
from sublet.core.lease.phase import Phase
from tests.unit.core.book.world import (
    GIB,
    OTHER_PROVIDER,
    PROVIDER,
    START_S,
    TENANT,
    World,
    make_offer,
    make_order,
)

GPUS = {"gpu_model": "h200", "gpu_memory_bytes": 141 * GIB}


def test_offer_stands_until_it_expires() -> None:
    world = World()
    world.add_provider(expires_at_s=START_S + 100)
    world.wait(99)
    assert [offer.machine for offer in offers(world.book)] == ["m1"]
    world.wait(1)
    assert offers(world.book) == []


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"machine": ""}, "bad_offer"),
        ({"cpus_milli": 0}, "bad_offer"),
        ({"memory_bytes": 0}, "bad_offer"),
        ({**GPUS, "gpu_uuids": ("a", "a")}, "bad_offer"),
        ({**GPUS, "gpu_uuids": ("a", "")}, "bad_offer"),
        ({**GPUS, "gpu_uuids": ()}, "bad_offer"),
        ({"gpu_uuids": ("a",)}, "bad_offer"),
        ({"expires_at_s": START_S}, "offer_expired"),
    ],
)
def test_refuses_impossible_offer(changed: dict[str, object], code: str) -> None:
    world = World()
    assert world.refused(PROVIDER, make_offer(**changed)) == code
    assert offers(world.book) == []


def test_later_offer_replaces_earlier() -> None:
    world = World()
    first = world.add_provider()
    second = world.add_provider(cpu_price_hour=5)
    (offer,) = offers(world.book)
    assert (offer.offer_id, offer.cpu_price_hour) == (second, 5)
    withdrawal = OfferWithdrawal(first, 1, 1)
    assert world.refused(PROVIDER, withdrawal) == "unknown_offer"


def test_machines_of_others_are_others() -> None:
    world = World()
    world.add_provider(PROVIDER)
    world.add_provider(OTHER_PROVIDER)
    assert len(offers(world.book)) == 2


def test_replacing_keeps_what_is_used() -> None:
    world = World()
    world.add_credit()
    world.add_provider()
    lease = world.lease_in(Phase.RUNNING)
    world.add_provider(cpus_milli=1_000, memory_bytes=64 * GIB)
    (offer,) = offers(world.book)
    assert offer.cpus_milli_free == 0  # 2 are used of the 1 that is left
    assert offer.memory_bytes_free == 60 * GIB
    assert world.refused(TENANT, make_order(cpus_milli=1)) == "no_match"
    world.say(PROVIDER, world.receipt(lease, 0))
    (offer,) = offers(world.book)
    assert (offer.cpus_milli_free, offer.memory_bytes_free) == (1_000, 64 * GIB)


def test_machine_returns_with_its_use() -> None:
    world = World()
    world.add_credit()
    offer_id = world.add_provider()
    world.lease_in(Phase.RUNNING, cpus_milli=8_000)
    world.say(PROVIDER, OfferWithdrawal(offer_id, 1, 1))
    world.add_provider()
    assert offers(world.book)[0].cpus_milli_free == 0


def test_offers_are_bounded() -> None:
    world = World()
    for number in range(OFFERS_PER_PROVIDER_MAX):
        world.add_provider(machine=f"m{number}", expires_at_s=START_S + 50 + number)
    one_more = make_offer(machine="more")
    assert world.refused(PROVIDER, one_more) == "too_many_offers"
    world.add_provider(machine="m3")  # replacing is not one more
    world.wait(50)  # the first one has expired
    world.say(PROVIDER, one_more)


# ---- GPUs -------------------------------------------------------------------------


def test_gpu_is_offered_once() -> None:
    world = World()
    world.add_credit()
    offer_id = world.add_provider(machine="m1", **GPUS, gpu_uuids=("a", "b"))
    other = make_offer(machine="m2", **GPUS, gpu_uuids=("b", "c"))
    assert world.refused(PROVIDER, other) == "gpu_offered_twice"
    world.say(PROVIDER, replace(other, gpu_uuids=("c",)))
    lease = world.lease_in(Phase.RUNNING, gpu_count=2)
    assert lease.gpu_uuids == ("a", "b")
    world.say(PROVIDER, OfferWithdrawal(offer_id, 1, 1))
    # Withdrawn, but the lease still computes on it.
    assert world.refused(PROVIDER, other) == "gpu_offered_twice"
    world.say(PROVIDER, world.receipt(lease, 0))
    world.say(PROVIDER, other)


def test_replacing_keeps_gpus_bound() -> None:
    world = World()
    world.add_credit()
    world.add_provider(**GPUS, gpu_uuids=("a", "b"))
    world.lease_in(Phase.RUNNING, gpu_count=1)
    world.add_provider(**GPUS, gpu_uuids=("a", "b"), cpu_price_hour=1)
    assert offers(world.book)[0].gpus_free == 1
    assert world.order(gpu_count=1).gpu_uuids == ("b",)


def test_gpu_of_an_expired_offer_moves() -> None:
    world = World()
    world.add_provider(**GPUS, gpu_uuids=("a",), expires_at_s=START_S + 5)
    world.wait(5)
    world.add_provider(machine="m2", **GPUS, gpu_uuids=("a",))


# ---- withdrawal -------------------------------------------------------------------


def test_withdrawn_offer_matches_no_more() -> None:
    world = World()
    world.add_credit()
    offer_id = world.add_provider()
    lease = world.lease_in(Phase.RUNNING)
    world.say(PROVIDER, OfferWithdrawal(offer_id, 1, 1))
    assert offers(world.book) == []
    assert world.refused(TENANT, make_order()) == "no_match"
    assert world.lease(lease.id).phase is Phase.RUNNING
    withdrawal = OfferWithdrawal(offer_id, 1, 2)
    assert world.refused(PROVIDER, withdrawal) == "unknown_offer"


def test_withdraws_only_its_own() -> None:
    world = World()
    offer_id = world.add_provider()
    withdrawal = OfferWithdrawal(offer_id, 1, 1)
    assert world.refused(OTHER_PROVIDER, withdrawal) == "wrong_signer"
    assert len(offers(world.book)) == 1


def test_expired_offer_is_unknown() -> None:
    world = World()
    offer_id = world.add_provider(expires_at_s=START_S + 5)
    world.wait(5)
    assert world.refused(PROVIDER, OfferWithdrawal(offer_id, 1, 1)) == "unknown_offer"


def test_refuses_offer_of_unmet_key() -> None:
    """Keys cost nothing: the book has offers of those alone that a node has met."""
    world = World()
    assert world.refused(PROVIDER, make_offer()) == "unmet_provider"
    world.add_provider()
    assert world.book.offers.count_live(world.now_s) == 1


def test_refuses_older_offer_later() -> None:
    """A document that was held up does not bring an old price back."""
    world = World()
    world.now_s += 1_000
    newer = world.add_provider(signed_at_s=world.now_s)
    held_up = make_offer(signed_at_s=world.now_s - 31, cpu_price_hour=1)
    assert world.refused(PROVIDER, held_up) == "stale_offer"
    world.say(PROVIDER, OfferWithdrawal(newer, 1, 1))
    assert world.refused(PROVIDER, held_up) == "stale_offer"
    skewed = make_offer(signed_at_s=world.now_s - 30, machine="m2")
    world.say(PROVIDER, skewed)  # two agents' clocks differ by as much
