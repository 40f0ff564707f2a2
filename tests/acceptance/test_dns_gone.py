"""The name server is gone: said in plain words, waited out, and of no harm to jobs."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from sublet.cli.local_market import point_tenant, read_ready
from sublet.core.egress import EgressRules, parse_destination
from sublet.core.lease.phase import Phase
from sublet.provider.lease_state import Stage
from tests.acceptance.market_house import House, close_house, until
from tests.acceptance.test_egress import Hello
from tests.rig.preload import Preloaded

pytestmark = pytest.mark.sandbox

KNOWN, GONE, HANGS = b"y", b"n", b"s"
COUNTING = "for n in $(seq 1 {last}); do echo line $n.; sleep 0.5; done"
# Asks until it is answered, and writes each answer that is new.
ASKING = """
import sys, time, urllib.error, urllib.request
said = ""
while not said.startswith("hello"):
    try:
        new = urllib.request.urlopen(sys.argv[1], timeout=60).read().decode()
    except urllib.error.HTTPError as error:
        new = error.read().decode().strip()
    if new != said:
        said = new
        print(said, flush=True)
    time.sleep(0.2)
"""
# Wants to know forty names at a time, for ever.
FLOODING = """
import sys, threading, urllib.request
def ask(number):
    while True:
        try:
            urllib.request.urlopen(f"http://n{number}.test:1/", timeout=60)
        except OSError:
            pass
for number in range(40):
    threading.Thread(target=ask, args=(number,)).start()
print("asking", flush=True)
"""


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Preloaded:
    """Give the name server of all machines but the node's."""
    folder = tmp_path_factory.mktemp("names") / "names"
    return Preloaded("names.c", folder, variable="NAMES", state=KNOWN)


@pytest.fixture(scope="module")
def house(
    tmp_path_factory: pytest.TempPathFactory, names: Preloaded
) -> Iterator[House]:
    """Give a market that its provider knows by name, and a provider with patience."""
    house = House(tmp_path_factory.mktemp("market"), lost_after_s=60, credit_s=300)
    yield from run_house(house, names, is_named=True)


@pytest.fixture(scope="module")
def open_house(
    tmp_path_factory: pytest.TempPathFactory, names: Preloaded
) -> Iterator[House]:
    """Give a market whose provider lets jobs reach others by name."""
    allowed = parse_destination("*:*", field="x", is_owner=True)
    egress = EgressRules((allowed,), (), local=("127.0.0.1/32",))
    house = House(tmp_path_factory.mktemp("market"), egress=egress)  # type: ignore[arg-type]
    yield from run_house(house, names, is_named=False)


def run_house(house: House, names: Preloaded, *, is_named: bool) -> Iterator[House]:
    """Run a market with one provider."""
    try:
        house.start_node()
        by_address = house.url
        house.url = by_name(house) if is_named else by_address
        with names.machine():
            program = house.start_provider("cheap")
        house.url = by_address
        point_tenant(house.tenant_home, house.url)
        asyncio.run(house.fund())
        read_ready(program)
        house.wait_offers(1)
        yield house
    finally:
        close_house(house)


@pytest.fixture(autouse=True)
def names_are_known(names: Preloaded) -> Iterator[None]:
    """Begin each test with a name server."""
    names.set(KNOWN)
    yield


def by_name(house: House) -> str:
    """Give the market's address, as people know it."""
    return house.url.replace("127.0.0.1", "market.test")


async def test_job_outlives_its_names(house: House, names: Preloaded) -> None:
    """All links break and nobody knows where to dial; until somebody does again."""
    with names.machine():
        command = ("sh", "-c", COUNTING.format(last=50))
        job = house.run("--json", "--market", by_name(house), "--", *command)
    lease = await house.wait_lease(Phase.RUNNING)
    names.set(GONE)
    house.kill_node()
    journal = house.providers["cheap"].journal  # names are kept for ten seconds
    await until(lambda: "name_not_found" in journal.read_text(), about=journal)
    await job.wait_notice(b"no name server tells where")
    house.start_node()
    assert house.stages("cheap") == [Stage.RUNNING]
    names.set(KNOWN)
    assert await job.wait() == 0, job
    (attempt,) = job.result().attempts
    assert (attempt.lease_id, attempt.outcome) == (lease.id, "exited")
    assert job.written()[0].splitlines()[-1] == b"line 50."
    settled = await house.wait_settled(lease.id)
    assert settled.paid == settled.owed > 0
    await house.check_books()


async def test_tenant_is_told_and_may_name_another_node(
    open_house: House, names: Preloaded
) -> None:
    names.set(GONE)
    with names.machine():
        lost = open_house.run("--market", by_name(open_house), "--", "true")
        assert await lost.wait() == 3
        assert b"no name server tells where http://market.test" in lost.err.read_bytes()
        both = f"{by_name(open_house)},{open_house.url}"
        job = open_house.run("--market", both, "--", "echo", "found")
    assert await job.wait() == 0, job
    assert job.out.read_bytes() == b"found\n"


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """Give the port of a server that jobs know as ``files.test``."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found.server_port
        found.shutdown()


async def test_job_is_told_and_asks_again(
    open_house: House, names: Preloaded, server: int
) -> None:
    names.set(GONE)
    script = open_house.folder / "asking.py"
    script.write_text(ASKING)
    place = f"files.test:{server}"
    job = open_house.run("--egress", place, str(script), f"http://{place}/a")
    await job.wait_output(b"no name server tells where files.test is; try again")
    names.set(KNOWN)
    assert await job.wait() == 0, job
    assert job.out.read_bytes().endswith(b"hello from /a\n")


async def test_names_of_one_job_hold_up_no_other(
    open_house: House, names: Preloaded
) -> None:
    names.set(HANGS)
    script = open_house.folder / "flooding.py"
    script.write_text(FLOODING)
    flags = ("--egress", "*.test:1")
    flooding = open_house.run(*flags, str(script))
    await flooding.wait_output(b"asking")
    await asyncio.sleep(5)  # for the questions to be under way
    other = open_house.run("--", "echo", "served")
    assert await other.wait() == 0, other
    assert flooding.process.poll() is None
    names.set(GONE)
    flooding.process.send_signal(signal.SIGINT)
    await flooding.wait()
