"""The tenant's half of a key: new each time, under a nonce that another can tell."""

from pathlib import Path

from msgspec.structs import replace

from sublet.core.lease.table import ERASURE
from sublet.wire.message import Deliver, Manifest, Tree
from sublet.workload.run.key_half import KeyHalf
from tests.unit.node.lease import make_lease

EMPTY = Tree(files=())
MANIFEST = Manifest(
    v=1, salt="0" * 32, kind="command", argv=("true",), env={}, secrets={}, inputs=EMPTY,
    outputs=(), checkpoint="", resume=EMPTY, cpus_milli=1_000, memory_bytes=1 << 30,
    disk_bytes=1 << 30, timeout_s=60,
)  # fmt: skip
LEASE = replace(make_lease(), features=(ERASURE,))


def deliver(half: KeyHalf) -> Deliver:
    return half.deliver(Deliver(MANIFEST))


def test_next_controller_knows_the_nonce_and_not_the_half(tmp_path: Path) -> None:
    first, second = (
        deliver(KeyHalf(LEASE, salt="1" * 32, folder=tmp_path)) for _ in range(2)
    )
    assert len(first.nonce) == 32
    assert first.nonce == second.nonce
    assert first.half != second.half
    other = deliver(KeyHalf(LEASE, salt="2" * 32, folder=tmp_path))
    assert other.nonce != first.nonce


def test_wiped_half_is_gone(tmp_path: Path) -> None:
    half = KeyHalf(LEASE, salt="1" * 32, folder=tmp_path)
    half.wipe()
    assert set(deliver(half).half) == {"0"}


def test_nothing_is_drawn_where_nothing_is_erased(tmp_path: Path) -> None:
    said = deliver(KeyHalf(make_lease(), salt="1" * 32, folder=tmp_path))
    assert (said.half, said.nonce) == ("", "")
