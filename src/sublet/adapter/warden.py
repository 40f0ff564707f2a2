"""The warden: stays with one sandbox from its first process to its last.

A program of its own, one per sandbox, so that a job outlives a restart of the agent
that started it. It knows nothing of Sublet: it reads one spec from its stdin, starts
bubblewrap, carries the job's output into files, measures, stops the job when it must,
and writes down how it goes in ``FOLDER/state.json`` (``service.ports.SandboxState``).

What lies in FOLDER: ``state.json``; ``lock``, held while the warden lives; ``alive``,
which the agent touches (untouched for ``orphan_s``, the job is stopped); ``stop``, the
grace in seconds that goes with a SIGTERM. The spec holds secrets and is only ever in
memory. The warden stays in the agent's process group, so that killing the group
kills it, and its sandbox with it; Ctrl-C it leaves to the agent. (bubblewrap binds
its life to ours only at the end of its set-up. A job whose warden is killed in those
few milliseconds lives on until an agent looks at its folder again, and sweeps it.)

It starts as ``python -I -S``, with its code (this module, ``warden_child`` and
``warden_meter``) compiled by the agent: that saves 12 ms. Only built-in modules are
imported, and few, because every one delays every job; ``_signal`` is the C half of
``signal``, whose enums alone take 10 ms. What goes into the spec is decided in
``sandbox_bubblewrap``, what a group is in ``cgroup``.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # has no stubs
import fcntl
import marshal
import os
import select
import sys
import time

from sublet.adapter.warden_child import adopt_orphans, become_bubblewrap
from sublet.adapter.warden_keeper import keep_runtime
from sublet.adapter.warden_meter import (
    Cgroup,
    Stream,
    measure_folder,
    measure_unlinked,
    send,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TICK_S = 1.0  # between two readings of meters and limits
REST_S = 0.01  # after each look at a stream that is cut, so that it costs little
GRACE_S = 5  # from SIGTERM to SIGKILL where nobody said otherwise
DISK_SHARE = 10  # measuring the disk takes at most one part in so many of the time
DISK_PAUSE_S_MAX = 5.0


class Warden:
    """One sandbox, from spawned to gone."""

    def __init__(self, folder: str, spec: dict[str, Any]) -> None:
        """Take the spec; nothing is started yet."""
        self.folder = folder
        self.spec = spec
        self.kind: str = spec["launch"]["kind"]
        self.is_container = self.kind != "bubblewrap"  # by an OCI runtime
        self.cgroup = Cgroup(spec["cgroup"])
        self.streams = [
            Stream(spec[name], bytes_max=spec["log_bytes_max"])
            for name in ("stdout", "stderr")
        ]
        self.is_draining = False  # a stream had something to be thrown away
        self.poll = select.poll()
        self.child = 0  # bubblewrap outside, or the keeper of a runtime
        self.inner = 0  # bubblewrap as the sandbox's PID 1, as seen from here
        self.status = b""  # what bubblewrap (lines of JSON) or a runtime (a pid) said
        self.phase = "starting"
        self.reason = ""
        self.exit_code = 0
        self.started_at_s = 0
        self.started = time.monotonic()
        self.kill_at = 0.0  # monotonic; 0: not asked
        self.alive = (0, self.started)  # mtime of ``alive`` and when it was seen
        self.disk_at = 0.0

    # -- what is known

    def ran_ms(self) -> int:
        """Milliseconds since the program was started; 0 before."""
        if self.phase == "starting":
            return 0
        return int((time.monotonic() - self.started) * 1_000)

    def read_meters(self) -> dict[str, str | int]:
        """Read everything that the state says."""
        return {
            "phase": self.phase,
            "pid": os.getpid(),
            "started_at_s": self.started_at_s,
            "ran_ms": self.ran_ms(),
            "cpu_ms": self.cgroup.cpu_ms(),
            "memory_bytes_max": self.cgroup.memory_bytes_max(),
            "exit_code": self.exit_code,
            "reason": self.reason,
        }

    def write_state(self, meters: dict[str, str | int]) -> None:
        """Replace ``state.json`` in one step. Words and numbers need no escapes."""
        fields = ",".join(
            f'"{name}":{value}' if isinstance(value, int) else f'"{name}":"{value}"'
            for name, value in meters.items()
        )
        draft = self.folder + "/state.json.part"
        try:
            with open(draft, "w", encoding="ascii") as file:
                file.write(f"{{{fields}}}\n")
            os.rename(draft, self.folder + "/state.json")
        except OSError:
            pass  # the provider's disk is full: the last reading stays

    # -- what can be done

    def ask_to_end(self, reason: str, *, grace_s: float) -> None:
        """Send the job SIGTERM now and SIGKILL after the grace; sooner, if asked twice.

        bubblewrap forwards no signals: each process gets its own.
        """
        self.reason = self.reason or reason
        at = time.monotonic() + grace_s
        self.kill_at = min(self.kill_at, at) if self.kill_at else at
        if self.is_container:
            send(self.child, signal.SIGTERM)  # its keeper hands it on
            return
        for pid in self.cgroup.pids():
            if pid not in (self.child, self.inner):
                send(pid, signal.SIGTERM)

    def check_limits(self) -> None:
        """Stop the job for time, for disk, or because nobody wants it any more."""
        if self.kill_at:
            return
        now = time.monotonic()
        timeout_s = self.spec["timeout_s"]
        if timeout_s and self.ran_ms() >= timeout_s * 1_000:
            self.ask_to_end("timeout", grace_s=GRACE_S)
        elif self.is_orphan(now):
            self.ask_to_end("stopped", grace_s=GRACE_S)
        elif now >= self.disk_at and self.is_disk_full():
            self.ask_to_end("disk_full", grace_s=0)

    def is_orphan(self, now: float) -> bool:
        """Say whether nobody has touched ``alive`` for too long, by our own clock."""
        try:
            touched = os.stat(self.folder + "/alive").st_mtime_ns
        except OSError:
            touched = 0
        if touched != self.alive[0]:
            self.alive = (touched, now)
        return now - self.alive[1] > float(self.spec["orphan_s"])

    def is_disk_full(self) -> bool:
        """Say whether the watched folders hold too much, or hide what they hold."""
        before = time.monotonic()
        seen: set[tuple[int, int]] = set()
        try:
            used = sum(measure_folder(path, seen) for path in self.spec["watched"])
            devices = {os.stat(path).st_dev for path in self.spec["watched"]}
            used += measure_unlinked(self.cgroup.pids(), devices=devices, seen=seen)
        except OSError:
            return True
        now = time.monotonic()
        self.disk_at = now + min(DISK_PAUSE_S_MAX, (now - before) * DISK_SHARE)
        return used > int(self.spec["disk_bytes"])

    # -- the course of things

    def spawn(self) -> None:
        """Fork, and let the child become bubblewrap."""
        status, status_sink = os.pipe2(os.O_CLOEXEC)
        out, err = (stream.sink for stream in self.streams)
        self.child = os.fork()
        if self.child == 0:
            code = 70
            try:
                become = keep_runtime if self.is_container else become_bubblewrap
                code = become(self.spec, out=out, err=err, status=status_sink)
            except (OSError, ValueError) as error:
                os.write(err, f"cannot start {self.kind}: {error}".encode())
            finally:
                os._exit(code)
        for handle in (out, err, status_sink):
            os.close(handle)
        self.status_source = status
        self.exit_source = os.pidfd_open(self.child)
        for handle in (status, self.exit_source, *(s.source for s in self.streams)):
            self.poll.register(handle, select.POLLIN)

    def watch(self) -> None:
        """Carry output, tick, and return when bubblewrap has ended."""
        next_tick = time.monotonic() + TICK_S
        while True:
            until = min(next_tick, self.kill_at or next_tick) - time.monotonic()
            if self.is_draining:
                self.is_draining = False
                time.sleep(REST_S)
            ready = [handle for handle, _ in self.poll.poll(max(5, int(until * 1e3)))]
            for handle in ready:
                self.heed(handle)
            if self.exit_source in ready:
                return
            now = time.monotonic()
            if self.kill_at and now >= self.kill_at:
                self.cgroup.kill()
            if now >= next_tick:
                next_tick = now + TICK_S
                self.check_limits()
                self.write_state(self.read_meters())

    def heed(self, handle: int) -> None:
        """Do what a readable file descriptor asks for."""
        for stream in self.streams:
            if handle != stream.source:
                continue
            if not stream.pump():
                self.poll.unregister(handle)
            self.is_draining = self.is_draining or stream.is_cut
        if handle == self.status_source:
            self.read_status()
        elif handle == self.wakeup:
            os.read(handle, 64)
            self.ask_to_end("stopped", grace_s=self.read_grace_s())

    def read_status(self) -> None:
        """Hear from bubblewrap: the sandbox's first process is there, or has ended."""
        content = os.read(self.status_source, 4_096)
        self.status += content
        if not content:
            self.poll.unregister(self.status_source)
        if self.phase != "starting" or not self.is_spawned():
            return
        self.phase = "running"
        self.started = time.monotonic()
        self.alive = (0, self.started)
        self.started_at_s = int(time.time())
        self.write_state(self.read_meters())
        self.answer("running")

    def is_spawned(self) -> bool:
        """Say whether the sandbox's first process is there; find it, for bubblewrap."""
        if self.is_container:
            return self.status.strip().isdigit()  # a pid, but not as we would say it
        _, word, after = self.status.partition(b'"child-pid":')
        if word:
            self.inner = int(after.partition(b"}")[0].partition(b",")[0])
        return bool(word)

    def read_grace_s(self) -> float:
        """Read the grace that the agent left with its SIGTERM."""
        try:
            with open(self.folder + "/stop", encoding="ascii") as file:
                return float(file.read())
        except (OSError, ValueError):
            return GRACE_S

    def answer(self, text: str) -> None:
        """Tell the agent how the start went, once, if it still listens."""
        try:
            os.write(1, text.encode())
        except BrokenPipeError:
            pass
        os.dup2(os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC), 1)

    def finish(self) -> None:
        """Kill what is left, keep what it wrote, and say how it ended."""
        _, status = os.waitpid(self.child, 0)
        ran_ms = self.ran_ms()
        code = os.waitstatus_to_exitcode(status)
        self.exit_code = code if code >= 0 else 128 - code
        self.read_rest_of_status()
        while self.cgroup.pids():
            self.cgroup.kill()
            time.sleep(0.002)
        for stream in self.streams:
            while stream.pump():
                pass
        self.reason = self.reason or self.find_reason()
        meters = self.read_meters()
        meters |= {"phase": "ended", "ran_ms": ran_ms}
        self.reap()
        self.cgroup.remove()
        if self.phase == "starting":
            head = self.streams[1].head.decode(errors="replace")
            self.answer("failed: " + head.replace("\n", " ").strip())
        else:
            self.write_state(meters)

    def find_reason(self) -> str:
        """Say why a job ended that nobody asked to."""
        if self.cgroup.out_of_memory_kills() and self.exit_code:
            if self.is_container:
                self.exit_code = 128 + signal.SIGKILL  # a runtime has words of its own
            return "out_of_memory"
        if self.is_container:
            return "exited" if self.phase == "running" else "failed"
        # bubblewrap reports the code of a program that it has started, and no other.
        return "exited" if b'"exit-code"' in self.status else "failed"

    def read_rest_of_status(self) -> None:
        """Take what bubblewrap said last; its writers are gone or about to be."""
        os.set_blocking(self.status_source, False)
        try:
            while content := os.read(self.status_source, 4_096):
                self.status += content
        except BlockingIOError:
            pass

    def reap(self) -> None:
        """Collect the orphans that became ours; all of them are dead."""
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass

    def listen(self) -> None:
        """Take SIGTERM as a request; leave Ctrl-C and a lost terminal to the agent."""
        self.wakeup, sink = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(sink)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.poll.register(self.wakeup, select.POLLIN)


def main() -> None:
    """Read the spec, run the sandbox, write how it ended."""
    os.umask(0o077)
    folder = sys.argv[1]
    lock = os.open(folder + "/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Written by our own agent, with this very interpreter; json would cost 15 ms.
    # Nobody else holds the pipe: it is this process's standard input since its birth.
    spec = marshal.load(sys.stdin.buffer)  # noqa: S302  # nosec B302
    adopt_orphans()
    warden = Warden(folder, spec)
    warden.listen()
    warden.spawn()
    warden.watch()
    warden.finish()
    os._exit(0)  # taking the interpreter down in order would cost 5 ms more


if __name__ == "__main__":
    main()
