"""What a market and a provider say, checked before it counts."""

from typing import Any

import pytest
from msgspec import structs

from sublet.base.errors import PeerFault
from sublet.base.ids import NO_DIGEST
from sublet.core.document import Order, Receipt, UsageRecord
from sublet.core.egress import EgressRow, EgressTable
from sublet.core.lease.phase import Lease, Phase
from sublet.wire.codec import sign
from sublet.wire.manifest import egress_digest, tree_id
from sublet.wire.message import Ended, FileEntry, Metered, Tree
from sublet.workload.run.evidence import (
    check_ended,
    check_files,
    check_lease,
    check_metered,
)
from tests.fakes.world import World

WORLD = World()
PROVIDER = WORLD.providers[0]
ID = "0x" + "1" * 64
CHUNK = "0x" + "2" * 64
ORDER = Order(
    tenant=WORLD.tenant.address,
    cpus_milli=1_000,
    memory_bytes=100,
    disk_bytes=100,
    gpu_models=(),
    gpu_count=1,
    gpu_memory_bytes=0,
    regions=(),
    sandbox="",
    features=(),
    avoid=(WORLD.providers[1].address,),
    price_hour_max=100,
    total_max=100,
    duration_s_max=60,
    manifest=NO_DIGEST,
    ssh_key="ssh-ed25519 AAAA",
    delegation=NO_DIGEST,
    signed_at_s=1,
    salt=1,
)
LEASE = Lease(
    id=ID,
    order=ID,
    offer_id=ID,
    tenant=ORDER.tenant,
    provider=PROVIDER.address,
    machine="box",
    phase=Phase.MATCHED,
    price_hour=100,
    duration_s=60,
    hold=100,
    cpus_milli=1_000,
    memory_bytes=100,
    disk_bytes=100,
    gpu_uuids=("GPU-1",),
    manifest=NO_DIGEST,
    sandbox="",
    features=(),
    ssh_key=ORDER.ssh_key,
    ssh_host_key="ssh-ed25519 BBBB",
    endpoint="",
    matched_at_s=1,
    deadline_s=2,
)


def file(path: str, *, size: int = 1) -> FileEntry:
    return FileEntry(path=path, size=size, mode=0o644, chunks=(CHUNK,))


def test_lease_as_ordered_is_taken() -> None:
    check_lease(LEASE, order=ORDER, order_id=ID)


WORSE: list[dict[str, Any]] = [
    {"id": "0x" + "9" * 64},
    {"tenant": WORLD.operator.address},
    {"price_hour": 101},
    {"hold": 101},
    {"duration_s": 61},
    {"cpus_milli": 999},
    {"memory_bytes": 99},
    {"disk_bytes": 99},
    {"gpu_uuids": ()},
    {"manifest": ID},
    {"ssh_key": "ssh-ed25519 CCCC"},
    {"provider": WORLD.providers[1].address},
]


@pytest.mark.parametrize("change", WORSE, ids=lambda change: next(iter(change)))
def test_worse_lease_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PeerFault):
        check_lease(structs.replace(LEASE, **change), order=ORDER, order_id=ID)


def metered(*, key: Any = PROVIDER, lease_id: str = ID) -> Metered:
    record = UsageRecord(
        lease_id=lease_id,
        sequence=1,
        ran_ms=5,
        cpu_ms=1,
        memory_bytes_max=1,
        signed_at_s=1,
        salt=1,
    )
    signed = sign(record, key=key, domain=WORLD.domain)
    return Metered(record=signed, owed=1, channel_total=1)


def test_record_of_the_provider_counts() -> None:
    record = check_metered(metered(), lease=LEASE, domain=WORLD.domain)
    assert record.ran_ms == 5


def test_record_of_anybody_else_does_not() -> None:
    other = Metered(
        record=sign(WORLD.market, key=PROVIDER, domain=None), owed=1, channel_total=1
    )
    for said, code in (
        (metered(key=WORLD.providers[1]), "wrong_signer"),
        (metered(lease_id="0x" + "7" * 64), "wrong_signer"),
        (other, "wrong_document"),
    ):
        with pytest.raises(PeerFault) as caught:
            check_metered(said, lease=LEASE, domain=WORLD.domain)
        assert caught.value.code == code


def ended(
    *,
    hashed: Tree,
    sent: Tree,
    reached: EgressTable | None = None,
    told: EgressTable | None = None,
) -> Ended:
    receipt = Receipt(
        lease_id=ID,
        ran_ms=5,
        exit_code=0,
        reason="exited",
        outputs=tree_id(hashed) if hashed.files else NO_DIGEST,
        stdout=NO_DIGEST,
        stderr=NO_DIGEST,
        egress=egress_digest(reached),
        signed_at_s=1,
        salt=1,
    )
    signed = sign(receipt, key=PROVIDER, domain=WORLD.domain)
    return Ended(receipt=signed, outputs=sent, owed=0, channel_total=0, egress=told)


TREE, OTHER, NOTHING = (
    Tree(files=(file("a"),)),
    Tree(files=(file("b"),)),
    Tree(files=()),
)


@pytest.mark.parametrize("tree", [TREE, NOTHING])
def test_receipt_for_these_files_counts(tree: Tree) -> None:
    said = ended(hashed=tree, sent=tree)
    assert check_ended(said, lease=LEASE, domain=WORLD.domain).exit_code == 0


@pytest.mark.parametrize(
    ("hashed", "sent"), [(TREE, OTHER), (TREE, NOTHING), (NOTHING, TREE)]
)
def test_receipt_for_other_files_does_not(hashed: Tree, sent: Tree) -> None:
    with pytest.raises(PeerFault) as caught:
        check_ended(ended(hashed=hashed, sent=sent), lease=LEASE, domain=WORLD.domain)
    assert caught.value.code == "bad_output"


REACHED = EgressTable(salt="0" * 32, rows=(EgressRow("a.org:443", 1, 2, 3),))
FEWER = EgressTable(salt="0" * 32, rows=())


def test_table_that_was_hashed_counts() -> None:
    said = ended(hashed=NOTHING, sent=NOTHING, reached=REACHED, told=REACHED)
    assert check_ended(said, lease=LEASE, domain=WORLD.domain).egress != NO_DIGEST


@pytest.mark.parametrize(
    ("reached", "told"), [(REACHED, FEWER), (REACHED, None), (None, REACHED)]
)
def test_table_that_differs_does_not(
    reached: EgressTable | None, told: EgressTable | None
) -> None:
    said = ended(hashed=NOTHING, sent=NOTHING, reached=reached, told=told)
    with pytest.raises(PeerFault) as caught:
        check_ended(said, lease=LEASE, domain=WORLD.domain)
    assert caught.value.code == "bad_egress"


FILES = [
    # what comes, what was asked for, whether it is taken
    ((file("model/a"),), ("model",), True),
    ((file("model"),), ("model",), True),
    ((file("models"),), ("model",), False),
    ((file("model/../x"),), ("model",), False),
    ((file("/etc/passwd"),), (), False),
    ((file("../x"),), (), False),
    ((file("big", size=4_000_000),), (), False),  # more than the disk
    ((file("x"),), ("",), False),  # nothing was asked for
]


@pytest.mark.parametrize(("files", "asked", "is_taken"), FILES)
def test_only_files_asked_for_are_taken(
    files: tuple[FileEntry, ...], asked: tuple[str, ...], is_taken: bool
) -> None:
    tree = Tree(files=files)
    if is_taken:
        check_files(tree, asked=asked, bytes_max=1_000)
        return
    with pytest.raises(PeerFault) as caught:
        check_files(tree, asked=asked, bytes_max=1_000)
    assert caught.value.code == "bad_output"
