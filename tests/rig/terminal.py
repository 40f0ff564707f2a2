"""A person at a terminal: types, looks at the screen, leaves."""

import fcntl
import os
import pty
import signal
import struct
import termios
import time
from pathlib import Path
from select import select

WAIT_S = 90


class Person:
    """Sits at a terminal in which one command runs. Blocks: used in a thread."""

    def __init__(
        self, argv: tuple[str, ...], env: dict[str, str], *, folder: Path | None = None
    ) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder or ".")
            os.execvpe(argv[0], argv, env)
        self.seen = b""
        self.resize(columns=91, rows=33)

    def resize(self, *, columns: int, rows: int) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, size)

    def type(self, text: bytes) -> None:
        os.write(self.terminal, text)

    def see(self, text: bytes) -> None:
        """Read the screen until it shows this; what was before it is forgotten."""
        until = time.monotonic() + WAIT_S
        while text not in self.seen:
            assert time.monotonic() < until, self.seen
            if select([self.terminal], [], [], 1)[0]:
                try:
                    self.seen += os.read(self.terminal, 65_536)
                except OSError:
                    raise AssertionError(f"it ended: {self.seen!r}") from None
        self.seen = self.seen.partition(text)[2]

    def ask(self, command: bytes, answer: bytes) -> None:
        self.type(command + b"\n")
        self.see(answer)

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.terminal)[3] & termios.ICANON

    def leave(self) -> int:
        """Wait for the end; give the exit code."""
        until = time.monotonic() + WAIT_S
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
            if select([self.terminal], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.terminal, 65_536)
                except OSError:
                    time.sleep(0.05)
