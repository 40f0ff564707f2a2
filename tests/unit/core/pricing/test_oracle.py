"""The guards over time. All curves here are synthetic, and named after what they resemble."""

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.core.pricing.oracle import (
    CALM_S,
    SOURCES_MAX,
    Guard,
    Reason,
    Tick,
    Watch,
    step,
    take_round,
)
from sublet.core.pricing.reading import E8, Reading, Round

MINUTE_S = 60
SOURCES = ("chainlink", "coingecko", "pyth")


def make_round(at_s: int, *prices: int, token: str = "T") -> Round:
    """One price a source; 0 for a source that says nothing."""
    return Round(
        at_s=at_s,
        readings=tuple(
            Reading(
                source=SOURCES[n],
                token=token,
                price_e8=price,
                published_at_s=at_s,
                fresh_s=60,
            )
            for n, price in enumerate(prices)
            if price
        ),
    )


def play(
    curve: Iterable[tuple[int, ...]],
    watch: Watch | None = None,
    *,
    is_dollar: bool = False,
) -> list[Watch]:
    """Fold one round a minute; give the watch after each."""
    watch = watch or Watch(token="T", is_dollar=is_dollar)
    at_s = max(watch.judged_at_s, 0)
    seen = []
    for prices in curve:
        at_s += MINUTE_S
        watch = take_round(watch, make_round(at_s, *prices))
        seen.append(watch)
    return seen


def flat(price: int, minutes: int, *, sources: int = 3) -> list[tuple[int, ...]]:
    return [(price,) * sources] * minutes


def test_converts_nothing_before_there_is_an_average() -> None:
    seen = play(flat(2 * E8, 20))
    assert [watch.guard for watch in seen] == [Guard.WARN] * 15 + [Guard.OK] * 5
    assert seen[14].reasons == (Reason.NO_AVERAGE,)


def test_warns_of_one_source() -> None:
    watch = play([*flat(E8, 40), *flat(E8, 1, sources=1)])[-1]
    # What the other two said a minute ago has not gone stale yet: 60 s are allowed.
    assert watch.guard is Guard.OK
    watch = play(flat(E8, 1, sources=1), watch)[-1]
    assert (watch.guard, watch.reasons) == (Guard.WARN, (Reason.FEW_SOURCES,))
    assert play(flat(E8, 60, sources=1), watch)[-1].guard is Guard.WARN


MOVES = [
    # how far the price steps, in hundredths of a percent, and the guard at once
    (500, Guard.OK),
    (501, Guard.WARN),
    (1_500, Guard.WARN),
    (1_501, Guard.HALT),
]


def test_steps_at_five_and_fifteen_percent() -> None:
    calm = play(flat(10_000, 60))[-1]
    for bps, guard in MOVES:
        for price in (10_000 + bps, 10_000 - bps):
            assert play(flat(price, 1), calm)[-1].guard is guard, price


def test_halts_after_ten_minutes_without_a_source() -> None:
    seen = play([*flat(E8, 40), *flat(0, 12)])
    # The last readings are still fresh a minute later; ten minutes count from there.
    assert [watch.guard for watch in seen[40:]] == (
        [Guard.OK] + [Guard.WARN] * 9 + [Guard.HALT] * 2
    )
    assert Reason.SILENT in seen[-1].reasons


def test_sources_that_contradict_each_other_are_silence() -> None:
    seen = play([*flat(E8, 40), *[(E8, 2 * E8)] * 13])
    assert seen[-1].guard is Guard.HALT
    assert seen[-1].spot_e8 == 0


def test_halt_ends_after_half_an_hour_of_calm() -> None:
    """Synthetic: a token that loses a third within two minutes, and stays there."""
    seen = play([*flat(3 * E8, 60), (5 * E8 // 2,) * 3, *flat(2 * E8, 120)])
    guards = [watch.guard for watch in seen]
    first, last = guards.index(Guard.HALT), 180 - guards[::-1].index(Guard.HALT)
    calm = [watch.calm_since_s for watch in seen]
    assert first == 60
    assert guards[first : last + 1] == [Guard.HALT] * (last + 1 - first)
    assert guards[last + 1 :] == [Guard.OK] * (180 - last)
    end = seen[last + 1]
    assert end.judged_at_s - calm[last] == CALM_S
    assert (last - first) * MINUTE_S > CALM_S


def test_calm_that_nobody_watched_ends_no_halt() -> None:
    halted = play([*flat(3 * E8, 60), *flat(2 * E8, 40)])[-1]
    assert halted.guard is Guard.HALT
    later = take_round(halted, make_round(halted.judged_at_s + 86_400, *(2 * E8,) * 3))
    assert (later.guard, later.calm_since_s) == (Guard.HALT, -1)


def test_calm_begins_anew_after_a_gap() -> None:
    halted = play([*flat(3 * E8, 60), *flat(2 * E8, 50)])[-1]
    assert (halted.guard, halted.calm_since_s > 0) == (Guard.HALT, True)
    gap_s = 600  # short enough for an average, too long to know what went on
    at_s = halted.judged_at_s + gap_s
    later = take_round(halted, make_round(at_s, *(2 * E8,) * 3))
    assert later.average_e8
    assert (later.guard, later.calm_since_s) == (Guard.HALT, at_s)


def test_three_percent_off_is_no_calm() -> None:
    wobble = [(price,) * 3 for price in (1_940, 2_060) * 60]
    seen = play([*flat(3_000, 60), *wobble])
    assert {watch.guard for watch in seen[60:]} == {Guard.HALT}


def test_dollar_below_its_peg() -> None:
    """Synthetic: shaped as a dollar's token that is doubted over a weekend."""
    par, doubted, lost = 99_980_000, 99_400_000, 96_900_000
    seen = play([*flat(par, 40), *flat(doubted, 12)], is_dollar=True)
    assert [watch.guard for watch in seen[40:]] == [Guard.OK] * 10 + [Guard.WARN] * 2
    fallen = play(flat(lost, 90), seen[-1])
    assert {watch.guard for watch in fallen} == {Guard.HALT}  # though it is flat
    back = play(flat(par, 90), fallen[-1])
    assert back[-1].guard is Guard.OK
    assert back[29].guard is Guard.HALT


def test_silence_does_not_stop_a_dollar() -> None:
    watch = play([*flat(E8, 40), *flat(0, 60)], is_dollar=True)[-1]
    assert watch.guard is Guard.WARN


def test_an_earlier_tick_changes_nothing() -> None:
    watch = play(flat(E8, 40))[-1]
    assert step(watch, Tick(watch.judged_at_s)) is watch
    assert step(watch, Tick(0)) is watch


def test_knows_so_many_sources_only() -> None:
    watch = Watch(token="T")
    for number in range(2 * SOURCES_MAX):
        watch = step(
            watch,
            Reading(
                source=str(number), token="T", price_e8=1, published_at_s=0, fresh_s=60
            ),
        )
    assert len(watch.latest) == SOURCES_MAX
    assert step(watch, make_round(0, 5, token="other").readings[0]) is watch


CURVES = st.lists(st.tuples(*[st.integers(0, 4 * E8)] * 3), max_size=40)
NEAR = st.lists(st.integers(80, 120), min_size=1, max_size=150)


@settings(max_examples=60)
@given(NEAR)
def test_halts_do_not_flap(walk: list[int]) -> None:
    seen = play([*flat(100, 40), *[(price,) * 3 for price in walk]])
    runs: list[list[Watch]] = []
    for watch in seen:
        if runs and runs[-1][-1].guard is watch.guard:
            runs[-1].append(watch)
        else:
            runs.append([watch])
    for run in runs[:-1]:
        if run[0].guard is Guard.HALT:
            assert len(run) * MINUTE_S >= CALM_S


@settings(max_examples=60)
@given(CURVES)
def test_never_ok_without_two_that_agree(curve: list[tuple[int, ...]]) -> None:
    for watch in play([*flat(E8, 40), *curve]):
        if watch.guard is Guard.OK:
            assert len(watch.kept) >= 2
            assert abs(watch.spot_e8 - watch.average_e8) * 20 <= watch.average_e8
        assert bool(watch.reasons) is (watch.guard is not Guard.OK)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 10 * E8), max_size=60))
def test_one_liar_neither_moves_nor_stops(lies: list[int]) -> None:
    """Two sources are honest; the third says what it likes, minute by minute."""
    for watch in play([*flat(E8, 40), *[(E8, E8, lie) for lie in lies]])[16:]:
        assert watch.guard is Guard.OK
        assert watch.spot_e8 == E8  # two of three say the same: the median
