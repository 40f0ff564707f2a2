"""Processes that are forked from one that has everything imported: there in 20 ms.

Each fork is a process of its own: it opens its own files and sockets, and can be killed
at any instruction. Nothing of an event loop or a thread may live when one is made.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


class Fork:
    """One forked process; it leads a process group of its own."""

    def __init__(self, work: Callable[[], None], *, journal: Path) -> None:
        """Fork; ``work`` runs in the child, what it prints goes to the journal."""
        sys.stdout.flush()
        self.journal = journal
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _be(work, journal)

    def kill(self) -> None:
        """Kill it, and all that it started in its group, at whatever it was doing."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not come to lead its group
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def kill_alone(self) -> None:
        """Kill it, and let what it started live on."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        os.kill(self.pid, signal.SIGTERM)
        self.wait()

    def wait(self) -> int:
        """Wait for its end; give the exit code, negative for a signal."""
        if self._status is None:
            _, status = os.waitpid(self.pid, 0)
            self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def has_ended(self) -> bool:
        """Say whether it has ended by itself."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is not None

    def finish(self, what: str) -> None:
        """Wait for its end, which must be a good one."""
        if self.wait() != 0:
            raise SystemExit(f"{what}: {self.journal.read_text()[-3_000:]}")


def _be(work: Callable[[], None], journal: Path) -> None:
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        place = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(place, 1)
        os.dup2(place, 2)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        traceback.print_exc()
    except BaseException:  # noqa: BLE001 - the end of this process: told, and over
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
