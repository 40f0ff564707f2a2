"""What an offer promises is what the book holds against it."""

from typing import Any

import pytest

from sublet.core.promise import find_unmet
from tests.unit.core.book.test_wish import ONE, WISHES
from tests.unit.core.book.world import TENANT, make_offer, make_order

# an offer, an order that it does not meet for a reason of no row of WISHES
OTHERS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"region": "DE"}, {"regions": ("FR", "US")}, "region"),
    ({"region": ""}, {"regions": ("FR",)}, "region"),
    ({"features": ("image",)}, {"features": ("image", "egress")}, "features"),
    ({"sandboxes": ("bubblewrap",)}, {"sandbox": "gvisor"}, "sandbox"),
    ({"refuses": (TENANT,)}, {}, "refused"),
    ({"gpu_score": 0}, {"work": "gpu"}, "speed"),
    ({}, {"gpu_count": 1, "gpu_memory_bytes": 1}, "gpu_memory_bytes"),
]


@pytest.mark.parametrize(("offer", "met", "unmet", "name"), WISHES)
def test_agrees_with_the_book(
    offer: dict[str, Any], met: dict[str, Any], unmet: dict[str, Any], name: str
) -> None:
    gpu = ONE if "gpu_uuids" in offer else {}
    held = make_offer(**offer)
    assert find_unmet(held, make_order(**gpu, **met)) == ()
    [missed] = find_unmet(held, make_order(**gpu, **unmet))
    assert missed in (name, name.partition(" ")[0], "attributes")


@pytest.mark.parametrize(("offer", "wish", "name"), OTHERS)
def test_names_what_is_missed(
    offer: dict[str, Any], wish: dict[str, Any], name: str
) -> None:
    assert find_unmet(make_offer(**offer), make_order(**wish)) == (name,)


def test_auditors_words_are_not_asked_of_the_owner() -> None:
    order = make_order(attributes=("soc2=1",), auditors_any=(TENANT,))
    assert find_unmet(make_offer(), order) == ()


def test_larger_region_takes_its_parts() -> None:
    order = make_order(regions=("US",), jurisdictions=("DE",))
    offer = make_offer(region="US-CA", jurisdiction="DE-BY")
    assert find_unmet(offer, order) == ()
