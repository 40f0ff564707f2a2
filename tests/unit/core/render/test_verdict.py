"""Trials: two who differ, a third who says who lied, and nobody named without it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.base.errors import Refused
from sublet.core.render import verdict
from sublet.core.render.compare import CLOSE, EQUAL, Finding, ProbeFinding
from sublet.core.render.probe import Probe
from sublet.core.render.unit import Tile, Unit
from sublet.core.render.verdict import (
    Arbitrated,
    AskCheck,
    Checked,
    CheckFailed,
    Chosen,
    Dismiss,
    NobodyLeft,
    Phase,
    RenderAgain,
    SelfConvicted,
    Trial,
    WriteEvidence,
    find_fallout,
    step,
)

WORKER, CHECKER, THIRD, FOURTH, FIFTH = (f"0x{n:040x}" for n in range(1, 6))
UNIT = Unit(frame=7)
FRESH = Trial(unit=UNIT, worker=WORKER, kernel="cpu-avx2")
BLOCK = Probe(block=0, tile=Tile(0, 0, 16, 16))


def find(*, is_same: bool, rule: str = EQUAL) -> Finding:
    """A finding of one probe."""
    off = 0 if is_same else 256
    return Finding(rule=rule, probes=(ProbeFinding(BLOCK, 256, off, off),))


SAME, OTHER = find(is_same=True), find(is_same=False)
FAR = find(is_same=False, rule=CLOSE)


def tell(*facts: verdict.Fact) -> verdict.Move:
    """Let facts happen to a fresh trial."""
    trial, orders = FRESH, ()
    for fact in facts:
        trial, orders = step(trial, fact)
    return trial, orders


def test_a_second_provider_bears_it_out() -> None:
    trial, orders = tell(Chosen())
    assert orders == (AskCheck(avoid=(WORKER,), kernel="cpu-avx2"),)
    trial, orders = step(trial, Checked(CHECKER, SAME))
    assert (trial.phase, trial.checker, trial.is_void) == (Phase.AGREED, CHECKER, False)
    assert orders == ()


def test_who_differs_has_a_third_asked() -> None:
    trial, orders = tell(Chosen(), Checked(CHECKER, OTHER))
    assert trial.phase is Phase.DISPUTED
    assert trial.is_void
    assert orders == (AskCheck(avoid=(WORKER, CHECKER), kernel="cpu-avx2"),)
    assert trial.reason == "256 of 256 pixels are not equal"


def test_the_third_names_the_worker() -> None:
    trial, orders = tell(
        Chosen(), Checked(CHECKER, OTHER), Arbitrated(THIRD, OTHER, SAME)
    )
    assert (trial.phase, trial.liar, trial.arbiter) == (Phase.CONVICTED, WORKER, THIRD)
    assert trial.is_void
    reason = "256 of 256 pixels are not equal"
    again = RenderAgain(avoid=(WORKER,))
    assert orders == (Dismiss(WORKER, reason), WriteEvidence(), again)


def test_the_third_names_the_checker() -> None:
    trial, orders = tell(
        Chosen(), Checked(CHECKER, OTHER), Arbitrated(THIRD, SAME, OTHER)
    )
    assert (trial.phase, trial.liar) == (Phase.CONVICTED, CHECKER)
    assert not trial.is_void
    assert orders == (Dismiss(CHECKER, trial.reason), WriteEvidence())


@pytest.mark.parametrize(
    ("first", "worker", "checker", "reason"),
    [
        (OTHER, OTHER, OTHER, "all_differ"),
        (FAR, FAR, FAR, "all_differ"),
        # Within a class that two name, one of another class is near to both.
        (OTHER, SAME, SAME, "class_in_doubt"),
    ],
)
def test_where_nobody_can_tell_nobody_is_named(
    first: Finding, worker: Finding, checker: Finding, reason: str
) -> None:
    trial, orders = tell(
        Chosen(), Checked(CHECKER, first), Arbitrated(THIRD, worker, checker)
    )
    assert (trial.phase, trial.liar, trial.reason) == (Phase.UNDECIDED, "", reason)
    assert trial.is_void
    assert orders == (WriteEvidence(), RenderAgain(avoid=(WORKER, CHECKER)))


def test_between_classes_one_near_to_both_reconciles_them() -> None:
    trial, orders = tell(Chosen(), Checked(CHECKER, FAR), Arbitrated(THIRD, SAME, SAME))
    assert (trial.phase, trial.is_void, orders) == (Phase.AGREED, False, ())


def test_without_a_second_the_unit_stands_unverified() -> None:
    trial, orders = tell(Chosen(), NobodyLeft())
    assert (trial.phase, trial.reason) == (Phase.UNDECIDED, "no_other_provider")
    assert not trial.is_void
    assert orders == ()


def test_without_a_third_the_unit_is_void() -> None:
    trial, orders = tell(Chosen(), Checked(CHECKER, OTHER), NobodyLeft())
    assert (trial.phase, trial.liar) == (Phase.UNDECIDED, "")
    assert trial.is_void
    assert orders == (WriteEvidence(), RenderAgain(avoid=(WORKER, CHECKER)))


def test_its_own_words_convict_without_a_checker() -> None:
    trial, orders = tell(SelfConvicted("wrong_build"))
    assert (trial.liar, trial.is_void) == (WORKER, True)
    assert Dismiss(WORKER, "wrong_build") in orders


def test_who_gives_no_picture_is_passed_over() -> None:
    trial, orders = tell(Chosen(), CheckFailed(CHECKER))
    assert orders == (AskCheck(avoid=(WORKER, CHECKER), kernel="cpu-avx2"),)
    trial, _ = step(trial, Checked(THIRD, OTHER))
    trial, orders = step(trial, CheckFailed(FOURTH))
    assert orders == (
        AskCheck(avoid=(WORKER, CHECKER, THIRD, FOURTH), kernel="cpu-avx2"),
    )
    trial, orders = step(trial, CheckFailed(FIFTH))
    assert (trial.phase, trial.reason) == (Phase.UNDECIDED, "too_many_checks")


@pytest.mark.parametrize("again", [WORKER, CHECKER])
def test_nobody_judges_twice(again: str) -> None:
    trial, _ = tell(Chosen(), Checked(CHECKER, OTHER))
    with pytest.raises(Refused, match="another provider"):
        step(trial, Arbitrated(again, SAME, OTHER))
    with pytest.raises(Refused, match="another provider"):
        step(tell(Chosen())[0], Checked(WORKER, SAME))


FACTS = [
    Chosen(),
    SelfConvicted("wrong_build"),
    NobodyLeft(),
    *(CheckFailed(who) for who in (CHECKER, THIRD)),
    *(Checked(who, what) for who in (CHECKER, THIRD) for what in (SAME, OTHER, FAR)),
    *(
        Arbitrated(THIRD, one, other)
        for one, other in itertools.product((SAME, OTHER), repeat=2)
    ),
]


@given(facts=st.lists(st.sampled_from(FACTS), max_size=8))
def test_a_trial_ends_once_and_names_only_who_took_part(
    facts: list[verdict.Fact],
) -> None:
    trial = FRESH
    for fact in facts:
        was = trial
        try:
            trial, orders = step(trial, fact)
        except Refused as fault:
            assert fault.code == "illegal_step"
            assert trial == was
            continue
        assert not was.is_over
        assert trial.is_over == (not any(isinstance(one, AskCheck) for one in orders))
        assert (trial.liar != "") == (trial.phase is Phase.CONVICTED)
        assert trial.liar in ("", WORKER, trial.checker)
        assert len({trial.worker, *trial.checkers}) == 1 + len(trial.checkers)
        dismissed = {one.provider for one in orders if isinstance(one, Dismiss)}
        assert dismissed == {trial.liar} - {""}
        is_again = any(isinstance(one, RenderAgain) for one in orders)
        assert is_again == (trial.is_over and trial.is_void)


def test_a_liars_other_work_falls_with_it() -> None:
    def make(frame: int, worker: str, **rest: object) -> Trial:
        return Trial(unit=Unit(frame=frame), worker=worker, kernel="toy", **rest)

    trials = [
        make(1, WORKER),  # on its word alone
        make(2, WORKER, phase=Phase.AGREED, checker=CHECKER),  # borne out
        make(3, WORKER, phase=Phase.CONVICTED, liar=WORKER),  # void as it is
        make(4, WORKER, phase=Phase.CHECKING),
        make(5, CHECKER, phase=Phase.AGREED, checker=WORKER),  # on the liar's word
        make(6, CHECKER, phase=Phase.AGREED, checker=THIRD),
        make(7, WORKER, phase=Phase.UNDECIDED),  # nobody could check it
    ]
    fallout = find_fallout(trials, liar=WORKER)
    assert [unit.frame for unit in fallout.void] == [1, 4, 7]
    assert [unit.frame for unit in fallout.again] == [5]
