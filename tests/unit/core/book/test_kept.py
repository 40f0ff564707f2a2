"""What is kept small comes back whole."""

from sublet.core.book.kept import keep, restore
from sublet.core.book.record import OfferRecord
from tests.unit.core.book.world import PROVIDER, digest, make_offer

RECORD = OfferRecord(
    id=digest(1),
    number=7,
    provider=PROVIDER,
    offer=make_offer(
        gpu_model="h200",
        gpu_uuids=("a", "b"),
        features=("image", "egress"),
        refuses=(PROVIDER,),
    ),
    is_withdrawn=True,
    cpus_milli_used=1,
    memory_bytes_used=2,
    disk_bytes_used=3,
    gpus_used=frozenset({"b"}),
    leases_used=1,
)


def test_comes_back_equal() -> None:
    assert restore(keep(RECORD)) == RECORD


def test_keeps_every_field() -> None:
    for field in RECORD.__struct_fields__:
        blank = OfferRecord(digest(0), 0, PROVIDER, make_offer())
        assert getattr(RECORD, field) != getattr(blank, field) or field == "provider"
