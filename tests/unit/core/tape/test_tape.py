"""The tape: hours, deals, and what is forgotten when there is too much."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.base.limits import TAPE_DEALS_MAX, TAPE_HOURS_MAX, TAPE_SERIES_MAX
from sublet.core.tape.quantile import find_percentiles
from sublet.core.tape.tape import ANYWHERE, HOUR_S, Deal, Hour, Tape, list_hours

NOON_S = 1_800_000_000 // HOUR_S * HOUR_S


def note(
    tape: Tape, at_s: int, price: int, *, model: str = "h200", region: str = "DE"
) -> None:
    tape.note(Deal(at_s, price, 1_000), model=model, region=region)


def test_notes_region_and_anywhere() -> None:
    tape = Tape()
    note(tape, NOON_S, 5)
    note(tape, NOON_S + 1, 7, region="US-CA")
    assert {kind: len(each.recent) for kind, each in tape.series.items()} == {
        ("h200", "DE"): 1,
        ("h200", "US-CA"): 1,
        ("h200", ANYWHERE): 2,
    }


def test_region_called_anywhere_counts_once() -> None:
    tape = Tape()
    note(tape, NOON_S, 5, region=ANYWHERE)
    assert tape.series["h200", ANYWHERE].open_deals == 1


def test_hour_ends_with_first_deal_of_next() -> None:
    tape = Tape()
    for second, price in ((0, 30), (10, 10), (HOUR_S - 1, 20), (HOUR_S, 99)):
        note(tape, NOON_S + second, price)
    series = tape.series["h200", "DE"]
    hour = NOON_S // HOUR_S
    assert series.hours == (Hour(hour, 3, 3_000, 10, 20, 30, 20),)
    assert list_hours(series, now_s=NOON_S + HOUR_S) == (
        *series.hours,
        Hour(hour + 1, 1, 1_000, 99, 99, 99, 99),
    )


def test_hours_are_forgotten_after_a_week() -> None:
    tape = Tape()
    note(tape, NOON_S, 5)
    series = tape.series["h200", "DE"]
    last_s = NOON_S + TAPE_HOURS_MAX * HOUR_S - 1
    assert len(list_hours(series, now_s=last_s)) == 1
    assert list_hours(series, now_s=last_s + 1) == ()
    note(tape, last_s + 1, 6)
    assert tape.series["h200", "DE"].hours == ()


def test_busy_hour_counts_all_and_ranks_newest() -> None:
    tape = Tape()
    for number in range(TAPE_DEALS_MAX + 100):
        note(tape, NOON_S, 1 if number < 100 else 2)
    (hour,) = list_hours(tape.series["h200", "DE"], now_s=NOON_S)
    assert hour.deals == TAPE_DEALS_MAX + 100
    assert (hour.p10, hour.units_milli) == (2, (TAPE_DEALS_MAX + 100) * 1_000)
    assert len(tape.series["h200", "DE"].recent) == TAPE_DEALS_MAX


def test_flood_of_kinds_spares_those_that_trade() -> None:
    tape = Tape()
    for _ in range(2):
        note(tape, NOON_S, 5)
    for number in range(2 * TAPE_SERIES_MAX):
        note(tape, NOON_S + 1 + number, 1, model=f"fake {number}")
    assert len(tape.series) == TAPE_SERIES_MAX
    assert ("h200", "DE") in tape.series
    # A week later its deals are no reason any more.
    week_s = NOON_S + TAPE_HOURS_MAX * HOUR_S
    note(tape, week_s, 1, model="new")
    assert len(tape.series) <= TAPE_SERIES_MAX
    assert ("h200", "DE") not in tape.series


def test_copy_is_independent() -> None:
    tape = Tape()
    note(tape, NOON_S, 5)
    twin = tape.copy()
    note(twin, NOON_S, 6)
    assert len(tape.series["h200", "DE"].recent) == 1


@settings(max_examples=60)
@given(st.integers(0, 1 << 32), st.integers(0, 200))
def test_equals_counting_anew(seed: int, count: int) -> None:
    """Every series says what sorting all deals of its hours says."""
    chance = random.Random(seed)
    tape, at_s = Tape(), NOON_S
    deals: list[tuple[str, str, Deal]] = []
    for _ in range(count):
        at_s += chance.choice((0, 7, 600, 5_000, 40 * HOUR_S if count < 40 else 60))
        model, region = chance.choice(("", "h200")), chance.choice(("DE", "US", ""))
        deal = Deal(at_s, chance.randrange(20), chance.choice((500, 1_000, 8_000)))
        deals.append((model, region, deal))
        tape.note(deal, model=model, region=region)
    for (model, region), series in tape.series.items():
        mine = [d for m, r, d in deals if m == model and region in (r, ANYWHERE)]
        expected = []
        for hour in sorted({d.at_s // HOUR_S for d in mine}):
            within = [d for d in mine if d.at_s // HOUR_S == hour]
            low, middle, high = find_percentiles(
                [(d.price, d.units_milli) for d in within]
            )
            expected.append(
                Hour(
                    hour=hour,
                    deals=len(within),
                    units_milli=sum(d.units_milli for d in within),
                    p10=low,
                    median=middle,
                    p90=high,
                    last=within[-1].price,
                )
            )
        kept = [h for h in expected if h.hour > at_s // HOUR_S - TAPE_HOURS_MAX]
        assert list(list_hours(series, now_s=at_s)) == kept
        assert list(series.recent) == mine[-TAPE_DEALS_MAX:]
