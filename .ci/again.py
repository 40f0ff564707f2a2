"""``make test`` failed: run what fell once more, one at a time, with nothing beside it.

Hundreds of our tests use real processes, real disks and real clocks, and CI's machine
is shared. A fault of the code fails again here, and CI fails. What passes now is named
as FELL ONCE, in CI's output, to be looked into: it is a race, in a test or in the code.
More than a handful is no bad luck, and is not tried again.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CACHE = Path(".pytest_cache/v")
ALL_RAN = 1  # pytest's own exit code where all tests ran, and some failed
AGAIN_MAX = 6


def say(*lines: str) -> None:
    """Write a heading and what stands below it."""
    sys.stdout.write("\n  ".join(lines) + "\n")
    sys.stdout.flush()


def read(name: str) -> Any:
    """Give what pytest keeps under this name, or None."""
    path = CACHE / name
    return json.loads(path.read_text()) if path.exists() else None


def main() -> int:
    """Give the exit code of CI's tests."""
    if (code := read("sublet/exitstatus")) != ALL_RAN:
        say(f"pytest ended with {code}, before all tests had run: not tried again")
        return 1
    fallen = sorted(read("cache/lastfailed") or {})
    if not 0 < len(fallen) <= AGAIN_MAX:
        say(f"{len(fallen)} failures: not tried again (1 to {AGAIN_MAX} would be)")
        return 1
    say("trying again, alone:", *fallen)
    pytest = [sys.executable, "-m", "pytest", "--tb=short", "-rfE", *fallen]
    code = subprocess.run(pytest, check=False).returncode
    if code == 0:
        say("FELL ONCE, passed alone; look into it:", *fallen)
    return code


if __name__ == "__main__":
    sys.exit(main())
