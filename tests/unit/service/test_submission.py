"""Ages of documents: from the future, from long ago, and those that carry no time."""

import pytest
from msgspec.structs import replace

from sublet.base import limits
from sublet.core.document import Tick
from sublet.service.submission import Untimely, check_age, find_lease_id
from tests.fakes.world import START_S, World


@pytest.mark.parametrize(
    "off_s",
    [
        0,
        limits.CLOCK_SKEW_S_MAX,  # just not too far ahead
        -limits.DOCUMENT_AGE_S_MAX,  # just not too old
    ],
)
def test_takes_plausible_times(off_s: int) -> None:
    check_age(Tick(signed_at_s=START_S + off_s, salt=0), now_s=START_S)


@pytest.mark.parametrize(
    ("off_s", "code"),
    [
        (limits.CLOCK_SKEW_S_MAX + 1, "signed_ahead"),
        (-limits.DOCUMENT_AGE_S_MAX - 1, "signed_long_ago"),
        (3_601, "signed_ahead"),  # a clock wrong by an hour, either way
        (-3_601, "signed_long_ago"),
    ],
)
def test_refuses_implausible_times(off_s: int, code: str) -> None:
    with pytest.raises(Untimely, match="set your clock") as caught:
        check_age(Tick(signed_at_s=START_S + off_s, salt=0), now_s=START_S)
    assert caught.value.code == code
    assert caught.value.detail == {"signed_at_s": START_S + off_s, "node_at_s": START_S}


def test_timeless_documents_are_never_old() -> None:
    world = World()
    market = replace(world.market, signed_at_s=1)
    check_age(market, now_s=START_S)
    order = world.order()
    check_age(order.document, now_s=START_S)


def test_knows_the_lease_of_documents() -> None:
    world = World()
    order = world.order()
    assert find_lease_id(order) == order.id
    stop = world.say(Tick(signed_at_s=START_S, salt=0), world.operator)
    assert find_lease_id(stop) is None
