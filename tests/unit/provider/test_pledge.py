"""What binds a lease whatever a node says."""

from typing import Any

import pytest
from msgspec.structs import replace

from sublet.base.errors import PeerFault, Refused
from sublet.provider.pledge import FIXED, check_order, find_changes
from sublet.wire.codec import sign
from sublet.wire.typed_data import digest
from tests.fakes.world import make_key
from tests.unit.workload.run.test_evidence import LEASE, ORDER, WORLD

SIGNED = sign(ORDER, key=WORLD.tenant, domain=WORLD.domain)
ORDER_ID = digest(ORDER, WORLD.domain)
GRANTED = replace(LEASE, id=ORDER_ID, order=ORDER_ID)


def test_lease_as_ordered_is_worked_for() -> None:
    check_order(SIGNED, GRANTED, domain=WORLD.domain)


FORGED: list[dict[str, Any]] = [
    {"id": "0x" + "1" * 64},  # made up by the node
    {"tenant": "0x" + "1" * 40},
    {"ssh_key": "ssh-ed25519 CCCC"},  # so that the node could log in
    {"manifest": "0x" + "1" * 64},
    {"price_hour": 101},
    {"duration_s": 61},
    {"delegation": "0x" + "1" * 64},
]


@pytest.mark.parametrize("change", FORGED, ids=lambda change: next(iter(change)))
def test_forged_lease_is_named(change: dict[str, Any]) -> None:
    with pytest.raises(PeerFault) as caught:
        check_order(SIGNED, replace(GRANTED, **change), domain=WORLD.domain)
    assert caught.value.code == "lease_forged"


def test_only_the_tenant_signs_its_order() -> None:
    other = sign(ORDER, key=make_key("somebody"), domain=WORLD.domain)
    with pytest.raises(PeerFault, match="signer"):
        check_order(other, GRANTED, domain=WORLD.domain)
    with pytest.raises(Refused) as caught:
        check_order(None, GRANTED, domain=WORLD.domain)
    assert caught.value.code == "no_order"


@pytest.mark.parametrize("name", FIXED)
def test_fixed_fields_are_watched(name: str) -> None:
    """A node that told another key later would get itself a shell in the lease."""
    value = getattr(GRANTED, name)
    other = value + 1 if isinstance(value, int) else (*value, "x")  # type: ignore[misc]
    if isinstance(value, str):
        other = value + "x"  # type: ignore[assignment]
    assert find_changes(GRANTED, replace(GRANTED, **{name: other})) == [name]


def test_course_of_a_lease_is_no_lie() -> None:
    moved = replace(GRANTED, started_at_s=5, ran_ms=7, owed=3, reason="exited", hold=0)
    assert find_changes(GRANTED, moved) == []
