"""How many slices a second does one process place, and how long does one decision take?

5,000 machines in the proportions of the trace behind ``packing``, and 50,000 requests
of its default list, one after the other, in one process. Timed is each decision
whole: the machine, the GPUs, binding them, and every kept score up to date again. The
requests are for more GPUs than there are, so the last third meets a full fleet; what is
turned away costs time and does not count as placed. Before the first, all shapes of the
list are scored; how long that takes is shown beside. Rates are by the clock, and by the
processor's time, which a busy machine does not change as much. The allocation when 100 %
have arrived is compared with that of the same scheduler in ``packing``.

``MACHINES=600 REQUESTS=6000 SEEDS=1`` is a small one; GPU_CLUSTER names the traces'
folder.
"""

import os
import random
import time
from collections.abc import Sequence
from statistics import mean

from benchmarks import packing
from benchmarks.rig import gpu_trace
from benchmarks.rig.frame import console, median, percentile, show
from sublet.core.placement.fleet import Fleet, Machine, Place
from sublet.core.placement.packer import Packer
from sublet.core.placement.shape import Shape

MACHINES = int(os.environ.get("MACHINES", "5000"))
REQUESTS = int(os.environ.get("REQUESTS", "50000"))
SEEDS = int(os.environ.get("SEEDS", "3"))  # draws of ``packing`` to compare with
LIST = "default"
SEED = 42


class Timed:
    """A packer whose decisions are timed; ``find`` and ``take`` are one decision."""

    def __init__(self, packer: Packer) -> None:
        """Wrap it."""
        self._packer = packer
        self.times_ms: list[float] = []
        self.placed = 0

    def find(self, shape: Shape) -> Place | None:
        """Decide, bind, and note how long that took."""
        start = time.perf_counter()
        place = self._packer.find(shape)
        if place is not None:
            self._packer.take(place, shape)
        self.times_ms.append((time.perf_counter() - start) * 1_000)
        self.placed += place is not None
        return place

    def take(self, place: Place, shape: Shape) -> None:
        """Do nothing: it is bound."""


def grow(machines: Sequence[Machine], count: int, *, seed: int) -> list[Machine]:
    """Give so many machines in the same proportions, in random order."""
    chance = random.Random(seed)
    times, rest = divmod(count, len(machines))
    grown = [*machines] * times + chance.sample(machines, rest)
    chance.shuffle(grown)
    return grown


def main() -> None:
    """Place, and show how fast."""
    pods = gpu_trace.read_pods(LIST)
    machines = grow(gpu_trace.read_machines(), MACHINES, seed=SEED)
    requests = random.Random(SEED).choices(pods, k=REQUESTS)
    fleet = Fleet(machines)
    start = time.perf_counter()
    timed = Timed(Packer(fleet, gpu_trace.count_shapes(pods)))
    prepared_s = time.perf_counter() - start
    cpu_start_s = time.process_time()
    allocated = gpu_trace.fill(fleet, timed, requests)
    for request in requests[len(timed.times_ms) :]:
        timed.find(request)
    cpu_s = time.process_time() - cpu_start_s
    expected = mean(
        packing.run(LIST, "Sublet", packing.SEED_FIRST + n) for n in range(SEEDS)
    )
    per_s = timed.placed / sum(timed.times_ms) * 1_000
    p99_ms = percentile(timed.times_ms, 0.99)
    show(
        f"{REQUESTS:,} requests to {MACHINES:,} machines, one process",
        ["", "measured", "target"],
        [
            ("slices placed", f"{timed.placed:,}", ""),
            ("slices placed a second", f"{per_s:,.0f}", "≥ 3,750"),
            ("… of processor time", f"{timed.placed / cpu_s:,.0f}", ""),
            ("scoring all shapes before, s", f"{prepared_s:.2f}", ""),
            ("decision, p50, ms", f"{median(timed.times_ms):.3f}", ""),
            ("decision, p99, ms", f"{p99_ms:.3f}", "< 5"),
            ("decision, longest, ms", f"{max(timed.times_ms):.1f}", ""),
            ("GPUs allocated at 100 %, %", f"{allocated:.2f}", ""),
            ("the same in packing, %", f"{expected:.2f}", "± 0.5"),
        ],
    )
    console.print(
        f"result: throughput placements_per_s={per_s:.0f} p99_ms={p99_ms:.2f} "
        f"placements_per_cpu_s={timed.placed / cpu_s:.0f} "
        f"allocated={allocated:.2f} packing={expected:.2f}",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
