"""Each parser, a fixed number of inputs, the same on every machine.

What `make fuzz` finds beyond these goes into ``found.py``, with a name.
"""

import resource
import time

import pytest

from tests.fuzz.found import FOUND
from tests.fuzz.mutate import make_inputs
from tests.fuzz.table import TARGETS

COUNT = 600  # mutants of each target
INPUT_CPU_S = 1.0
GROWTH_BYTES = 200 << 20


@pytest.mark.parametrize("name", TARGETS)
def test_only_our_own_errors_come_out(name: str) -> None:
    target = TARGETS[name]
    assert all(map(target.feed, target.seeds)) or name in _TAKES_NOTHING
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for raw in make_inputs(target, seed=1, count=COUNT):
        start = time.thread_time()
        try:
            target.feed(raw)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is wrong
            pytest.fail(f"{name}: {type(error).__name__}: {error}; {raw[:300]!r}")
        took_s = time.thread_time() - start
        assert took_s < INPUT_CPU_S, f"{took_s:.1f} s for {raw[:300]!r}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < GROWTH_BYTES


@pytest.mark.parametrize(
    ("name", "raw"),
    [pytest.param(name, raw, id=f"{name}: {what}") for name, what, raw in FOUND],
)
def test_what_was_found_stays_away(name: str, raw: bytes) -> None:
    start = time.thread_time()
    TARGETS[name].feed(raw)
    assert time.thread_time() - start < INPUT_CPU_S


# Whatever stands in the place of sealed chunks is refused, the seed included.
_TAKES_NOTHING = {"sealed_chunks"}
