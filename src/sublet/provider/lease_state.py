"""The provider's side of one lease as a table: what happened, what is to be done next.

Pure. The market has a table of its own (``core.lease``); this one is about the
machine: is there a program that runs, a folder to erase, a receipt to send? What is
not in the table is refused by name and changes nothing. ``runner`` carries out the
orders and reports back what came of them.
"""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.service.ports import SandboxState

# ---- stages -----------------------------------------------------------------------


class Stage(StrEnum):
    """Where a lease stands on this machine."""

    ACCEPTED = "accepted"  # terms are signed; the manifest is awaited
    DELIVERING = "delivering"  # the manifest is here; chunks are awaited
    PREPARING = "preparing"  # inputs laid out, dependencies installed
    RUNNING = "running"  # the program runs and is metered
    STOPPING = "stopping"  # the program was told to end
    COLLECTING = "collecting"  # nothing runs; outputs are read
    ENDED = "ended"  # the receipt is signed; outputs wait to be fetched
    FETCHED = "fetched"  # the tenant has everything; the market is to settle it
    SETTLED = "settled"  # the market has settled it; outputs wait to be fetched
    ERASING = "erasing"  # nobody needs it any more: end what runs, erase everything
    GONE = "gone"  # nothing of it is left on this machine


OCCUPYING = frozenset(
    {
        Stage.ACCEPTED,
        Stage.DELIVERING,
        Stage.PREPARING,
        Stage.RUNNING,
        Stage.STOPPING,
        Stage.COLLECTING,
        Stage.ERASING,
    }
)
"""Stages in which a lease holds its CPUs, memory and GPUs."""

OVER = frozenset({Stage.ENDED, Stage.FETCHED, Stage.SETTLED})
"""Stages in which the receipt is signed and nothing runs any more."""


# ---- facts ------------------------------------------------------------------------


class Delivered(Struct, frozen=True):
    """From the tenant: the manifest, and it is the one that the order committed to."""


class Uploaded(Struct, frozen=True):
    """From the tenant: every chunk of the inputs is here."""


class Started(Struct, frozen=True):
    """From the sandbox: the program's first process runs."""


class PrepareFailed(Struct, frozen=True):
    """From the preparation: the job cannot be started."""


class ReplaceAsked(Struct, frozen=True):
    """From the tenant: another program, and all that it needs is here."""


class StopAsked(Struct, frozen=True):
    """From the tenant, the market, the meter or the owner: end the program."""

    reason: str  # stopped, timeout, unpaid, given_back


class ProgramEnded(Struct, frozen=True):
    """From the sandbox: the program and all of its kin are gone."""


class Collected(Struct, frozen=True):
    """From the collection: outputs are read, the receipt is signed."""


class MarketSettled(Struct, frozen=True):
    """From the market: this lease is settled; nothing is owed any more."""


class TenantDone(Struct, frozen=True):
    """From the tenant: everything was fetched."""


class RetentionPassed(Struct, frozen=True):
    """From the clock: nobody has fetched the outputs for too long."""


class Erased(Struct, frozen=True):
    """From the disk: the lease's folder is gone."""


Fact = (
    Delivered
    | Uploaded
    | Started
    | PrepareFailed
    | ReplaceAsked
    | StopAsked
    | ProgramEnded
    | Collected
    | MarketSettled
    | TenantDone
    | RetentionPassed
    | Erased
)


# ---- orders -----------------------------------------------------------------------


class Order(StrEnum):
    """What the runner is to do. Each may be carried out twice without harm."""

    SUBMIT_DELIVERY = "submit_delivery"
    PREPARE = "prepare"
    SUBMIT_START = "submit_start"
    METER = "meter"
    REPLACE = "replace"  # the program by another, once that is ready
    STOP_PREPARING = "stop_preparing"
    STOP_PROGRAM = "stop_program"
    KILL_PROGRAM = "kill_program"
    COLLECT = "collect"
    FAIL = "fail"  # sign a receipt that says that nothing ran
    FINISH = "finish"  # submit the receipt, tell the tenant
    ERASE = "erase"


# ---- the table --------------------------------------------------------------------


class IllegalStep(Refused):
    """This cannot happen to a lease that stands where this one stands."""

    code = "illegal_step"


_Step = tuple[Stage, tuple[Order, ...]]

STEPS: Mapping[tuple[Stage, type[Fact]], _Step] = {
    (Stage.ACCEPTED, Delivered): (Stage.DELIVERING, (Order.SUBMIT_DELIVERY,)),
    (Stage.ACCEPTED, StopAsked): (Stage.ENDED, (Order.FAIL,)),
    (Stage.ACCEPTED, MarketSettled): (Stage.ERASING, (Order.ERASE,)),
    (Stage.DELIVERING, Uploaded): (Stage.PREPARING, (Order.PREPARE,)),
    (Stage.DELIVERING, StopAsked): (Stage.ENDED, (Order.FAIL,)),
    (Stage.DELIVERING, MarketSettled): (Stage.ERASING, (Order.ERASE,)),
    (Stage.PREPARING, Started): (Stage.RUNNING, (Order.SUBMIT_START, Order.METER)),
    (Stage.PREPARING, PrepareFailed): (Stage.ENDED, (Order.FAIL,)),
    (Stage.PREPARING, StopAsked): (Stage.PREPARING, (Order.STOP_PREPARING,)),
    (Stage.PREPARING, MarketSettled): (Stage.ERASING, (Order.STOP_PREPARING,)),
    (Stage.RUNNING, ReplaceAsked): (Stage.RUNNING, (Order.REPLACE,)),
    (Stage.RUNNING, StopAsked): (Stage.STOPPING, (Order.STOP_PROGRAM,)),
    (Stage.RUNNING, ProgramEnded): (Stage.COLLECTING, (Order.COLLECT,)),
    (Stage.RUNNING, MarketSettled): (Stage.ERASING, (Order.KILL_PROGRAM,)),
    (Stage.STOPPING, StopAsked): (Stage.STOPPING, ()),
    (Stage.STOPPING, ProgramEnded): (Stage.COLLECTING, (Order.COLLECT,)),
    (Stage.STOPPING, MarketSettled): (Stage.ERASING, (Order.KILL_PROGRAM,)),
    (Stage.COLLECTING, StopAsked): (Stage.COLLECTING, ()),
    (Stage.COLLECTING, Collected): (Stage.ENDED, (Order.FINISH,)),
    (Stage.COLLECTING, MarketSettled): (Stage.COLLECTING, ()),
    (Stage.ENDED, StopAsked): (Stage.ENDED, ()),
    (Stage.ENDED, MarketSettled): (Stage.SETTLED, ()),
    (Stage.ENDED, TenantDone): (Stage.FETCHED, ()),
    (Stage.ENDED, RetentionPassed): (Stage.ERASING, (Order.ERASE,)),
    (Stage.FETCHED, StopAsked): (Stage.FETCHED, ()),
    (Stage.FETCHED, MarketSettled): (Stage.ERASING, (Order.ERASE,)),
    (Stage.FETCHED, TenantDone): (Stage.FETCHED, ()),
    (Stage.FETCHED, RetentionPassed): (Stage.ERASING, (Order.ERASE,)),
    (Stage.SETTLED, StopAsked): (Stage.SETTLED, ()),
    (Stage.SETTLED, MarketSettled): (Stage.SETTLED, ()),
    (Stage.SETTLED, TenantDone): (Stage.ERASING, (Order.ERASE,)),
    (Stage.SETTLED, RetentionPassed): (Stage.ERASING, (Order.ERASE,)),
    # The preparation may have started the program just before it was stopped.
    (Stage.ERASING, Started): (Stage.ERASING, (Order.KILL_PROGRAM,)),
    (Stage.ERASING, PrepareFailed): (Stage.ERASING, (Order.ERASE,)),
    (Stage.ERASING, ProgramEnded): (Stage.ERASING, (Order.ERASE,)),
    (Stage.ERASING, StopAsked): (Stage.ERASING, ()),
    (Stage.ERASING, MarketSettled): (Stage.ERASING, ()),
    (Stage.ERASING, TenantDone): (Stage.ERASING, ()),
    (Stage.ERASING, RetentionPassed): (Stage.ERASING, ()),
    (Stage.ERASING, Erased): (Stage.GONE, ()),
}


def step(stage: Stage, fact: Fact) -> _Step:
    """Say where a lease stands after this fact, and what is to be done.

    Raises:
        IllegalStep: not in the table; the stage stays as it was.

    >>> step(Stage.RUNNING, ProgramEnded())
    (<Stage.COLLECTING: 'collecting'>, (<Order.COLLECT: 'collect'>,))
    """
    try:
        return STEPS[stage, type(fact)]
    except KeyError:
        name = type(fact).__name__
        raise IllegalStep(
            f"{name} cannot happen to a lease that is {stage.value}",
            detail={"stage": stage.value, "fact": name},
        ) from None


def find_reason(state: SandboxState, *, asked: str) -> str:
    """Say why a program ended, for its receipt.

    Args:
        state: of its sandbox, ended.
        asked: the reason with which this agent told it to end; "" if it did not.
    """
    if asked and state.reason in ("", "stopped", "exited"):
        return asked
    return state.reason or "failed"
