"""What an order wishes for, one row for each wish: just met, and just not."""

from typing import Any

import pytest

from sublet.base.limits import DOCUMENT_AGE_S_MAX
from sublet.core.book.why_not import NoMatch
from sublet.core.document import Attestation
from tests.unit.core.book.test_quote import GPUS, ask, make_book
from tests.unit.core.book.world import (
    OTHER_PROVIDER,
    PROVIDER,
    START_S,
    World,
    address,
    make_order,
)

AUDITOR, OTHER_AUDITOR = address(0x3000), address(0x3001)
MIG = GPUS | {"gpu_share_milli": 250, "gpu_sharing": "mig"}
SXM = GPUS | {"gpu_interface": "sxm", "gpu_vendor": "nvidia"}
ONE = {"gpu_count": 1}

# an offer, a wish that it just meets, one that it just does not, the wish's name
WISHES = [
    (GPUS, {"gpu_models": ("h100", "h200")}, {"gpu_models": ("h100",)}, "gpu_model"),
    (SXM, {"gpu_models": ("h200/sxm",)}, {"gpu_models": ("h200/pcie",)}, "gpu_model"),
    (SXM, {"gpu_models": ("h200/141GiB",)}, {"gpu_models": ("h200/142GiB",)}, "gpu_model"),
    (SXM, {"gpu_vendor": "nvidia"}, {"gpu_vendor": "amd"}, "gpu_vendor"),
    (SXM, {"gpu_interface": "sxm"}, {"gpu_interface": "pcie"}, "gpu_interface"),
    (GPUS | {"gpu_compute": 90}, {"gpu_compute": 90}, {"gpu_compute": 91}, "gpu_compute"),
    (GPUS | {"cuda": 12_040}, {"cuda": 12_040}, {"cuda": 12_041}, "cuda"),
    (GPUS | {"gpu_driver": 5}, {"gpu_driver": 5}, {"gpu_driver": 6}, "gpu_driver"),
    (MIG, {"gpu_share_milli": 250}, {"gpu_share_milli": 251}, "gpu_share_milli"),
    (MIG, {"gpu_share_milli": 1, "gpu_sharing": "mig"},
     {"gpu_share_milli": 1, "gpu_sharing": "time-slice"}, "gpu_sharing"),
    ({"disk_class": "nvme"}, {"disk_classes": ("ssd", "nvme")},
     {"disk_classes": ("ssd",)}, "disk_class"),
    ({"up_mbit_s": 9}, {"up_mbit_s": 9}, {"up_mbit_s": 10}, "up_mbit_s"),
    ({"down_mbit_s": 9}, {"down_mbit_s": 9}, {"down_mbit_s": 10}, "down_mbit_s"),
    ({"latencies": ("paris=9", "oslo=30")}, {"latencies": ("oslo=30", "paris=10")},
     {"latencies": ("oslo=29", "paris=10")}, "latency oslo"),
    ({"latencies": ("paris=9",)}, {"latencies": ("paris=9",)},
     {"latencies": ("oslo=1000",)}, "latency oslo"),
    ({"jurisdiction": "DE"}, {"jurisdictions": ("FR", "DE")},
     {"jurisdictions": ("FR",)}, "jurisdiction"),
    ({"attributes": ("tier=a", "soc2=1")}, {"attributes": ("soc2=1", "tier=a")},
     {"attributes": ("soc2=1", "tier=b")}, "tier=b"),
]  # fmt: skip


@pytest.mark.parametrize(("offer", "met", "unmet", "name"), WISHES)
def test_wish_is_held_against_the_offer(
    offer: dict[str, Any], met: dict[str, Any], unmet: dict[str, Any], name: str
) -> None:
    gpu = ONE if "gpu_uuids" in offer else {}
    book = make_book(dict(offer), {"cpu_price_hour": 0} if not gpu else {})
    assert ask(book, **gpu, **met).machine == "m0"
    with pytest.raises(NoMatch) as refusal:
        ask(book, **gpu, **unmet)
    assert refusal.value.detail is not None
    assert refusal.value.detail[name]


def test_whole_gpu_serves_whoever_takes_a_part() -> None:
    wish = {"gpu_share_milli": 250, "gpu_sharing": "mig"}
    assert ask(make_book(dict(GPUS)), **ONE, **wish).machine == "m0"


def test_gpu_wishes_need_a_gpu() -> None:
    assert ask(make_book({}), gpu_models=("h200",), cuda=0).machine == "m0"


def vouch(world: World, auditor: str = AUDITOR, **changed: Any) -> None:
    fields: dict[str, Any] = {
        "provider": PROVIDER,
        "machine": "",
        "attributes": ("soc2=1",),
        "expires_at_s": world.now_s + 100_000,
        "signed_at_s": world.now_s,
        "salt": len(world.facts),
    }
    world.say(auditor, Attestation(**(fields | changed)))


def order(**wishes: Any) -> Any:
    return make_order(attributes=("soc2=1",), **wishes)


@pytest.fixture
def world() -> World:
    world = World()
    world.add_credit()
    world.add_provider(machine="m1", attributes=("soc2=1",))
    world.add_provider(machine="m2", attributes=("soc2=1",))
    return world


def test_own_word_is_not_an_auditors(world: World) -> None:
    assert (
        world.refused(make_order().tenant, order(auditors_any=(AUDITOR,))) == "no_match"
    )
    vouch(world)
    world.order(attributes=("soc2=1",), auditors_any=(OTHER_AUDITOR, AUDITOR))


def test_all_auditors_must_have_signed(world: World) -> None:
    both = {"auditors_all": (AUDITOR, OTHER_AUDITOR)}
    vouch(world)
    assert world.refused(make_order().tenant, order(**both)) == "no_match"
    vouch(world, OTHER_AUDITOR, machine="m2")
    assert world.order(attributes=("soc2=1",), **both).machine == "m2"


def test_auditors_without_attributes_vouch_for_anything(world: World) -> None:
    vouch(world, machine="m2", attributes=("x=y",))
    assert world.order(auditors_any=(AUDITOR,)).machine == "m2"


def test_what_auditors_say_expires(world: World) -> None:
    vouch(world, expires_at_s=world.now_s + 10)
    world.order(auditors_any=(AUDITOR,))
    world.now_s += 10
    assert (
        world.refused(make_order().tenant, order(auditors_any=(AUDITOR,))) == "no_match"
    )


def test_revoked_counts_no_more(world: World) -> None:
    vouch(world)
    vouch(world, attributes=())
    for wish in ({}, {"attributes": ("soc2=1",)}):
        refused = make_order(auditors_any=(AUDITOR,), **wish)
        assert world.refused(refused.tenant, refused) == "no_match"


REFUSED = [
    # who, what is changed, the code
    (PROVIDER, {}, "self_attestation"),
    (AUDITOR, {"attributes": ("Soc2=1",)}, "bad_wording"),
    (AUDITOR, {"expires_at_s": START_S}, "attestation_expired"),
    (AUDITOR, {"provider": OTHER_PROVIDER, "attributes": ()}, "unknown_attestation"),
    (AUDITOR, {"signed_at_s": START_S - 1}, "stale_attestation"),
]


@pytest.mark.parametrize(("auditor", "changed", "code"), REFUSED)
def test_wrong_attestation_is_refused(
    world: World, auditor: str, changed: dict[str, Any], code: str
) -> None:
    vouch(world)
    fields = {
        "provider": PROVIDER,
        "machine": "",
        "attributes": ("soc2=1",),
        "expires_at_s": START_S + 9,
        "signed_at_s": START_S,
        "salt": 99,
    }
    assert world.refused(auditor, Attestation(**(fields | changed))) == code


def test_withheld_attestation_does_not_undo_a_revocation(world: World) -> None:
    withheld = Attestation(PROVIDER, "", ("soc2=1",), START_S + 9_999, START_S, 5)
    vouch(world)
    world.now_s += 1
    vouch(world, attributes=())
    world.now_s += DOCUMENT_AGE_S_MAX
    assert world.refused(AUDITOR, withheld) == "stale_attestation"
