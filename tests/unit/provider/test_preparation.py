"""What a provider runs of what was delivered: what the order committed to, and no more."""

import pytest
from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.provider.preparation import check_delivery
from sublet.wire.codec import sign
from sublet.wire.manifest import commitment
from sublet.wire.message import Deliver, FileEntry, Own, Tree
from tests.integration.provider_house import make_manifest
from tests.unit.provider.lease_maker import make_lease
from tests.unit.workload.run.test_evidence import ORDER, WORLD

MANIFEST = make_manifest("true", env={"A": "1", "RANK": "x"}, checkpoint="ckpt")
LEASE = make_lease(manifest=commitment(MANIFEST), disk_bytes=MANIFEST.disk_bytes)
CHUNK = "0x" + "5" * 64
OWN = Own(
    env={"RANK": "1"}, resume=Tree(files=(FileEntry("step", 1, 0o644, (CHUNK,)),))
)


def deliver(*, machines: int, own: Own | None = OWN) -> Deliver:
    order = sign(
        replace(ORDER, machines=machines), key=WORLD.tenant, domain=WORLD.domain
    )
    return Deliver(manifest=MANIFEST, order=order, own=own)


def test_member_of_a_gang_has_its_own_beside_the_manifest() -> None:
    runs = check_delivery(deliver(machines=2), LEASE)
    assert runs == replace(MANIFEST, env={"A": "1", "RANK": "1"}, resume=OWN.resume)
    assert check_delivery(deliver(machines=2, own=None), LEASE) == MANIFEST


def test_lone_lease_runs_what_was_committed_to() -> None:
    assert check_delivery(deliver(machines=1, own=None), LEASE) == MANIFEST
    with pytest.raises(Refused) as caught:
        check_delivery(deliver(machines=1), LEASE)
    assert caught.value.code == "not_a_gang"
    with pytest.raises(Refused) as caught:
        check_delivery(Deliver(manifest=MANIFEST, own=OWN), LEASE)
    assert caught.value.code == "not_a_gang"


def test_own_checkpoint_has_to_fit_the_lease() -> None:
    large = replace(OWN.resume.files[0], size=MANIFEST.disk_bytes + 1)
    chunks = (CHUNK,) * (large.size // (4 << 20) + 1)
    own = Own(env={}, resume=Tree(files=(replace(large, chunks=chunks),)))
    with pytest.raises(Refused) as caught:
        check_delivery(deliver(machines=2, own=own), LEASE)
    assert caught.value.code == "not_leased"
