"""Who is called seen and who lost, by what the node hears and the book says."""

import pytest

from sublet.node.liveness import Liveness

A, B = "0x" + "aa" * 20, "0x" + "bb" * 20


def make() -> Liveness:
    return Liveness(lost_after_ms=10_000, gone_after_ms=6_000, now_ms=0)


def test_linked_provider_is_seen() -> None:
    liveness = make()
    liveness.note_linked(A, now_ms=5)
    assert liveness.decide(frozenset(), now_ms=6) == ((A,), {})
    assert liveness.decide(frozenset({A}), now_ms=6) == ((), {})


@pytest.mark.parametrize(("now_ms", "lost"), [(14_999, {}), (15_000, {A: 10_000})])
def test_grace_runs_from_last_word(now_ms: int, lost: dict[str, int]) -> None:
    liveness = make()
    liveness.note_linked(A, now_ms=1_000)
    liveness.note_heard(A, now_ms=5_000)
    liveness.note_unlinked(A)
    assert liveness.decide(frozenset({A}), now_ms=now_ms) == ((), lost)


def test_linked_provider_is_never_lost() -> None:
    liveness = make()
    liveness.note_linked(A, now_ms=0)
    assert liveness.decide(frozenset({A}), now_ms=99_000) == ((), {})


@pytest.mark.parametrize(
    ("now_ms", "lost"), [(9_999, {}), (10_000, {A: 10_000, B: 10_000})]
)
def test_start_gives_everybody_grace(now_ms: int, lost: dict[str, int]) -> None:
    assert make().decide(frozenset({B, A}), now_ms=now_ms) == ((), lost)


def test_lost_one_comes_back() -> None:
    liveness = make()
    liveness.note_linked(A, now_ms=0)
    liveness.note_unlinked(A)
    assert liveness.decide(frozenset({A}), now_ms=20_000) == ((), {A: 10_000})
    liveness.note_linked(A, now_ms=21_000)
    assert liveness.decide(frozenset(), now_ms=21_000) == ((A,), {})


def test_forgets_who_is_gone() -> None:
    liveness = make()
    liveness.note_linked(A, now_ms=50_000)
    liveness.note_unlinked(A)
    assert liveness.decide(frozenset(), now_ms=50_001) == ((), {})
    # Forgotten: if the book calls it up again, the grace since the start is over.
    assert liveness.decide(frozenset({A}), now_ms=50_002) == ((), {A: 10_000})


@pytest.mark.parametrize(
    ("now_ms", "lost"), [(70_999, {}), (71_000, {A: 10_000, B: 10_000})]
)
def test_whoever_could_not_be_heard_has_the_full_grace(
    now_ms: int, lost: dict[str, int]
) -> None:
    liveness = make()
    liveness.note_linked(A, now_ms=1_000)
    liveness.begin_anew(now_ms=61_000)  # this node was frozen for a minute
    liveness.note_unlinked(A)
    assert liveness.decide(frozenset({A, B}), now_ms=now_ms) == ((), lost)


@pytest.mark.parametrize(("now_ms", "lost"), [(10_999, {}), (11_000, {A: 6_000})])
def test_shorter_grace_where_it_broke_off(now_ms: int, lost: dict[str, int]) -> None:
    liveness = make()
    liveness.note_linked(A, now_ms=1_000)
    liveness.note_heard(A, now_ms=4_500)
    liveness.note_broken_off(A, now_ms=5_000)
    assert liveness.decide(frozenset({A}), now_ms=now_ms) == ((), lost)


def test_silence_counts_beside_a_break() -> None:
    liveness = make()
    liveness.note_linked(A, now_ms=0)
    liveness.note_broken_off(A, now_ms=9_000)  # the last word was long ago
    assert liveness.decide(frozenset({A}), now_ms=10_000) == ((), {A: 10_000})


def test_successor_wipes_out_the_break() -> None:
    liveness = make()
    liveness.note_linked(A, now_ms=0)
    liveness.note_broken_off(A, now_ms=1_000)
    liveness.note_linked(A, now_ms=2_000)
    liveness.note_unlinked(A)  # this time it said so
    assert liveness.decide(frozenset({A}), now_ms=11_000) == ((), {})
