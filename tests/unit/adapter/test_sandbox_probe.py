"""The probe must see through a sandbox that does not hold."""

import sys
from pathlib import PurePath

from sublet.adapter.sandbox_probe import probe_sandbox
from sublet.base.errors import Unavailable
from sublet.service.ports import SandboxSpec
from tests.fakes.sandbox_fake import FakeSandbox


class DeadSandbox(FakeSandbox):
    """Cannot start anything, and says so the way bubblewrap does."""

    async def start(self, spec: SandboxSpec, *, folder: PurePath) -> None:
        raise Unavailable("bwrap: No permissions to\ncreate new namespace")


def test_sees_that_nothing_is_isolated() -> None:
    probe = probe_sandbox(FakeSandbox(), python=sys.executable)
    assert not probe.is_ok
    assert "host files are visible" in probe.reason
    assert "the number of processes is not limited" in probe.reason


def test_names_the_cure_in_one_line() -> None:
    probe = probe_sandbox(DeadSandbox(), python=sys.executable)
    assert not probe.is_ok
    assert "sysctl" in probe.reason
    assert "\n" not in probe.reason


async def test_works_inside_a_running_loop() -> None:
    assert not probe_sandbox(DeadSandbox(), python=sys.executable).is_ok
