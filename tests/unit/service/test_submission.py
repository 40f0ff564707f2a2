"""Ages of documents: from the future, from long ago, and those that carry no time.

And those who wait for what becomes of documents.
"""

import pytest
from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import Unavailable
from sublet.core.document import Tick
from sublet.service.submission import (
    Result,
    Untimely,
    check_age,
    find_lease_id,
    wait_together,
)
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


async def test_results_come_together_in_order() -> None:
    candidates = [World().order() for _ in range(3)]
    waiting, answer = wait_together(candidates)
    assert [each.candidate for each in waiting] == candidates
    results = [Result(each.id, index) for index, each in enumerate(candidates)]
    for place in (2, 0):
        waiting[place].resolve(results[place])
        assert not answer.done()
    waiting[1].resolve(results[1])
    assert await answer == results


async def test_nothing_is_answered_at_once() -> None:
    assert await wait_together([])[1] == []


async def test_failure_is_told_once() -> None:
    waiting, answer = wait_together([World().order() for _ in range(2)])
    waiting[0].resolve(Result(waiting[0].candidate.id, 0))
    waiting[1].fail(Unavailable("the disk is full"))
    waiting[0].fail(Unavailable("the market has stopped"))
    with pytest.raises(Unavailable, match="the disk is full"):
        await answer


async def test_nobody_may_wait_any_more() -> None:
    waiting, answer = wait_together([World().order()])
    answer.cancel()
    waiting[0].resolve(Result(waiting[0].candidate.id, 0))
    waiting[0].fail(Unavailable("the disk is full"))
    assert answer.cancelled()
