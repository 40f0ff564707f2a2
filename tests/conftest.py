"""What every test shares: which machines a marked test can run on."""

import shutil
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.postgres_server"]  # a server, for those that ask for one

# No test depends on how quick the machine is just now.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

# A shell that starts us in the background has its children ignore Ctrl-C, ours as well.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_CONTAINERS = ("crun", "runsc", "catatonit", "skopeo", "busybox")
_ABSENT = [name for name in _CONTAINERS if shutil.which(name) is None]
_MISSING = {
    "gpu": None if Path("/dev/nvidiactl").exists() else "no NVIDIA GPU here",
    "container": f"not installed: {', '.join(_ABSENT)}" if _ABSENT else None,
    "sandbox": None if shutil.which("bwrap") else "bubblewrap is not installed",
}


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Tell ``.ci/again.py`` whether all tests were run: 1 where some of all failed."""
    cache = getattr(session.config, "cache", None)
    if cache is not None and not hasattr(session.config, "workerinput"):
        cache.set("sublet/exitstatus", int(exitstatus))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why."""
    for item in items:
        for marker, reason in _MISSING.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_runtest_setup() -> None:
    """Take back what libraries of the tests do to the whole process.

    py-evm and eth-account raise the limit of recursion when they are imported; other
    tests feed parsers what is nested without end, and the stack would overflow before
    anybody says stop.
    """
    sys.setrecursionlimit(1_000)
