"""One market whose providers are killed again and again, with jobs running on them.

Everybody is a process of its own: the node, agents with their wardens in real
sandboxes, a tenant whose jobs are moved on by the client that people use. What ran is
told by the programs themselves: each appends a line to a file outside of the sandbox,
named by its lease, when it begins. No part of Sublet reads or writes these files.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from urllib.request import urlopen

import msgspec
import psutil
from msgspec import Struct
from msgspec.structs import replace

from benchmarks.rig.crash_market import Books, Verdict
from benchmarks.rig.zygote import Fork
from sublet.adapter.key_file import load_or_create_key
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.cli.local_market import end_jobs
from sublet.core.lease.phase import Fault, Phase
from sublet.provider.compose import serve
from sublet.provider.config import write_config
from sublet.provider.host_key import create_host_key
from sublet.provider.journal import Journal, send_to_stderr
from sublet.service.ports import Bind, Probe, SandboxSpec
from sublet.workload.client import AsyncClient
from sublet.workload.run.result import JobResult
from tests.integration.provider_house import CONFIG

MACHINES = 8
AT_ONCE = 8  # jobs
LOST_AFTER_S = 2
AWAY_S_MAX = 2 * LOST_AFTER_S  # of a machine that does not come back at once
BACK_AT_ONCE = 0.7  # the share that does
BUSY = 0.9  # the share of kills that look for a machine with a job
CREDITS = 1_000_000_000  # micro-USD, from the faucet
JOB_S_MAX = 1.0
PAUSE_S_MAX = 0.4  # between two kills
SETTLED_S = 90.0  # at the longest, for what is open when the last job is over
RULES = f"""
faucet = "{CREDITS // 1_000_000}.00"
[market]
name = "crash"
accept_s = 20
deliver_s = 30
prepare_s = 60
report_s = 20
close_s = 20
settle_s = 20
[limits]
requests_per_s = 1000000
requests_burst = 1000000
lost_after_s = {LOST_AFTER_S}
ping_s = 1
"""
# The lease is not known inside, but for the name that the rig gives it there.
PROGRAM = 'echo begun >> /evidence; sleep "$0"; echo "$LEASE"'


class Told(Struct):
    """What the tenant was told of one job, and what it holds of it."""

    result: JobResult
    output: str


# ---- a machine ----------------------------------------------------------------------


class WatchedSandbox(BubblewrapSandbox):
    """The sandbox, with the file that its program leaves evidence in."""

    def __init__(self, evidence: Path) -> None:
        super().__init__()
        self._evidence = evidence

    def probe(self, *, gpu_uuids: Sequence[str] = ()) -> Probe:
        """It was tried out once, before the first of these processes was forked."""
        return Probe(True, "tried out")

    async def start(self, spec: SandboxSpec, *, folder: PurePath) -> None:
        lease = folder.parent.name
        place = self._evidence / lease
        place.touch()
        bind = Bind(str(place), "/evidence", is_writable=True)
        spec = replace(
            spec, binds=(*spec.binds, bind), env={**spec.env, "LEASE": lease}
        )
        await super().start(spec, folder=folder)


class Machine:
    """One provider: its agent, and the wardens that may outlive it."""

    def __init__(self, folder: Path, number: int, *, url: str) -> None:
        self.home = folder / f"machine-{number}"
        self.back_at = 0.0  # monotonic, while it is away
        self._evidence = folder / "evidence"
        self._agent: Fork | None = None
        self.home.mkdir(mode=0o700)
        config = replace(
            CONFIG,
            market=url,
            name=self.home.name,
            cpu_price_hour=CONFIG.cpu_price_hour + number,
        )
        write_config(self.home, config, price_story="for a benchmark")
        create_host_key(self.home)
        load_or_create_key(self.home / "key")

    @property
    def is_away(self) -> bool:
        return self._agent is None

    def start(self) -> None:
        """Start the agent; it finds what the one before has left."""
        if self._agent is None:
            self._agent = Fork(
                lambda: _be_provider(self.home, self._evidence),
                journal=self.home / "journal.log",
            )

    def check(self) -> None:
        """The agent runs until it is killed."""
        if self._agent is not None and self._agent.has_ended():
            last = self._agent.journal.read_text()[-3_000:]
            raise SystemExit(f"an agent gave up: {last}")

    def wardens(self) -> list[psutil.Process]:
        """Find the wardens that live, at whatever they are doing."""
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if (process.info["cmdline"] or [""])[-1].startswith(f"{self.home}/leases/")
        ]

    def kill_agent(self) -> None:
        """Kill the agent; jobs go on."""
        if self._agent is not None:
            self._agent.kill_alone()
            self._agent = None

    def kill_warden(self, chance: random.Random) -> bool:
        """Kill one job's warden; False where there is none."""
        wardens = self.wardens()
        if wardens:
            with suppress(psutil.NoSuchProcess):
                chance.choice(wardens).kill()
        return bool(wardens)

    def kill_all(self) -> None:
        """Kill agent, wardens and jobs."""
        self.kill_agent()
        for warden in self.wardens():
            with suppress(psutil.NoSuchProcess):
                family = [warden, *warden.children(recursive=True)]
                for process in family:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()

    def close(self) -> None:
        """Leave nothing that runs."""
        self.kill_all()
        end_jobs(self.home)


def _be_provider(home: Path, evidence: Path) -> None:
    send_to_stderr(is_json=True)
    asyncio.run(serve(home, sandboxes=(WatchedSandbox(evidence),), journal=Journal()))


def try_out() -> None:
    """Make sure, once, that the sandbox holds here."""
    probe = BubblewrapSandbox().probe()
    if not probe.is_ok:
        raise SystemExit(
            f"providers cannot be killed without a sandbox: {probe.reason}"
        )


# ---- the nemesis --------------------------------------------------------------------


class Nemesis:
    """Kills machines, one way or another, and lets them come back."""

    def __init__(self, machines: list[Machine], chance: random.Random) -> None:
        self.kills = 0
        self._machines = machines
        self._chance = chance

    def strike(self) -> None:
        """Kill once; whoever is due comes back."""
        self.bring_back(all_=False)
        chance = self._chance
        there = [each for each in self._machines if not each.is_away]
        if not there:
            time.sleep(0.05)
            return
        victim = chance.choice(there)
        if chance.random() < BUSY:
            victim = next((each for each in there if each.wardens()), victim)
        what = chance.choices(("agent", "warden", "all"), (4, 3, 3))[0]
        if what == "warden":
            if not victim.kill_warden(chance):
                return
        else:
            victim.kill_agent() if what == "agent" else victim.kill_all()
            victim.back_at = time.monotonic()
            if chance.random() > BACK_AT_ONCE:
                victim.back_at += chance.uniform(0, AWAY_S_MAX)
        self.kills += 1
        chance.shuffle(self._machines)
        time.sleep(chance.uniform(0, PAUSE_S_MAX))

    def bring_back(self, *, all_: bool) -> None:
        """Start who is due."""
        for machine in self._machines:
            machine.check()
            if machine.is_away and (all_ or machine.back_at <= time.monotonic()):
                machine.start()


# ---- the tenant ---------------------------------------------------------------------


def be_tenant(folder: Path, *, url: str, seed: int) -> None:
    """Run jobs until told to stop; then see the last ones to their end."""
    asyncio.run(_rent(folder, url, random.Random(seed)))


async def _rent(folder: Path, url: str, chance: random.Random) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    notes = os.open(folder / "told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with AsyncClient(url, home=folder / "tenant", environment={}) as client:
        await client.faucet()

        async def work() -> None:
            while not stopped.is_set():
                result = await client.run(
                    *("sh", "-c", PROGRAM, f"{chance.uniform(0, JOB_S_MAX):.2f}"),
                    is_command=True,
                    max_total="5",
                    timeout="60s",
                    retries=5,
                    wait="5s",
                    memory="64MiB",
                    disk="16MiB",
                )
                told = Told(result, _read(result.stdout))
                os.write(notes, msgspec.json.encode(told) + b"\n")

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        deadline = time.monotonic() + SETTLED_S
        while any(x.phase is not Phase.SETTLED for x in await client.leases()):
            if time.monotonic() > deadline:
                raise SystemExit("a lease was never settled")
            await asyncio.sleep(0.2)


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


# ---- the books, held against what ran -------------------------------------------------


def judge(books: Books, folder: Path, verdict: Verdict) -> None:
    """Hold the books to what the programs and the tenant say, too."""
    lines = (folder / "told").read_bytes().splitlines()
    told = [msgspec.json.decode(line, type=Told) for line in lines]
    ran = {
        path.name: path.read_text().count("begun")
        for path in (folder / "evidence").iterdir()
    }
    verdict.jobs = len(told)
    # One program for one lease, and none without a lease.
    verdict.lost += len(ran.keys() - books.leases.keys())
    twice = [f"{lease} ran {count} times" for lease, count in ran.items() if count > 1]
    for each in told:
        attempts, is_done = each.result.attempts, each.result.exit_code == 0
        paid = sum(books.leases[x.lease_id].paid > 0 for x in attempts)
        verdict.moved += len(attempts) > 1
        verdict.given_up += not is_done
        verdict.unpaid += is_done and not paid
        verdict.paid_again += paid > 1
        if is_done:
            twice += _find_doubled(each, books, ran)
    verdict.doubled += len(twice)
    for line in twice:
        print(line)  # in the journal, and from there on the screen


def _find_doubled(told: Told, books: Books, ran: dict[str, int]) -> Iterator[str]:
    """Say where a result is not that of the one lease that counts."""
    name, said = f"job {told.result.job_id}", told.output.split()
    attempts = told.result.attempts
    last = attempts[-1]
    # What a lost attempt had said was heard, too: once, and before.
    known = [each.lease_id for each in attempts]
    if said[-1:] != known[-1:] or said != [x for x in known if x in said]:
        yield f"{name} has the output {said}, not that of {known}"
    if ran.get(last.lease_id) != 1:
        yield f"{name} has the result of {last.lease_id}, which did not run"
    is_lost = books.leases[last.lease_id].fault is Fault.PROVIDER
    lost_at_ms = (books.settled_at_s[last.lease_id] + 1) * 1_000
    if is_lost and last.to_ms >= lost_at_ms:
        yield f"{name} has what {last.lease_id} said after it was lost"


def wait_ready(url: str, machines: list[Machine]) -> None:
    """Wait until every machine is on offer."""
    deadline = time.monotonic() + SETTLED_S
    while time.monotonic() < deadline:
        for machine in machines:
            machine.check()
        with urlopen(f"{url}/v1/offers") as answer:
            offers = json.load(answer)["offers"]
        if sum(offer["is_up"] for offer in offers) == MACHINES:
            return
        time.sleep(0.1)
    raise SystemExit("the machines were never on offer")
