"""The table of a lease on the provider's machine: every move, and every illegal one."""

from itertools import product

import pytest

from sublet.provider import lease_state as ls
from sublet.provider.lease_state import IllegalStep, Order, Stage, find_reason, step
from sublet.service.ports import SandboxState

FACTS: dict[str, ls.Fact] = {
    "Delivered": ls.Delivered(),
    "Uploaded": ls.Uploaded(),
    "Started": ls.Started(),
    "PrepareFailed": ls.PrepareFailed(),
    "ReplaceAsked": ls.ReplaceAsked(),
    "StopAsked": ls.StopAsked(reason="stopped"),
    "ProgramEnded": ls.ProgramEnded(),
    "Collected": ls.Collected(),
    "MarketSettled": ls.MarketSettled(),
    "TenantDone": ls.TenantDone(),
    "RetentionPassed": ls.RetentionPassed(),
    "Erased": ls.Erased(),
}


def _walk(*names: str) -> tuple[Stage, list[Order]]:
    stage, orders = Stage.ACCEPTED, []
    for name in names:
        stage, more = step(stage, FACTS[name])
        orders += more
    return stage, orders


@pytest.mark.parametrize(
    ("names", "stage", "orders"),
    [
        (  # a job that does what it should
            "Delivered Uploaded Started ProgramEnded Collected TenantDone MarketSettled"
            " Erased",
            Stage.GONE,
            "submit_delivery prepare submit_start meter collect finish erase",
        ),
        (  # the tenant stops it; the market settles it before it was fetched
            "Delivered Uploaded Started StopAsked ProgramEnded Collected MarketSettled"
            " TenantDone",
            Stage.ERASING,
            "submit_delivery prepare submit_start meter stop_program collect finish"
            " erase",
        ),
        (  # dependencies cannot be installed
            "Delivered Uploaded PrepareFailed RetentionPassed Erased",
            Stage.GONE,
            "submit_delivery prepare fail erase",
        ),
        (  # cancelled before anything was delivered
            "MarketSettled Erased",
            Stage.GONE,
            "erase",
        ),
        (  # settled while it was prepared, and the program started all the same
            "Delivered Uploaded MarketSettled Started ProgramEnded Erased",
            Stage.GONE,
            "submit_delivery prepare stop_preparing kill_program erase",
        ),
        (  # the market gave up on us while the job ran
            "Delivered Uploaded Started MarketSettled ProgramEnded Erased",
            Stage.GONE,
            "submit_delivery prepare submit_start meter kill_program erase",
        ),
    ],
)
def test_walks_a_whole_life(names: str, stage: Stage, orders: str) -> None:
    assert _walk(*names.split()) == (stage, [Order(o) for o in orders.split()])


def test_refuses_what_is_not_there() -> None:
    refused = 0
    for stage, fact in product(Stage, FACTS.values()):
        if (stage, type(fact)) in ls.STEPS:
            continue
        with pytest.raises(IllegalStep) as error:
            step(stage, fact)
        assert error.value.detail["stage"] == stage.value
        refused += 1
    assert refused == len(Stage) * len(FACTS) - len(ls.STEPS)


@pytest.mark.parametrize("stage", [s for s in Stage if s is not Stage.GONE])
def test_always_finds_a_way_out(stage: Stage) -> None:
    """From every stage, some facts lead to GONE: no folder stays for ever."""
    seen, ahead = set[Stage](), [stage]
    while ahead:
        here = ahead.pop()
        if here in seen:
            continue
        seen.add(here)
        ahead += [nxt for (at, _), (nxt, _) in ls.STEPS.items() if at is here]
    assert Stage.GONE in seen


@pytest.mark.parametrize("stage", [s for s in Stage if s is not Stage.GONE])
def test_hears_the_market_always(stage: Stage) -> None:
    assert (stage, ls.MarketSettled) in ls.STEPS


def _ended(reason: str) -> SandboxState:
    return SandboxState("ended", 1, 0, 0, 0, 0, 0, reason)


@pytest.mark.parametrize(
    ("reason", "asked", "expected"),
    [
        ("exited", "", "exited"),
        ("stopped", "unpaid", "unpaid"),
        ("exited", "given_back", "given_back"),  # it obeyed the SIGTERM politely
        ("out_of_memory", "stopped", "out_of_memory"),  # died of its own before
        ("timeout", "", "timeout"),
        ("", "", "failed"),  # the sandbox could not say
    ],
)
def test_finds_reason_of_end(reason: str, asked: str, expected: str) -> None:
    assert find_reason(_ended(reason), asked=asked) == expected
