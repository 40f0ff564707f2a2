"""What a quote says besides the price, and on what it rests."""

import re

import pytest
from msgspec.structs import replace

from sublet.base.ids import NO_ADDRESS, NO_DIGEST
from sublet.cli.quote import format_clouds, format_outlook, format_score
from sublet.core.book.score_terms import Standing
from sublet.core.outlook import Outlook
from sublet.core.pricing.catalogue import CloudPrice
from sublet.wire.message import Quote, QuotedMachine
from tests.unit.core.book.world import make_order

FREE = Outlook(
    provider=NO_ADDRESS,
    wait_basis="free",
    wait_s=0,
    wait_s_max=0,
    leases_before=0,
    prepare_s=12,
    prepare_s_max=370,
    samples=40,
    run_s=3_600,
    speed_ppm=1_250_000,
    chance_ppm=950_000,
    leases_completed=10,
    leases_at_fault=0,
    restart_s=42,
    finish_s_min=3_612,
    finish_s=3_709,
    finish_s_max=3_970,
)
UNKNOWN = {"finish_s_min": -1, "finish_s": -1, "finish_s_max": -1}


@pytest.mark.parametrize(
    ("outlook", "says", "says_not"),
    [
        (FREE, "begins  now: a machine is free", "nobody"),
        (FREE, "12s to prepare (median of the last 40 here)", "yet"),
        (
            FREE,
            "done    in 1h 1m 49s; at best in 1h 12s, nine of ten within 1h 6m",
            "-1",
        ),
        (FREE, "measured speed: 125 %", "no history"),
        (FREE, "lasts with 95 % (10 of its 10 leases went well)", "assumed"),
        (
            replace(FREE, leases_completed=0),
            "it has no history; nine of ten is assumed",
            "went well",
        ),
        (
            replace(FREE, samples=0, prepare_s=-1),
            "nothing has run here yet",
            "median of the last",
        ),
        (
            replace(
                FREE,
                wait_basis="leases_end",
                wait_s=60,
                wait_s_max=600,
                leases_before=2,
            ),
            "in 1m, at most 10m: when 2 of the open leases have ended",
            "free",
        ),
        (
            replace(FREE, wait_basis="nothing_fits", wait_s=-1, **UNKNOWN),
            "nobody can tell",
            "prepare",
        ),
        (replace(FREE, speed_ppm=0), "for 1h of work\n", "measured speed"),
    ],
)
def test_says_on_what_it_rests(outlook: Outlook, says: str, says_not: str) -> None:
    text = format_outlook(outlook, width=400)
    assert says in text
    assert says_not not in text


def test_cloud_without_such_a_gpu_is_named() -> None:
    price = CloudPrice(
        "AWS", "p4d", "A100 (40 GB)", 8, 32_770_000, -1, "2025-03-07", "src"
    )
    lines = format_clouds((price, CloudPrice("GCP")), run_s=7_200).splitlines()
    assert lines[0].split("  ")[-1] == "FOR 2h"
    assert lines[1].split()[-3:] == ["$32.77", "-", "$65.54"]
    assert lines[2] == "GCP    not in the catalogue"
    assert lines[3] == "prices of whole instances: src, 2025-03-07"
    assert max(map(len, lines)) <= 80


def test_instance_without_a_name_is_none_the_less() -> None:
    price = CloudPrice("Acme", "", "A10", 1, 1_000_000, -1, "2025-03-07", "src")
    assert "$1.00" in format_clouds((price,), run_s=3_600)


@pytest.mark.parametrize("width", [80, 120])
def test_lines_fit_the_terminal(width: int) -> None:
    lines = format_outlook(FREE, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert [line for line in lines if line[0] != " "] == [lines[0], lines[2]]


STANDING = Standing(
    offer_id=NO_DIGEST,
    provider=NO_ADDRESS,
    asked_hour=360_000,
    latency_ms=13,
    latency_penalty_hour=1_300,
    data_penalty_hour=0,
    work="gpu",
    speed=500,
    chance_ppm=900_000,
    cost_hour=401_445,
)


def test_each_term_of_the_score_is_shown_beside_the_runner_ups() -> None:
    order = make_order(work="gpu", near="oslo", near_price_hour=100)
    dearer = replace(STANDING, asked_hour=410_000)
    found = Quote(winner=STANDING, runner_up=dearer, price_hour=409_999)
    head, winner, other, rule = format_score(found, order).splitlines()
    for line, cells in (
        (head, "SCORE, ASKED/H, OSLO/H, GPU SPEED, FINISHES, FINISHED/H, PAID/H"),
        (winner, "winner, $0.36, +$0.0013 (13 ms), 500, 90.00 %, $0.401445, $0.409999"),
    ):
        assert re.split(r" {2,}", line) == cells.split(", ")
    assert "$0.41" in other and other.endswith("-")
    assert "tie the runner-up" in rule


def test_of_a_gang_each_member_has_its_own_score() -> None:
    members = tuple(
        QuotedMachine(
            offer_id=NO_DIGEST,
            provider=NO_ADDRESS,
            machine=name,
            region="",
            price_hour=price,
            hold=1,
            winner=STANDING,
        )
        for name, price in (("one", 370_000), ("two", 380_000))
    )
    found = Quote(winner=STANDING, members=members, price_hour=750_000)
    _, one, two, _ = format_score(found, make_order()).splitlines()
    assert one.split()[0] == "one" and one.endswith("$0.37")
    assert two.split()[0] == "two" and two.endswith("$0.38")
    assert "$0.75" not in format_score(found, make_order())
