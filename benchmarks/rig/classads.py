"""HTCondor's matchmaking, by its own library: in a process and an environment of its own.

    python benchmarks/rig/classads.py < plan.json

The plan: ``{"machines": [[model, memory, gpus, region, price], …], "jobs": [the
Requirements of each as a ClassAd expression, …]}``. For each job every machine is
looked at, as the negotiator does, and the cheapest is taken. The answer: the seconds
that it took, and of each job the lowest price, or null.
"""

import json
import sys
import time
from typing import Any

import classad2  # type: ignore[import-not-found]


def main() -> None:
    """Match the plan on stdin; write the answer to stdout."""
    plan: dict[str, Any] = json.load(sys.stdin)
    names = ("GpuModel", "GpuMemory", "GpusFree", "Region", "Price")
    machines = [
        classad2.ClassAd(dict(zip(names, values, strict=True)))
        for values in plan["machines"]
    ]
    jobs = []
    for requirements in plan["jobs"]:
        job = classad2.ClassAd()
        job["Requirements"] = classad2.ExprTree(requirements)
        jobs.append(job)
    start = time.perf_counter()
    prices = []
    for job in jobs:
        # One way only: the machines ask for nothing. It is the quickest that there is.
        found = [machine["Price"] for machine in machines if machine.matches(job)]
        prices.append(min(found, default=None))
    took = time.perf_counter() - start
    json.dump({"took_s": took, "prices": prices}, sys.stdout)


if __name__ == "__main__":
    main()
