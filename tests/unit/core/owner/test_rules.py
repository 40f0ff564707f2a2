"""An owner's rules against how things are; what is on offer, and when again."""

from datetime import UTC

import pytest
from msgspec.structs import replace

from sublet.core.owner.hours import parse_window
from sublet.core.owner.rules import (
    Judgement,
    Rules,
    Sensed,
    Stand,
    decide,
    explain,
    judge,
)

NOON = 1_795_348_800  # Sunday, 2026-11-22 12:00 UTC
CALM = Sensed(
    now_s=NOON,
    idle_s=9_999,
    load_milli=0,
    gpu_strangers=0,
    temperature_c=40,
    gpu_temperature_c=40,
    power_w=50,
)
STRICT = Rules(
    idle_s=600,
    load_milli=1_500,
    gpu_alone=True,
    temperature_c=80,
    gpu_temperature_c=83,
    power_w=300,
    settle_s=60,
)
NIGHTS = Rules(hours=(parse_window("22:00-06:00", field="x"),))


def look(rules: Rules, sensed: Sensed, *, notice_s: int = 30) -> Judgement:
    return judge(rules, sensed, zone=UTC, notice_s=notice_s)


def test_without_rules_everything_holds() -> None:
    nothing = Sensed(now_s=NOON)
    assert look(Rules(), nothing) == Judgement({}, 0)
    assert not Rules().is_any
    assert not Rules(leases_max=1).is_any  # the book keeps that one


FAILING = [
    ({"idle_s": 599}, "idle", "somebody was at this machine 9m 59s ago"),
    ({"idle_s": None}, "idle", "nothing in /dev/input tells"),
    ({"load_milli": 1_501}, "load", "1501 thousandths of a CPU"),
    ({"gpu_strangers": 2}, "gpu_alone", "2 other programs"),
    ({"gpu_strangers": None}, "gpu_alone", "does not tell"),
    ({"temperature_c": 81}, "temperature", "81 degrees, at most 80"),
    ({"temperature_c": None}, "temperature", "does not tell its temperature"),
    ({"gpu_temperature_c": 84}, "gpu_temperature", "84 degrees of a GPU"),
    ({"power_w": 301}, "power", "301 watts"),
]


@pytest.mark.parametrize(("changes", "rule", "words"), FAILING)
def test_names_the_rule_that_fails(
    changes: dict[str, int | None], rule: str, words: str
) -> None:
    assert look(STRICT, CALM).failing == {}
    failing = look(STRICT, replace(CALM, **changes)).failing
    assert list(failing) == [rule]
    assert words in failing[rule]


def test_hours_end_early_enough_for_the_notice() -> None:
    judged = look(NIGHTS, CALM)
    assert judged.failing == {"hours": "outside of hours until Sun 22:00"}
    open_at, shut_at = NOON + 10 * 3_600, NOON + 18 * 3_600
    assert look(NIGHTS, replace(CALM, now_s=open_at)) == Judgement({}, shut_at - 30)
    late = look(NIGHTS, replace(CALM, now_s=shut_at - 30))
    assert late.failing == {"hours": "the hours are over at Mon 06:00"}
    assert look(NIGHTS, replace(CALM, now_s=shut_at - 31)).failing == {}


def follow(rules: Rules, *looks: tuple[int, dict[str, str]]) -> list[bool]:
    stand, found = Stand(), []
    for now_s, failing in looks:
        stand = decide(stand, Judgement(failing, 0), rules, now_s=now_s)
        found.append(stand.is_open)
    return found


IDLE, LOAD = {"idle": "somebody is here"}, {"load": "busy"}


def test_is_offered_at_once_where_all_holds() -> None:
    assert follow(STRICT, (1, {})) == [True]


def test_people_count_at_once_and_the_rest_settles() -> None:
    looks = [(1, {}), (3, IDLE), (5, {}), (62, {}), (63, {})]
    assert follow(STRICT, *looks) == [True, False, False, False, True]


def test_what_swings_must_be_so_twice() -> None:
    assert follow(STRICT, (1, {}), (3, LOAD), (5, {}), (7, LOAD)) == [True] * 4
    assert follow(STRICT, (1, {}), (3, LOAD), (5, LOAD)) == [True, True, False]


def test_flapping_keeps_it_back() -> None:
    looks = [(1, {}), (2, LOAD), (4, LOAD)]
    looks += [(60 + 50 * n, LOAD if n % 2 else {}) for n in range(6)]
    assert follow(STRICT, *looks)[3:] == [False] * 6


def test_starts_held_back_where_a_rule_fails() -> None:
    assert follow(STRICT, (1, LOAD), (2, {})) == [False, False]


def test_tells_why() -> None:
    closed = decide(Stand(), Judgement(IDLE, 0), STRICT, now_s=100)
    assert explain(closed, STRICT, now_s=100) == ("somebody is here",)
    calm = decide(closed, Judgement({}, 0), STRICT, now_s=120)
    (words,) = explain(calm, STRICT, now_s=120)
    assert words == "the rules hold again; on offer in 40s"
    assert explain(Stand(is_open=True), STRICT, now_s=0) == ()
