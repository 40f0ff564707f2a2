"""The owner's own book: what is signed, and what is not."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from sublet.core.document import Offer
from sublet.provider.bid_record import BidMade
from sublet.provider.commitment import (
    NotOurs,
    check_match,
    choose_uid,
    compute_floor_of_slice,
    make_terms,
)
from sublet.provider.lease_state import Stage
from sublet.provider.record import LeaseRecord
from tests.unit.provider.lease_maker import (
    GIB,
    HOST_KEY,
    PROVIDER,
    make_lease,
    make_record,
)

OFFER = Offer(
    machine="box",
    cpus_milli=4_000,
    memory_bytes=8 * GIB,
    disk_bytes=16 * GIB,
    gpu_model="h200",
    gpu_memory_bytes=141 * GIB,
    gpu_uuids=("GPU-0", "GPU-1"),
    region="DE",
    sandboxes=("bubblewrap",),
    features=(),
    cpu_price_hour=10_001,
    memory_price_hour=2_000,
    gpu_price_hour=400_000,
    cpu_score=1,
    disk_score=1,
    gpu_score=1,
    ssh_host_key=HOST_KEY,
    seal_key="",
    endpoint="",
    leases_max=0,
    refuses=(),
    expires_at_s=9_999,
    signed_at_s=1,
    salt=1,
)
WANTED = make_lease(9, price_hour=412_001, gpu_uuids=("GPU-0",))


def _code(lease_changes: dict[str, object], records: Sequence[LeaseRecord] = ()) -> str:
    lease = replace(WANTED, **lease_changes)
    try:
        check_match(lease, offer=OFFER, provider=PROVIDER, records=records)
    except NotOurs as fault:
        return fault.code
    return "signed"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "signed"),  # exactly the floor
        ({"price_hour": 9_000_000}, "signed"),  # the runner-up was dear
        ({"price_hour": 412_000}, "below_floor"),
        ({"provider": "0x" + "8" * 40}, "not_ours"),
        ({"ssh_host_key": "ssh-ed25519 AAAAother"}, "not_ours"),
        ({"gpu_uuids": ("GPU-7",)}, "not_offered"),
        ({"sandbox": "bubblewrap"}, "signed"),
        ({"sandbox": "gvisor"}, "not_offered"),
        ({"features": ("image",)}, "not_offered"),
        ({"memory_bytes": 9 * GIB, "price_hour": 10**7}, "machine_full"),
    ],
)
def test_checks_match_against_offer(changes: dict[str, object], code: str) -> None:
    assert _code(changes) == code


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([], "signed"),
        ([make_record(1, gpu_uuids=("GPU-1",))], "signed"),
        ([make_record(1, gpu_uuids=("GPU-0",))], "gpu_promised"),
        ([make_record(1, Stage.ACCEPTED, gpu_uuids=("GPU-0",))], "gpu_promised"),
        ([make_record(1, Stage.ERASING, gpu_uuids=("GPU-0",))], "gpu_promised"),
        ([make_record(1, Stage.ENDED, gpu_uuids=("GPU-0",))], "signed"),  # free again
        ([make_record(1, cpus_milli=3_000)], "signed"),  # the machine is full now
        ([make_record(1, cpus_milli=3_001)], "machine_full"),
        ([make_record(n, cpus_milli=1_000) for n in range(4)], "machine_full"),
        ([make_record(9, gpu_uuids=("GPU-0",))], "signed"),  # the same lease again
    ],
)
def test_promises_nothing_twice(records: list[LeaseRecord], code: str) -> None:
    assert _code({}, records) == code


@pytest.mark.parametrize(
    ("offer", "records", "code"),
    [
        ({"refuses": (WANTED.tenant,)}, [], "refused_tenant"),
        ({"refuses": (PROVIDER,)}, [], "signed"),
        ({"leases_max": 1}, [], "signed"),
        ({"leases_max": 1}, [make_record(1)], "machine_full"),
        ({"leases_max": 1}, [make_record(1, Stage.ERASING)], "signed"),  # it is over
        ({"leases_max": 2}, [make_record(1)], "signed"),
    ],
)
def test_keeps_to_the_owners_word(
    offer: dict[str, object], records: list[LeaseRecord], code: str
) -> None:
    changed = replace(OFFER, **offer)
    try:
        check_match(WANTED, offer=changed, provider=PROVIDER, records=records)
    except NotOurs as fault:
        assert fault.code == code
    else:
        assert code == "signed"


def test_rounds_each_part_up() -> None:
    floor = compute_floor_of_slice(
        OFFER, cpus_milli=1_500, memory_bytes=GIB // 3, gpus=2
    )
    assert floor == 15_002 + 667 + 800_000


def test_signs_the_match_as_it_is() -> None:
    terms = make_terms(WANTED, now_s=5, salt=6)
    for field in ("offer_id", "tenant", "provider", "price_hour", "duration_s"):
        assert getattr(terms, field) == getattr(WANTED, field)
    assert terms.lease_id == WANTED.id


def test_gives_each_job_its_uid() -> None:
    assert choose_uid([], first=100) == 100
    assert choose_uid([100, 101, 103], first=100) == 102


# ---- a bid of its own ---------------------------------------------------------------

CHEAP = replace(WANTED, price_hour=100_000, order=WANTED.id)
MADE = BidMade(
    machine=CHEAP.machine,
    price_hour=100_000,
    cpus_milli=CHEAP.cpus_milli,
    memory_bytes=CHEAP.memory_bytes,
    disk_bytes=CHEAP.disk_bytes,
    gpu_count=1,
    duration_s=CHEAP.duration_s,
)


def _won(**changes: object) -> str:
    try:
        check_match(
            replace(CHEAP, **changes),
            offer=OFFER,
            provider=PROVIDER,
            records=(),
            bid=MADE,
        )
    except NotOurs as fault:
        return fault.code
    return ""


def test_own_bid_below_the_floor_is_kept() -> None:
    assert _won() == ""
    assert _won(price_hour=150_000) == ""  # what the next one asked
    assert _code({"price_hour": 100_000}) == "below_floor"  # nobody bid for that


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"price_hour": 99_999}, "below_floor"),
        ({"cpus_milli": CHEAP.cpus_milli + 1}, "not_bid"),
        ({"memory_bytes": CHEAP.memory_bytes + 1}, "not_bid"),
        ({"disk_bytes": CHEAP.disk_bytes + 1}, "not_bid"),
        ({"gpu_uuids": ("GPU-0", "GPU-1")}, "not_bid"),
        ({"duration_s": CHEAP.duration_s + 1}, "not_bid"),
        ({"machine": "m2"}, "not_bid"),
        ({"id": "0x" + "ee" * 32}, "not_bid"),  # a second lease of the same order
    ],
)
def test_one_bid_is_for_one_lease(changes: dict[str, object], code: str) -> None:
    assert _won(**changes) == code
