"""Bombs beside honest work: nobody takes more than was given, or stays longer.

For each kind of sandbox all bombs are lit at once, each in a sandbox of its own, on
the same machine as an honest job, which does all of its work while they go on.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from sublet.adapter.cgroup import Group
from sublet.adapter.remains import remove_folder
from sublet.service.ports import SandboxState
from tests.acceptance.escape.cellblock import EACH, KINDS, MIB, Inmate
from tests.rig.open_folder import make_open_folder

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(400),  # the first test lights all bombs, on a busy machine
]

WAIT_S = 90
MEMORY = 64 * MIB
DISK = 16 * MIB
LOG = 100_000
CPUS_MILLI = 150
PROCESSES = 48
BESIDE_MIN = 4  # bombs that still go on when the honest job has done its work
HELD = "held"  # goes on within its limits until it is stopped
MEMORY_OUT = "out_of_memory"
EITHER = (HELD, MEMORY_OUT, "exited")  # full before the kernel has to kill, or after
BOMBS: dict[str, tuple[str, ...]] = {
    "forks": (HELD,),
    "threads": (HELD,),
    "heap": (MEMORY_OUT,),
    "heap_of_children": (HELD,),
    "tmp": EITHER,
    "shared": EITHER,
    "memory_files": EITHER,
    "segments": EITHER,
    "shared_maps": (MEMORY_OUT,),
    "page_cache": (HELD, "disk_full"),
    "pipes": EITHER,
    "sockets": EITHER,
    "tcp": EITHER,
    "one_file": (HELD, "disk_full"),
    "many_files": ("disk_full",),
    "empty_files": ("disk_full",),
    "deep_folders": ("disk_full",),
    "hidden_folder": ("disk_full",),
    "removed_file": ("disk_full",),
    "sparse_file": (HELD,),
    "swapped_folders": (HELD,),
    "computes": (HELD,),
    "files_open": (HELD,),
    "output": (HELD,),
    "output_small": (HELD,),
    "stays": ("exited",),
    "stops_itself": (HELD,),
    "kills_all": (HELD, "exited"),
    "signals_keeper": (HELD, "exited"),
}
# gVisor's kernel is a process of the sandbox. It lives within the job's limits, and ends
# with them: whatever takes too much of it takes the whole job along.
GVISOR: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("forks", "threads", "heap_of_children", "files_open"),
    (HELD, MEMORY_OUT, "exited"),
)


class Outcome(msgspec.Struct):
    """What came of a bomb."""

    state: SandboxState
    was_lit: bool
    written: int  # bytes of its two streams
    most_processes: int
    group: Group


class Ward:
    """All bombs of one kind of sandbox, and the honest job among them."""

    def __init__(self, kind: str, base: Path) -> None:
        self.kind = kind
        self.base = base
        self.sandbox = KINDS[kind]()
        self.inmates: dict[str, Inmate] = {}
        self.groups: dict[str, Group] = {}
        self.honest = Inmate(base / "honest", self.sandbox)
        self.running_at_the_end = 0
        self.honest_state: SandboxState | None = None
        self.outcomes: dict[str, Outcome] = {}

    async def light(self, number: int, name: str) -> None:
        inmate = Inmate(self.base / name, self.sandbox, number=number)
        self.inmates[name] = inmate
        # gVisor's own kernel and file servers take some 40 MiB of the job's share.
        memory = MEMORY * 2 if self.kind == "gvisor" else MEMORY
        await inmate.start(
            "bombs.py",
            name,
            memory_bytes=memory,
            cpus_milli=CPUS_MILLI,
            processes_max=PROCESSES,
            disk_bytes=DISK,
            file_bytes_max=64 * MIB,
            tmp_bytes=MEMORY * 4,
            log_bytes_max=LOG,
            timeout_s=600,
        )
        raw = (inmate.folder / "cgroup.json").read_bytes()
        self.groups[name] = msgspec.json.decode(raw, type=Group)

    async def go(self) -> None:
        """Light all of them, let the honest job do its work, end the rest."""
        for number, name in enumerate(BOMBS, start=1):
            await self.light(number, name)
        await self.honest.start("honest.py")
        async with asyncio.timeout(WAIT_S * 2):
            self.honest_state = await self.sandbox.wait_ended(self.honest.folder)
        self.running_at_the_end = self.count_running()
        for name, expected in BOMBS.items():
            await self.wait_effect(name, expected)
        most = {name: self.count(name) for name in BOMBS}
        for name, inmate in self.inmates.items():
            state = await self.sandbox.stop(inmate.folder, grace_s=0)
            written = inmate.stdout.stat().st_size + inmate.stderr.stat().st_size
            lit = "lit" in inmate.said()
            self.outcomes[name] = Outcome(
                state, lit, written, most[name], self.groups[name]
            )

    def count_running(self) -> int:
        return sum(
            self.sandbox.read_state(inmate.folder).phase == "running"
            for inmate in self.inmates.values()
        )

    def count(self, name: str) -> int:
        """Count the processes of a bomb, as the host sees them."""
        try:
            return len(Path(self.groups[name].joins[0]).read_text().split())
        except OSError:
            return 0

    async def wait_effect(self, name: str, expected: tuple[str, ...]) -> None:
        """Wait for the end of what ends by itself."""
        inmate = self.inmates[name]
        async with asyncio.timeout(WAIT_S):
            if HELD not in expected:
                await self.sandbox.wait_ended(inmate.folder)
            while inmate.said()[:1] != ["lit"]:
                if self.sandbox.read_state(inmate.folder).phase == "ended":
                    return
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=EACH)
async def ward(request: pytest.FixtureRequest) -> AsyncIterator[Ward]:
    # Not a folder of pytest's, which could not remove what the bombs leave in it.
    base = make_open_folder("sublet-bombs-")
    found = Ward(request.param, base)
    try:
        await found.go()
        yield found
    finally:
        for inmate in found.inmates.values():
            if (inmate.folder / "state.json").exists():
                await found.sandbox.stop(inmate.folder, grace_s=0)
        await remove_folder(base)


async def test_honest_job_does_its_work(ward: Ward) -> None:
    state = ward.honest_state
    assert state is not None
    assert (state.exit_code, state.reason) == (0, "exited"), ward.honest.complained()
    assert len(ward.honest.said()) == 9
    assert ward.running_at_the_end >= BESIDE_MIN  # beside them, not after them


@pytest.mark.parametrize("name", BOMBS)
async def test_bomb_is_contained(ward: Ward, name: str) -> None:
    outcome, inmate = ward.outcomes[name], ward.inmates[name]
    expected = GVISOR.get(name, BOMBS[name]) if ward.kind == "gvisor" else BOMBS[name]
    reason = HELD if outcome.state.reason == "stopped" else outcome.state.reason
    assert outcome.was_lit, inmate.complained()
    assert reason in expected, (outcome, inmate.said()[-3:], inmate.complained()[-500:])


@pytest.mark.parametrize("name", BOMBS)
async def test_bomb_took_no_more_than_its_share(ward: Ward, name: str) -> None:
    outcome = ward.outcomes[name]
    state = outcome.state
    memory = MEMORY * 2 if ward.kind == "gvisor" else MEMORY
    assert state.memory_bytes_max <= memory + MIB  # the kernel charges in batches
    # A quota counts in periods of 100 ms, and each processor may be a slice ahead.
    assert state.cpu_ms <= state.ran_ms * CPUS_MILLI / 1_000 * 1.1 + 200
    own = 256 if ward.kind == "gvisor" else 8
    assert outcome.most_processes <= PROCESSES + own
    assert outcome.written <= 2 * (LOG + 100)


@pytest.mark.parametrize("name", BOMBS)
async def test_nothing_of_it_is_left(ward: Ward, name: str) -> None:
    outcome = ward.outcomes[name]
    assert outcome.state.phase == "ended"
    assert ward.count(name) == 0
    own = set(outcome.group.folders) - set(outcome.group.shared)
    assert not any(Path(path).exists() for path in own)
    uid = ward.inmates[name].uid
    if os.geteuid() == 0:
        assert find_processes_of(uid) == []


def find_processes_of(uid: int) -> list[str]:
    """Find living processes of a uid on this host."""
    found = []
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            text = path.read_text()
        except OSError:
            continue
        if f"\nUid:\t{uid}\t" in text and "\nState:\tZ" not in text:
            found.append(path.parent.name)
    return found
