"""A real market for acceptance tests: every party is a process of its own.

The programs are those that people run: ``sublet node start``, ``sublet provider
start`` with bubblewrap, ``sublet run``. Deadlines are short, so that waiting for them
is affordable; nothing here asserts how long something took.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from sublet.adapter.cgroup import Group
from sublet.adapter.key_file import create_note_key, load_or_create_key
from sublet.cli.local_market import (
    Program,
    end_jobs,
    job_folders,
    point_tenant,
    read_ready,
    run,
    start,
)
from sublet.core.lease.phase import Lease, Phase
from sublet.provider.config import write_config
from sublet.provider.host_key import create_host_key
from sublet.provider.lease_state import Stage
from sublet.provider.record import LeaseRecord
from sublet.wire.signature import Key
from sublet.workload.client import AsyncClient
from sublet.workload.run.result import JobResult
from tests.integration.provider_house import CONFIG

WAIT_S = 90  # for what takes a second or two on an idle machine
PAUSE_S = 0.05
CPU_HOUR = 3_600_000  # micro-USD: one for each millisecond of one CPU
RULES = {
    "accept_s": 30,
    "deliver_s": 60,
    "prepare_s": 240,
    "report_s": 20,
    "close_s": 30,
    "settle_s": 30,
}
NODE_CONFIG = """
listen = "127.0.0.1:0"
faucet = "100.00"
[market]
{rules}
[limits]
lost_after_s = {lost_after_s}
gone_after_s = {lost_after_s}
ping_s = 1
"""
RUN_FLAGS = ("--max-total", "5.00", "--timeout", "10m", "--disk", "64MiB")


class Run:
    """One ``sublet run``, or ``deploy``, in a process group of its own."""

    def __init__(self, house: "House", *argv: str) -> None:
        self.folder = house.folder / f"run-{len(house.runs)}"
        self.folder.mkdir()
        self.out = self.folder / "stdout"
        self.err = self.folder / "stderr"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sublet.cli.main", *argv],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                env={
                    **os.environ,
                    "SUBLET_NO_WARM": "1",
                    "SUBLET_HOME": str(house.tenant_home),
                },
            )
        house.runs.append(self)

    async def wait(self, timeout_s: float = WAIT_S) -> int:
        """Wait for its end; give the exit code."""
        await until(lambda: self.process.poll() is not None, timeout_s, self)
        return self.process.returncode

    async def wait_output(self, text: bytes) -> None:
        """Wait until the job has written something that this side shows."""
        await until(lambda: text in self.out.read_bytes(), WAIT_S, self)

    async def wait_notice(self, text: bytes) -> None:
        """Wait until it has told something about how the job goes."""
        await until(lambda: text in self.err.read_bytes(), WAIT_S, self)

    def result(self) -> JobResult:
        """Give what ``--json`` printed at the end."""
        return msgspec.json.decode(self.out.read_bytes(), type=JobResult)

    def written(self) -> tuple[bytes, bytes]:
        """Give what the job wrote to its two streams, without our notices (--json)."""
        result = self.result()
        out, err = (
            path.read_bytes() if path.exists() else b""  # nothing came
            for path in (Path(result.stdout), Path(result.stderr))
        )
        return out, err

    def __repr__(self) -> str:
        return f"run: {self.process.poll()} {self.err.read_bytes().decode()[-2_000:]}"


class House:
    """One market with its node, providers and one tenant; use ``open_house``."""

    def __init__(
        self,
        folder: Path,
        *,
        rules: dict[str, int] | None = None,
        lost_after_s: int = 4,
        cpus: int = 4,
        **habits: int,
    ) -> None:
        self.folder = folder
        self.tenant_home = folder / "tenant"
        self.node_home = folder / "node"
        self.rules = {**RULES, **(rules or {})}
        self.lost_after_s = lost_after_s
        self.config = replace(
            CONFIG,
            cpus_milli=1_000 * cpus,
            cpu_price_hour=CPU_HOUR,
            **{
                "credit_s": 15,
                "notice_s": 2,
                "voucher_s": 1,
                "retention_s": 20,  # results of tenants who have moved on
                **habits,
            },
        )
        self.node: Program
        self.url = ""
        self.providers: dict[str, Program] = {}
        self.addresses: dict[str, str] = {}  # of the providers, by name
        self.runs: list[Run] = []
        self.groups: dict[Path, Group] = {}

    # ---- programs -----------------------------------------------------------------

    def prepare_node(self, *, operator: Key | None = None) -> None:
        """Lay out the node's home, once; ``operator`` where a test signs as such."""
        if self.node_home.exists():
            return
        self.node_home.mkdir(mode=0o700)
        key = self.node_home / "key"
        if operator is None:
            load_or_create_key(key)
        else:
            key.touch(mode=0o600)
            key.write_text(operator.to_hex() + "\n")
        create_note_key(self.node_home / "note_key", name="sublet-market")
        lines = "\n".join(f"{key} = {value}" for key, value in self.rules.items())
        text = NODE_CONFIG.format(rules=lines, lost_after_s=self.lost_after_s)
        (self.node_home / "config.toml").write_text(text)

    def start_node(self) -> None:
        """Start the node; the second time where it was before."""
        self.prepare_node()
        listen = self.url.removeprefix("http://") or "127.0.0.1:0"
        self.node = start("node", self.node_home, "--listen", listen)
        self.url = read_ready(self.node)["url"]

    def kill_node(self) -> None:
        """Kill the node as a machine does whose power goes."""
        self.node.process.kill()
        self.node.process.wait()

    def start_provider(
        self, name: str, *, price: int = CPU_HOUR, **config: object
    ) -> Program:
        """Start a provider's agent; the second time it finds what it had."""
        home = self.folder / name
        if not home.exists():
            home.mkdir(mode=0o700)
            made = replace(
                self.config,
                **{"market": self.url, "name": name, "cpu_price_hour": price, **config},
            )
            write_config(home, made, price_story="for a test")
            create_host_key(home)
            self.addresses[name] = load_or_create_key(home / "key").address
        self.providers[name] = start("provider", home)
        return self.providers[name]

    def wait_offers(self, count: int) -> None:
        """Wait until so many providers offer their machines."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            with urllib.request.urlopen(self.url + "/v1/offers") as answer:
                offers = json.load(answer)["offers"]
            if sum(offer["is_up"] for offer in offers) >= count:
                return
            time.sleep(PAUSE_S)
        raise AssertionError(f"{count} offers never came")

    async def kill_machine(self, name: str) -> None:
        """Kill a provider's whole process group: agent, wardens, jobs."""
        self.note_groups()
        program = self.providers[name]
        program.signal_group(signal.SIGKILL)
        program.process.wait()
        for place, group in self.groups.items():
            if place.is_relative_to(program.home):
                await until(lambda of=group: not read_processes(of), about=group)

    def run(self, *argv: str) -> Run:
        """Start ``sublet run``."""
        return Run(self, "run", *RUN_FLAGS, *argv)

    def sublet(self, *argv: str, code: int = 0) -> str:
        """Run another verb as the tenant; give what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "sublet.cli.main", *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_S,
            env={
                **os.environ,
                "SUBLET_NO_WARM": "1",
                "SUBLET_HOME": str(self.tenant_home),
            },
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    # ---- what is seen -------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def tenant(self) -> AsyncIterator[AsyncClient]:
        """Ask the market as the tenant, from this process."""
        async with AsyncClient(self.url, home=self.tenant_home) as client:
            yield client

    async def fund(self) -> None:
        """Get the tenant its credits."""
        async with self.tenant() as client:
            await client.faucet()

    async def leases(self) -> tuple[Lease, ...]:
        """Give the tenant's leases, oldest first."""
        async with self.tenant() as client:
            found = await client.leases(is_all=True)
        return tuple(sorted(found, key=lambda lease: (lease.matched_at_s, lease.id)))

    async def wait_lease(self, *phases: Phase, known: tuple[Lease, ...] = ()) -> Lease:
        """Wait until a lease that was not known before is in one of these phases."""
        old = {lease.id for lease in known}
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for lease in await self.leases():
                if lease.id not in old and lease.phase in phases:
                    return lease
            await asyncio.sleep(PAUSE_S)
        raise AssertionError(f"no lease became {phases}: {await self.leases()}")

    async def wait_settled(self, lease_id: str) -> Lease:
        """Wait until one lease is over."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            for lease in await self.leases():
                if lease.id == lease_id and lease.phase is Phase.SETTLED:
                    return lease
            await asyncio.sleep(PAUSE_S)
        raise AssertionError(f"never settled: {await self.leases()}")

    def stages(self, name: str) -> list[Stage]:
        """Say where the leases of a provider stand, as its own files have it."""
        found = []
        for path in (self.folder / name / "leases").glob("*/record.json"):
            with contextlib.suppress(FileNotFoundError):
                found.append(
                    msgspec.json.decode(path.read_bytes(), type=LeaseRecord).stage
                )
        return found

    def note_groups(self) -> None:
        """Remember the control groups of every sandbox that there is now."""
        for name in self.addresses:
            for place in job_folders(self.folder / name):
                with contextlib.suppress(FileNotFoundError):
                    raw = (place / "cgroup.json").read_bytes()
                    self.groups[place] = msgspec.json.decode(raw, type=Group)

    async def check_nothing_left(self) -> None:
        """Assert: no lease folder, no process, no control group, nothing on hold."""
        for name in self.addresses:
            folder = self.folder / name / "leases"
            await until(lambda at=folder: not list(at.iterdir()), WAIT_S, folder)
        for group in self.groups.values():
            assert read_processes(group) == []
            own = set(group.folders) - set(group.shared)
            await until(lambda at=own: not any(Path(x).exists() for x in at), 10, own)
        await self.check_books()

    async def check_books(self) -> None:
        """Assert: nothing on hold, all paid and spent adds up, the audit agrees."""
        async with self.tenant() as client:
            account = await client.account()
            leases = await client.leases(is_all=True)
        assert account.held == 0, account
        assert account.spent == sum(lease.paid for lease in leases)
        assert account.balance == 100_000_000 - account.spent, account
        run("audit", "verify", "--market", self.url)


async def until(
    holds: Callable[[], bool], timeout_s: float = WAIT_S, about: object = ""
) -> None:
    """Wait until something holds that nobody tells us of."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, about
        await asyncio.sleep(PAUSE_S)


def read_processes(group: Group) -> list[int]:
    """List the processes of a sandbox."""
    try:
        return [int(pid) for pid in Path(group.joins[0]).read_text().split()]
    except OSError:
        return []


@contextmanager
def open_house(folder: Path, **settings: object) -> Iterator[House]:
    """Open a market with two providers, one cheap and one dear, and a funded tenant."""
    house = House(folder, **settings)  # type: ignore[arg-type]
    try:
        house.start_node()
        house.start_provider("cheap")
        house.start_provider("dear", price=2 * CPU_HOUR)
        point_tenant(house.tenant_home, house.url)
        fund_and_wait(house)
        yield house
    finally:
        close_house(house)


def fund_and_wait(house: House) -> None:
    """Fund the tenant; wait until both providers offer."""
    asyncio.run(house.fund())
    for program in house.providers.values():
        read_ready(program)
    house.wait_offers(2)


def close_house(house: House) -> None:
    """End everything that still runs; what a test left over is not its successor's."""
    for each in house.runs:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
    for program in (*house.providers.values(), house.node):
        if program.process.poll() is None:
            program.signal_group(signal.SIGKILL)
            program.process.wait()
        if program.process.stdout is not None:
            program.process.stdout.close()
    for name in house.addresses:
        end_jobs(house.folder / name)
