"""A whole market on one machine: a node, some providers, a funded tenant.

Each party is the program that anybody would run, as a process of its own in a process
group of its own, with a home, keys and a journal of its own below one folder. Used by
``sublet up``, by the demo and by benchmarks. Not here: what is shown (``up``).
"""

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from sublet.base.errors import Refused, SubletError, Unavailable

SUBLET = (sys.executable, "-m", "sublet.cli.main")
MACHINE_NAMES = "provider-{}"
CPU_PRICES = ("0.010", "0.012", "0.015", "0.020", "0.030")  # USD an hour, in turn
CHAIN_PORT = 8545  # as anvil has it
FAUCET = "100.00"  # US dollars for each new tenant
NOTICE_S = 2  # for a provider to end by itself; one with leases is told again
GRACE_S = 10  # for a program that was told to stop, until it is killed
SETUP_S = 120  # for one command of the set-up
OFFERS_S = 30  # until the providers that were started are on offer
POLL_S = 0.2
JOURNAL_TAIL_BYTES = 2_000
_PR_SET_PDEATHSIG = 1

Say = Callable[[str], None]


@dataclass(frozen=True)
class Program:
    """One party's process, and where it says what it does."""

    name: str
    home: Path
    process: "subprocess.Popen[bytes]"
    journal: Path

    def signal_group(self, number: int) -> None:
        """Signal the process and everything that it started in its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def check(self) -> None:
        """Make sure that it still runs.

        Raises:
            Unavailable: it has ended; the message holds its last words.
        """
        code = self.process.poll()
        if code is not None:
            raise Unavailable(
                f"the {self.name} ended with {code}; its last words:\n"
                f"{read_tail(self.journal)}",
                code="program_ended",
            )


class LocalMarket:
    """Use it as a context: inside, the market serves; afterwards nothing runs."""

    def __init__(
        self,
        home: Path,
        *,
        providers: int,
        tenant_home: Path,
        listen: str,
        say: Say,
        has_chain: bool = False,
        chain_port: int = CHAIN_PORT,
    ) -> None:
        """Take what is wanted; nothing is started yet.

        Args:
            home: of the node and the providers; kept between two runs.
            providers: how many.
            tenant_home: of the tenant that is funded and pointed here.
            listen: HOST:PORT of the node; port 0 takes any free one.
            say: told what is going on, a line at a time.
            has_chain: money lies on a chain for development, which runs, too.
            chain_port: of that chain; the settings of the parties name it.
        """
        self.home = home
        self.tenant_home = tenant_home
        self.url = ""
        self.node: Program | None = None
        self.chain: Program | None = None
        self.providers: list[Program] = []
        self._count = providers
        self._listen = listen
        self._say = say
        self._has_chain = has_chain
        self._chain_port = chain_port
        self.rpc = ""  # of the chain

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def check(self) -> None:
        """Make sure that the node still runs; providers may come and go.

        Raises:
            Unavailable: it has ended.
        """
        for program in (self.node, self.chain):
            if program is not None:
                program.check()

    def close(self) -> None:
        """Stop everything: providers first, so that they can say what they have to."""
        stop(self.providers, signal.SIGINT, grace_s=NOTICE_S)
        stop(self.providers, signal.SIGINT, signal.SIGKILL)
        for provider in self.providers:
            end_jobs(provider.home)
        for program in (self.node, self.chain):
            stop([program] if program else [], signal.SIGTERM, signal.SIGKILL)

    # ---- setting up -------------------------------------------------------------

    def _start(self) -> None:
        escrow = self._start_chain() if self._has_chain else ()
        self._say("starting the node")
        node_home = self.home / "node"
        if not (node_home / "config.toml").exists():
            money = escrow or ("--faucet", FAUCET)
            run("node", "init", "--home", node_home, *money)
        self.node = start("node", node_home, "--listen", self._listen)
        self.url = read_ready(self.node)["url"]
        point_tenant(self.tenant_home, self.url)
        self._say("funding the tenant")
        if self.rpc:
            self._fund(self.tenant_home)
        else:
            asyncio.run(fund_tenant(self.tenant_home, self.url))
        for number in range(1, self._count + 1):
            self._say(f"starting provider {number} of {self._count}")
            self.providers.append(self._start_provider(number))
        for provider in self.providers:
            read_ready(provider)
        asyncio.run(wait_offers(self.tenant_home, self.url, count=self._count))

    def _start_chain(self) -> tuple[str, ...]:
        """Start the chain; give what a new node has to know of it."""
        self._say("starting the chain")
        port = str(self._chain_port)
        self.chain = start("devchain", self.home / "chain", "--port", port)
        told = read_ready(self.chain)
        self.rpc = told["rpc"]
        return (
            "--rpc", told["rpc"], "--chain-id", str(told["chain_id"]),
            "--contract", told["contract"], "--token", told["token"],
            "--confirmations", "0", "--public-rpc", told["rpc"], "--stake", told["stake"],
        )  # fmt: skip

    def _fund(self, home: Path) -> None:
        """Give a party test USDC and gas."""
        from sublet.adapter.key_file import load_or_create_key

        address = load_or_create_key(home / "key").address
        run("devchain", "fund", address, "--usdc", FAUCET, "--rpc", self.rpc)

    def _start_provider(self, number: int) -> Program:
        name = MACHINE_NAMES.format(number)
        home = self.home / name
        if not (home / "config.toml").exists():
            price = CPU_PRICES[(number - 1) % len(CPU_PRICES)]
            run(
                "provider", "init", "--home", home, "--market", self.url,
                "--name", name, "--cpu-price", price,
            )  # fmt: skip
            if self.rpc:
                name_chain(home, self.rpc)
        if self.rpc:
            self._fund(home)
        return start("provider", home)


def interrupt_once() -> Callable[[], None]:
    """Let the first Ctrl-C or SIGTERM interrupt, and later ones not disturb the end.

    Gives a check for loops, which raises KeyboardInterrupt where the first one was
    lost on its way (in a callback that swallows it).
    """
    asked = threading.Event()

    def take(number: int, frame: FrameType | None) -> None:
        if not asked.is_set():
            asked.set()
            raise KeyboardInterrupt

    def check() -> None:
        if asked.is_set():
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, take)
    return check


# ---- processes ----------------------------------------------------------------------


def run(*argv: str | Path) -> str:
    """Run a command of ``sublet`` to its end; give what it printed.

    Raises:
        Refused: it failed; the message is its own.
    """
    done = subprocess.run(
        [*SUBLET, *map(str, argv)],
        capture_output=True,
        text=True,
        check=False,
        timeout=SETUP_S,
        env={**os.environ, "SUBLET_NO_WARM": "1"},
    )
    if done.returncode:
        command = " ".join(map(str, argv[:2]))
        raise Refused(f"sublet {command} failed: {done.stderr.strip()}", code="setup")
    return done.stdout


def start(face: str, home: Path, *flags: str) -> Program:
    """Start a node or a provider; it dies with this process, whatever kills that."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    journal = home / "journal.log"
    with journal.open("ab") as file:
        process = subprocess.Popen(
            [*SUBLET, face, "start", "--home", str(home), "--json", *flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    return Program(home.name, home, process, journal)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def read_ready(program: Program) -> Any:
    """Wait for the line of JSON by which a program says that it serves.

    Raises:
        Unavailable: it ended instead.
    """
    if program.process.stdout is None:
        raise AssertionError("started with a pipe")
    line = program.process.stdout.readline()
    if not line:
        program.process.wait()
        program.check()
    return json.loads(line)


def stop(programs: Sequence[Program], *signals: int, grace_s: float = GRACE_S) -> None:
    """Send one signal after another, each time to what still runs after the grace."""
    for number in signals:
        running = [one for one in programs if one.process.poll() is None]
        for one in running:
            one.signal_group(number)
        for one in running:
            with suppress(subprocess.TimeoutExpired):
                one.process.wait(grace_s)


def job_folders(provider_home: Path) -> list[Path]:
    """Find the state folders of a provider's sandboxes, past ones too."""
    found = [
        *provider_home.glob("leases/*/*/cgroup.json"),
        *provider_home.glob("packages/*/sandbox/cgroup.json"),
    ]
    # A job may have made a file of that name in its own folder.
    return [path.parent for path in found if path.parent.name != "work"]


def end_jobs(provider_home: Path) -> None:
    """End every job that outlived its provider's agent, and remove its groups."""
    from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox

    sandbox = BubblewrapSandbox()
    for folder in job_folders(provider_home):
        with suppress(SubletError):  # it never started, or is gone already
            asyncio.run(sandbox.stop(folder, grace_s=0))


def read_tail(path: Path) -> str:
    """Give the end of a file."""
    with suppress(OSError):
        return path.read_bytes()[-JOURNAL_TAIL_BYTES:].decode(errors="replace")
    return ""


# ---- the tenant ---------------------------------------------------------------------


def point_tenant(home: Path, url: str) -> None:
    """Let the tenant's home name this market.

    Raises:
        Refused: it names another one already; that is somebody's choice.
    """
    from sublet.adapter.home_folder import Home

    place = home / "config.toml"
    if place.exists():
        named = Home(home).read_config().market
        if named != url:
            raise Refused(
                f"{place} names the market {named}; leave it alone and give this one a "
                "tenant of its own: SUBLET_HOME=~/.sublet/up/tenant sublet up",
                code="home_taken",
            )
        return
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    place.write_text(f'market = "{url}"\n')


def name_chain(home: Path, rpc: str) -> None:
    """Let a new provider's settings name the chain."""
    place = home / "config.toml"
    text = place.read_text()
    for before, after in (
        ("\nrpc = []", f'\nrpc = ["{rpc}"]'),
        ("\nconfirmations = 12", "\nconfirmations = 0"),
    ):
        text = text.replace(before, after, 1)
    place.write_text(text)


async def fund_tenant(home: Path, url: str) -> None:
    """Get the tenant its credits; one that had some keeps what is left."""
    from sublet.workload.client import AsyncClient

    async with AsyncClient(url, home=home) as client:
        try:
            await client.faucet()
        except Refused as refusal:
            if refusal.code != "faucet_spent":
                raise


async def wait_offers(home: Path, url: str, *, count: int) -> None:
    """Wait until so many machines are on offer.

    Raises:
        Unavailable: they do not come up.
    """
    from sublet.workload.client import AsyncClient

    async with AsyncClient(url, home=home) as client:
        for _ in range(int(OFFERS_S / POLL_S)):
            if sum(offer.is_up for offer in await client.offers()) >= count:
                return
            await asyncio.sleep(POLL_S)
    raise Unavailable(
        f"fewer than {count} machines are on offer after {OFFERS_S} s; their journals "
        "say why",
        code="no_offers",
    )
