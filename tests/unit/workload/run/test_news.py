"""What is told of a step, and that most steps are not worth a word."""

from typing import Any

import pytest
from msgspec.structs import replace

from sublet.core.job.state import Attempt, Job, JobPhase
from sublet.workload.run import event
from sublet.workload.run.news import find_news

ATTEMPT = Attempt(
    lease_id="0x" + "a" * 64,
    provider="0x" + "b" * 40,
    machine="rig",
    price_hour=7,
    hold=9,
    duration_s=60,
    granted_at_ms=1,
    since_ms=1,
    outcome="provider_lost",
)
RUNNING = Job(phase=JobPhase.RUNNING, attempts=(ATTEMPT,))


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (Job(), RUNNING, event.Matched),
        (RUNNING, replace(RUNNING, phase=JobPhase.SEEKING), event.Left),
        (RUNNING, replace(RUNNING, phase=JobPhase.COLLECTING), None),
        (Job(), Job(), None),
    ],
)
def test_tells_what_people_care_about(before: Job, after: Job, told: Any) -> None:
    news = find_news(before, after, at_ms=5)
    assert (news and type(news)) is told


def test_waiting_is_told_when_its_reason_changes() -> None:
    first = replace(Job(), is_waiting=True, message="too dear")
    asking = replace(first, is_waiting=False)
    other = replace(first, message="nobody is up")
    told = [find_news(*pair, at_ms=5) for pair in ((Job(), first), (asking, first))]
    assert [isinstance(news, event.Waiting) for news in told] == [True, False]
    assert isinstance(find_news(asking, other, at_ms=5), event.Waiting)


def test_second_machine_is_counted() -> None:
    news = find_news(RUNNING, replace(RUNNING, attempts=(ATTEMPT, ATTEMPT)), at_ms=5)
    assert isinstance(news, event.Matched)
    assert news.attempt == 2


def test_loss_names_its_cause() -> None:
    news = find_news(RUNNING, replace(RUNNING, phase=JobPhase.SEEKING), at_ms=5)
    assert isinstance(news, event.Left)
    assert news.outcome == "provider_lost"
