"""The arithmetic of looking ahead."""

from hypothesis import given
from hypothesis import strategies as st

from sublet.core.outlook import (
    MILLION,
    RESTARTS_MAX,
    compute_finish,
    count_restarts,
)

SPAN = st.integers(0, 100_000)


@given(SPAN, SPAN, SPAN, SPAN, SPAN, SPAN, st.integers(1, MILLION))
def test_range_holds_what_is_expected(
    wait_s: int,
    more_s: int,
    prepare_s: int,
    late_s: int,
    run_s: int,
    restart_s: int,
    chance_ppm: int,
) -> None:
    least, expected, most = compute_finish(
        wait_s=wait_s,
        wait_s_max=wait_s + more_s,
        prepare_s=prepare_s,
        prepare_s_max=prepare_s + late_s,
        run_s=run_s,
        restart_s=restart_s,
        chance_ppm=chance_ppm,
    )
    assert run_s <= least <= expected <= most


@given(st.integers(1, MILLION))
def test_restarts_cover_nine_of_ten(chance_ppm: int) -> None:
    count = count_restarts(chance_ppm)
    lost = 1 - chance_ppm / MILLION
    assert count == RESTARTS_MAX or lost ** (count + 1) <= 0.1 + 1e-4
    assert count == 0 or lost**count > 0.1 - 1e-4
