"""One owner, several machines at the same cost: which of them gets the slice.

No price hangs on it, only what is left. The machine with the fewest free GPUs takes
it, so that machines with many free stay whole for who needs many, and slices without
GPUs use no CPUs that idle GPUs will want.

A market's book has no list of usual wishes to weigh more finely by; where there is
one, ``packer`` does better.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Contender(NamedTuple):
    """A machine with room for the slice, and what of it is free. The least wins."""

    gpus: int
    cpus_milli: int
    memory_bytes: int
    number: int  # of its offer; the older one where all else is equal
    row: int


def choose(contenders: Iterable[Contender]) -> int:
    """Give the row of the machine that takes the slice; there must be one."""
    return min(contenders).row
