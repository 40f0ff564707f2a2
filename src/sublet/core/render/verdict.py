"""The trial of one unit: (phase, fact) -> (phase, orders). Pure.

    unverified --chosen--> checking --another provider's probes are the same--> agreed
                              |
                              +--they are not--> disputed --a third one's--> convicted
                              |                     |
                              +--nobody is there----+--nobody, or no answer--> undecided

Of two who differ either may lie, so a third provider renders the same probes: whom it
bears out is right, and the other one is the liar. Where it bears out neither, or there
is no third, nobody is named: the unit is void all the same, and rendered again by
somebody else. What convicts a worker by its own words (another build, another device
than the recipe's) needs no checker at all (``scrutiny``).

Not here: what two pictures say (``compare``), how often a trial is held (``rate``).
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.base.ids import Address
from sublet.core.render.compare import EQUAL, Finding
from sublet.core.render.unit import Unit

CHECKERS_MAX = 4  # asked in one trial; those that give no picture count, too


class Phase(StrEnum):
    """Where a trial stands."""

    UNVERIFIED = "unverified"  # the worker's word
    CHECKING = "checking"  # another provider renders its probes
    AGREED = "agreed"  # and got the same
    DISPUTED = "disputed"  # it got something else; a third one is asked
    CONVICTED = "convicted"  # the liar is named
    UNDECIDED = "undecided"  # nobody can say who is right


OVER = frozenset({Phase.AGREED, Phase.CONVICTED, Phase.UNDECIDED})


class Trial(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One unit's."""

    unit: Unit
    worker: Address
    kernel: str  # class that the worker says it is of
    phase: Phase = Phase.UNVERIFIED
    checkers: tuple[Address, ...] = ()  # that were asked and answered, in order
    checker: Address = ""  # who agreed, or differs
    rule: str = ""  # by which it does
    arbiter: Address = ""  # the third
    liar: Address = ""
    reason: str = ""

    @property
    def is_void(self) -> bool:
        """Say whether the unit's picture may not be used."""
        if self.phase is Phase.CONVICTED:
            return self.liar == self.worker
        return self.phase in (Phase.DISPUTED, Phase.UNDECIDED) and bool(self.checker)

    @property
    def is_over(self) -> bool:
        """Say whether nothing more is waited for."""
        return self.phase in OVER


# ---- what happens -------------------------------------------------------------------


class Fact(Struct, frozen=True):
    """Something happened to this unit."""


class Chosen(Fact, frozen=True):
    """Its probes were drawn."""


class SelfConvicted(Fact, frozen=True):
    """Its worker's own report, or the lack of a picture, shows it to be void."""

    reason: str


class Checked(Fact, frozen=True):
    """Somebody rendered the probes; held against what the worker committed to."""

    checker: Address
    finding: Finding


class Arbitrated(Fact, frozen=True):
    """A third one rendered them; held against both."""

    arbiter: Address
    of_worker: Finding
    of_checker: Finding


class CheckFailed(Fact, frozen=True):
    """Somebody was asked and gave no picture: nothing, nonsense, or not a number."""

    checker: Address


class NobodyLeft(Fact, frozen=True):
    """There is no further provider whom the probes could go to."""


# ---- what is ordered ----------------------------------------------------------------


class Order(Struct, frozen=True):
    """What the driver has to do."""


class AskCheck(Order, frozen=True):
    """Have the probes rendered by a provider that is none of these."""

    avoid: tuple[Address, ...]
    kernel: str  # a class that is preferred: there the rule is equality


class RenderAgain(Order, frozen=True):
    """Have the unit rendered by a provider that is none of these."""

    avoid: tuple[Address, ...]


class Dismiss(Order, frozen=True):
    """Give this provider nothing more, pay for nothing of it that is not agreed."""

    provider: Address
    reason: str


class WriteEvidence(Order, frozen=True):
    """Write all of it down, for anyone to check."""


Move = tuple[Trial, tuple[Order, ...]]


def step(trial: Trial, fact: Fact) -> Move:
    """Let one fact happen.

    Raises:
        Refused: ``illegal_step``; the trial stands as it stood.
    """
    move = _STEPS.get((trial.phase, type(fact)))
    if move is None:
        raise Refused(
            f"{type(fact).__name__} cannot happen to a unit that is {trial.phase}",
            code="illegal_step",
        )
    return move(trial, fact)


def _choose(trial: Trial, fact: Chosen) -> Move:
    return replace(trial, phase=Phase.CHECKING), (_ask(trial),)


def _convict_by_own_words(trial: Trial, fact: SelfConvicted) -> Move:
    return _convict(trial, liar=trial.worker, reason=fact.reason)


def _check(trial: Trial, fact: Checked) -> Move:
    _refuse_known(trial, fact.checker)
    trial = _hear(trial, fact.checker)
    trial = replace(trial, checker=fact.checker, rule=fact.finding.rule)
    if fact.finding.is_same:
        return replace(trial, phase=Phase.AGREED), ()
    trial = replace(trial, phase=Phase.DISPUTED, reason=fact.finding.describe())
    if len(trial.checkers) >= CHECKERS_MAX:
        return _give_up(trial, reason="too_many_checks")
    return trial, (_ask(trial),)


def _arbitrate(trial: Trial, fact: Arbitrated) -> Move:
    _refuse_known(trial, fact.arbiter)
    trial = replace(_hear(trial, fact.arbiter), arbiter=fact.arbiter)
    match fact.of_worker.is_same, fact.of_checker.is_same:
        case True, False:
            return _convict(trial, liar=trial.checker, reason=trial.reason)
        case False, True:
            return _convict(trial, liar=trial.worker, reason=trial.reason)
        case False, False:
            return _give_up(trial, reason="all_differ")
    # It is near to both. Between classes the two lie at either edge of what is allowed;
    # within one, somebody's class is not what it says, and this one cannot tell whose.
    if trial.rule == EQUAL:
        return _give_up(trial, reason="class_in_doubt")
    return replace(trial, phase=Phase.AGREED, reason="near_to_both"), ()


def _ask_another(trial: Trial, fact: CheckFailed) -> Move:
    _refuse_known(trial, fact.checker)
    trial = _hear(trial, fact.checker)
    if len(trial.checkers) >= CHECKERS_MAX:
        return _give_up(trial, reason="too_many_checks")
    return trial, (_ask(trial),)


def _end_alone(trial: Trial, fact: NobodyLeft) -> Move:
    return _give_up(trial, reason="no_other_provider")


def _ask(trial: Trial) -> AskCheck:
    return AskCheck(avoid=(trial.worker, *trial.checkers), kernel=trial.kernel)


def _hear(trial: Trial, checker: Address) -> Trial:
    return replace(trial, checkers=(*trial.checkers, checker))


def _refuse_known(trial: Trial, provider: Address) -> None:
    if provider in (trial.worker, *trial.checkers):
        raise Refused(
            f"{provider} has had its say on this unit; ask another provider",
            code="illegal_step",
        )


def _convict(trial: Trial, *, liar: Address, reason: str) -> Move:
    trial = replace(trial, phase=Phase.CONVICTED, liar=liar, reason=reason)
    orders: tuple[Order, ...] = (Dismiss(liar, reason), WriteEvidence())
    if liar == trial.worker:
        orders = (*orders, RenderAgain(avoid=(liar,)))
    return trial, orders


def _give_up(trial: Trial, *, reason: str) -> Move:
    """Name nobody; what is disputed is rendered again by neither of the two."""
    trial = replace(trial, phase=Phase.UNDECIDED, reason=reason)
    if not trial.is_void:
        return trial, ()
    both = (trial.worker, trial.checker)
    return trial, (WriteEvidence(), RenderAgain(avoid=both))


_STEPS: Mapping[tuple[Phase, type[Fact]], Callable[[Trial, Any], Move]] = {
    (Phase.UNVERIFIED, Chosen): _choose,
    (Phase.UNVERIFIED, SelfConvicted): _convict_by_own_words,
    (Phase.CHECKING, Checked): _check,
    (Phase.CHECKING, CheckFailed): _ask_another,
    (Phase.CHECKING, NobodyLeft): _end_alone,
    (Phase.DISPUTED, Arbitrated): _arbitrate,
    (Phase.DISPUTED, CheckFailed): _ask_another,
    (Phase.DISPUTED, NobodyLeft): _end_alone,
}


# ---- what it means for the rest of the job ------------------------------------------


class Fallout(Struct, frozen=True):
    """What a liar's other work comes to."""

    void: tuple[Unit, ...]  # that it rendered and nobody bore out: rendered again
    again: tuple[Unit, ...]  # that rest on its word as a checker: probed anew


def find_fallout(trials: Iterable[Trial], *, liar: Address) -> Fallout:
    """Say what becomes of all other units when a provider is convicted.

    What another provider bore out stands, for its pixels were seen to be right.
    """
    void, again = [], []
    for trial in trials:
        if trial.worker == liar:
            if trial.phase is not Phase.AGREED and not trial.is_void:
                void.append(trial.unit)
        elif liar == trial.checker and trial.phase is Phase.AGREED:
            again.append(trial.unit)
    return Fallout(tuple(void), tuple(again))
