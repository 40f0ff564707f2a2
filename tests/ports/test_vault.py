"""What every vault must do: one suite for the fake and the real ones.

Two nodes ask: ``vault`` and ``other``. Where only one process may use the place, both
are the same object.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from sublet.adapter.vault_folder import FolderVault
from sublet.adapter.vault_postgres import PostgresVault
from sublet.base.errors import Refused
from sublet.service.vault_port import ClaimLost, JobVault, Standing, Vault
from tests.fakes.vault_memory import MemoryVault

ALICE, BOB = "0x" + "a" * 40, "0x" + "b" * 40
JOB = "0123456789ab"
LEASE = "0x" + "1" * 64
LONG_MS = 600_000
STREAM = {"lease": LEASE, "stream": "stdout"}


class Nodes(NamedTuple):
    """Two nodes' ways to one place."""

    vault: Vault
    other: Vault

    @property
    def job(self) -> JobVault:
        return self.vault.find(ALICE, JOB)

    @property
    def same(self) -> JobVault:
        return self.other.find(ALICE, JOB)


@pytest.fixture(params=["fake", "folder", "postgres"])
def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Nodes]:
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        nodes = Nodes(PostgresVault(url), PostgresVault(url))
    else:
        one: Vault = MemoryVault()
        if request.param == "folder":
            one = FolderVault(tmp_path / "jobs")
        nodes = Nodes(one, one)
    yield nodes
    nodes.vault.close()
    nodes.other.close()
    nodes.vault.close()


def claim(job: JobVault, holder: str = "one", *, span_ms: int = LONG_MS) -> int:
    epoch = job.claim(holder, span_ms=span_ms)
    assert epoch is not None
    return epoch


def get_standing(job: JobVault) -> Standing:
    stands = job.stand()
    assert stands is not None
    return stands


def test_knows_nothing_of_a_job_without_plan(nodes: Nodes) -> None:
    assert nodes.job.stand() is None
    assert nodes.job.read_plan() is None
    nodes.job.start()
    nodes.job.stop()
    assert nodes.job.claim("one", span_ms=LONG_MS) is None
    assert nodes.vault.survey() == []
    assert nodes.vault.measure() == 0


@pytest.mark.parametrize("name", ["", "0123456789AB", "../../../etc", JOB + "0"])
def test_refuses_what_names_no_job(nodes: Nodes, name: str) -> None:
    with pytest.raises(Refused) as caught:
        nodes.vault.find(ALICE, name)
    assert caught.value.code == "bad_job"


def test_first_plan_stands(nodes: Nodes) -> None:
    assert nodes.job.begin(b"plan") == b"plan"
    assert nodes.same.begin(b"another") == b"plan"
    assert nodes.same.read_plan() == b"plan"
    assert nodes.vault.measure() == len(b"plan")


def test_marks_stay(nodes: Nodes) -> None:
    nodes.job.begin(b"plan")
    stands = get_standing(nodes.same)
    assert (stands.tenant, stands.id) == (ALICE, JOB)
    assert stands.kept_at_s > 0
    assert not (stands.started_at_s or stands.stopped_at_s or stands.ended_at_s)
    for _ in range(2):
        nodes.same.start()
        nodes.same.stop()
    stands = get_standing(nodes.job)
    assert stands.started_at_s >= stands.kept_at_s
    assert stands.stopped_at_s >= stands.kept_at_s
    assert not stands.ended_at_s
    nodes.job.end(epoch=claim(nodes.job))
    assert get_standing(nodes.same).ended_at_s


def test_surveys_by_tenant(nodes: Nodes) -> None:
    for tenant in (ALICE, BOB):
        nodes.vault.find(tenant, JOB).begin(b"plan")
    assert [one.tenant for one in nodes.other.survey()] == [ALICE, BOB]
    assert [one.tenant for one in nodes.other.survey(BOB)] == [BOB]


def test_one_holds_a_job(nodes: Nodes) -> None:
    nodes.job.begin(b"plan")
    assert not get_standing(nodes.job).is_held
    assert claim(nodes.job) == 1
    assert get_standing(nodes.same).is_held
    assert nodes.same.claim("two", span_ms=LONG_MS) is None
    assert nodes.job.claim("one", span_ms=LONG_MS) is None, "not even its holder"
    nodes.job.release(epoch=1)
    assert claim(nodes.same, "two") == 2
    nodes.job.release(epoch=1)
    assert get_standing(nodes.job).is_held, "an old claim gives nothing back"


def test_claim_that_ran_out_is_another_s(nodes: Nodes) -> None:
    nodes.job.begin(b"plan")
    first = claim(nodes.job, span_ms=0)
    second = claim(nodes.same, "two")
    assert second > first
    assert nodes.vault.renew("one", span_ms=LONG_MS) == frozenset()
    assert nodes.other.renew("two", span_ms=LONG_MS) == {(ALICE, JOB)}


def test_renewed_claim_holds_again(nodes: Nodes) -> None:
    nodes.job.begin(b"plan")
    epoch = claim(nodes.job, span_ms=0)
    assert nodes.vault.renew("one", span_ms=LONG_MS) == {(ALICE, JOB)}
    assert nodes.same.claim("two", span_ms=LONG_MS) is None
    nodes.job.write("state", b"mine", epoch=epoch)


def test_released_claim_is_not_renewed(nodes: Nodes) -> None:
    nodes.job.begin(b"plan")
    nodes.job.release(epoch=claim(nodes.job))
    assert nodes.vault.renew("one", span_ms=LONG_MS) == frozenset()


def test_nobody_claims_what_is_over(nodes: Nodes) -> None:
    nodes.job.begin(b"plan")
    nodes.job.end(epoch=claim(nodes.job, span_ms=0))
    assert nodes.same.claim("two", span_ms=LONG_MS) is None


def test_record_is_replaced_whole(nodes: Nodes) -> None:
    nodes.job.begin(b"plan")
    epoch = claim(nodes.job)
    assert nodes.job.read("state") is None
    nodes.job.write("state", b"long and first", epoch=epoch)
    nodes.job.write("state", b"second", epoch=epoch)
    nodes.job.write("channel-0x12", b"\0\xff", epoch=epoch)
    assert nodes.same.read("state") == b"second"
    assert nodes.same.read("channel-0x12") == b"\0\xff"


def test_older_claim_writes_nothing(nodes: Nodes) -> None:
    nodes.job.begin(b"plan")
    old = claim(nodes.job, span_ms=0)
    nodes.job.write("state", b"old", epoch=old)
    new = claim(nodes.same, "two")
    for write in (
        lambda: nodes.job.write("state", b"frozen", epoch=old),
        lambda: nodes.job.write("other", b"frozen", epoch=old),
        lambda: nodes.job.append_stream(**STREAM, content=b"x", offset=0, epoch=old),
        lambda: nodes.job.end(epoch=old),
    ):
        with pytest.raises(ClaimLost):
            write()
    assert nodes.same.read("state") == b"old"
    assert nodes.same.read("other") is None
    assert nodes.same.read_stream(**STREAM, offset=0, limit=9) == b""
    assert not get_standing(nodes.same).ended_at_s
    nodes.same.write("state", b"new", epoch=new)
    assert nodes.job.read("state") == b"new"


def test_nothing_is_written_without_claim(nodes: Nodes) -> None:
    with pytest.raises(ClaimLost):
        nodes.job.write("state", b"x", epoch=1)
    nodes.job.begin(b"plan")
    with pytest.raises(ClaimLost):
        nodes.job.write("state", b"x", epoch=1)


def test_stream_is_read_from_any_byte(nodes: Nodes) -> None:
    nodes.job.begin(b"plan")
    epoch = claim(nodes.job)
    for offset, content in ((0, b"abc"), (3, b"d"), (4, b"efgh")):
        nodes.job.append_stream(**STREAM, content=content, offset=offset, epoch=epoch)
    for offset in range(9):
        found = nodes.same.read_stream(**STREAM, offset=offset, limit=100)
        assert found == b"abcdefgh"[offset:]
    assert nodes.same.read_stream(**STREAM, offset=2, limit=3) == b"cde"
    nothing = {"lease": LEASE, "stream": "stderr"}
    assert nodes.same.read_stream(**nothing, offset=0, limit=9) == b""


def test_same_piece_twice_is_harmless(nodes: Nodes) -> None:
    nodes.job.begin(b"plan")
    epoch = claim(nodes.job)
    for content in (b"ab", b"abcd"):  # the answer to the first was lost; more has come
        nodes.job.append_stream(**STREAM, content=content, offset=0, epoch=epoch)
    assert nodes.same.read_stream(**STREAM, offset=0, limit=9) == b"abcd"


def test_chunks_belong_to_their_job(nodes: Nodes) -> None:
    for tenant in (ALICE, BOB):
        nodes.vault.find(tenant, JOB).begin(b"plan")
    key = nodes.job.blobs.put(b"sealed")
    nodes.job.blobs.put(b"sealed")
    assert list(nodes.same.blobs.keys()) == [key]
    assert nodes.same.blobs.get(key) == b"sealed"
    assert nodes.vault.measure() == len(b"plan" * 2 + b"sealed")
    bob = nodes.vault.find(BOB, JOB)
    assert not bob.blobs.has(key)
    bob.blobs.drop(key)
    assert nodes.job.blobs.has(key)
    nodes.job.blobs.drop(key)
    nodes.job.blobs.drop(key)
    assert not nodes.same.blobs.has(key)


def test_dropped_job_leaves_nothing(nodes: Nodes) -> None:
    nodes.job.begin(b"plan")
    epoch = claim(nodes.job)
    nodes.job.write("state", b"x", epoch=epoch)
    nodes.job.append_stream(**STREAM, content=b"x", offset=0, epoch=epoch)
    key = nodes.job.blobs.put(b"sealed")
    nodes.same.drop()
    nodes.same.drop()
    with pytest.raises(ClaimLost):
        nodes.job.write("state", b"y", epoch=epoch)
    assert nodes.vault.survey() == []
    assert nodes.vault.measure() == 0
    assert nodes.vault.renew("one", span_ms=LONG_MS) == frozenset()
    nodes.job.begin(b"new")  # of the same name: nothing of the old one comes back
    assert nodes.job.read("state") is None
    assert not nodes.job.blobs.has(key)
    assert nodes.job.read_stream(**STREAM, offset=0, limit=9) == b""
