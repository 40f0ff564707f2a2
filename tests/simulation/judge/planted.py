"""A world before the judge, and how a bug that was planted in the book is looked for."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from sublet.base.errors import Broken
from sublet.core.book import step
from sublet.core.document import Fact
from tests.simulation.judge.judge import Judge
from tests.unit.core.book.world import RULES, World

Plant = Callable[[pytest.MonkeyPatch], None]


class JudgedWorld(World):
    """A world in which a judge hears everything, and nothing else slows it down."""

    def __init__(self) -> None:
        self.judge = Judge(RULES)
        super().__init__()

    def fold(self, fact: Fact) -> step.Step:
        done = step.step(self.book, fact)
        self.facts.append(fact)
        self.judge.hear(fact, done)
        self.judge.count(self.book.ledger)
        return done


def run(machine: type[RuleBasedStateMachine], *, examples: int) -> None:
    """Let a machine say so many times whatever anybody may say."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def find(machine: type[RuleBasedStateMachine]) -> None:
    """The machine has to notice that something is wrong."""
    with pytest.raises(Exception) as found:  # any alarm will do
        try:
            run(machine, examples=400)
        except SystemError:  # of ast.parse now and then, by which Hypothesis shows us
            run(machine, examples=400)  # what failed: python/cpython#106905
    # An alarm of the model, not an accident of the plant.
    assert isinstance(found.value, (AssertionError, Broken)), found.value
