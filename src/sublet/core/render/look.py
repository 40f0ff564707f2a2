"""How a render stands, for people: each frame, who rendered and checked it, how long yet.

Pure; what the terminal, the page and ``--json`` show alike.
"""

from collections.abc import Sequence

from msgspec import Struct

from sublet.base.ids import Address

WAITING, RUNNING, CHECKING, DONE, FAILED = (
    "waiting",
    "running",
    "checking",
    "done",
    "failed",
)
ETA_SAMPLES_MIN = 2  # durations, before anything is said of the time that is left
SPREAD_Z_MILLI = 1_645  # of a standard deviation: nine of ten lie within


class UnitLook(Struct, frozen=True):
    """One unit, as it is now."""

    id: str
    state: str
    provider: Address = ""
    machine: str = ""
    device: str = ""
    began_at_s: int = 0
    took_ms: int = 0
    progress_milli: int = 0  # while it runs
    checked_by: Address = ""
    finding: str = ""  # in words
    attempts: int = 0


class FrameLook(Struct, frozen=True):
    """One frame, as it is now."""

    frame: int
    state: str
    units: tuple[UnitLook, ...]
    picture: str = ""  # a path below the output folder, once there is one
    seconds: float = 0.0  # of all its units


class RenderLook(Struct, frozen=True):
    """A whole render, as it is now. Money in micro-USD."""

    scene: str
    state: str  # running, done, stopped, failed
    frames: tuple[FrameLook, ...]
    units: int
    units_done: int
    units_checked: int
    machines: int
    cost: int
    cost_likely: int
    left_ms: int  # -1: nobody can tell yet
    left_low_ms: int
    left_high_ms: int
    at_s: int
    notes: tuple[str, ...] = ()


def find_state(units: Sequence[UnitLook]) -> str:
    """Say how a frame stands by its units.

    >>> find_state([UnitLook("1", DONE), UnitLook("2", RUNNING)])
    'running'
    """
    states = {unit.state for unit in units}
    for state in (FAILED, RUNNING, CHECKING):
        if state in states:
            return state
    if states == {DONE}:
        return DONE
    return RUNNING if DONE in states else WAITING


def guess_left(
    took_ms: Sequence[int], *, left: int, machines: int
) -> tuple[int, int, int]:
    """Say how long the units that are left take: likely, at least, at most.

    By the mean of those that ended and their spread: the sum of n durations has a
    standard deviation of the square root of n times one's. In milliseconds; -1 each as
    long as too few have ended.

    >>> guess_left([1_000, 1_000], left=4, machines=2)
    (2000, 2000, 2000)
    """
    if left <= 0:
        return 0, 0, 0
    if len(took_ms) < ETA_SAMPLES_MIN or machines < 1:
        return -1, -1, -1
    mean = sum(took_ms) / len(took_ms)
    variance = sum((one - mean) ** 2 for one in took_ms) / (len(took_ms) - 1)
    spread = (variance * left) ** 0.5 * SPREAD_Z_MILLI / 1_000
    wide = min(machines, left)
    rounds = -(-left // wide) * mean  # nobody does half a unit
    low = max(0.0, mean * left - spread) / wide
    high = max(rounds, (mean * left + spread) / wide)
    return round(rounds), round(low), round(high)
