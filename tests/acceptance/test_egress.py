"""A job reaches what its tenant and the owner agreed on, and nothing else.

By the programs that people run, with ordinary tools inside: curl and Python. The world
outside is a server on this machine, at an address that the owner has named.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sublet.core.egress import EgressRules, parse_destination
from sublet.core.lease.phase import Phase
from tests.acceptance.market_house import House, open_house

pytestmark = pytest.mark.sandbox

ADDRESS = "127.0.0.2"  # not among what tools reach without a proxy
FETCH = """
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=20).read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode().strip())
    except OSError as error:
        print("cut", error)
"""


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello from " + self.path.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with ThreadingHTTPServer((ADDRESS, 0), Hello) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found.server_port
        found.shutdown()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    def allow(text: str) -> EgressRules:
        allowed = parse_destination(text, field="x", is_owner=True)
        forbidden = parse_destination("*.evil.example:*", field="x", is_owner=True)
        return EgressRules((allowed,), (forbidden,), local=("127.0.0.2/32",))

    with open_house(tmp_path_factory.mktemp("market"), egress=allow("*:*")) as opened:
        yield opened


async def test_reaches_what_was_agreed_on(house: House, server: int) -> None:
    known = await house.leases()
    script = house.folder / "fetch.py"
    script.write_text(FETCH)
    agreed = f"{ADDRESS}:{server}"
    job = house.run(
        "--json", "--egress", agreed, str(script),
        f"http://{agreed}/a", f"http://{ADDRESS}:1/b", "http://169.254.169.254/latest",
        "http://127.0.0.1:1/",
    )  # fmt: skip
    assert await job.wait() == 0, job
    said = job.written()[0].decode().splitlines()
    assert said[0] == "hello from /a"
    assert said[1].startswith("403 sublet: 127.0.0.2:1 was not agreed on")
    assert said[2].startswith("403 sublet: 169.254.169.254:80 was not agreed on")
    assert said[3].startswith("cut")  # the job's own loopback
    (attempt,) = job.result().attempts
    assert attempt.egress is not None
    (row,) = attempt.egress.rows
    assert (row.destination, row.connections) == (agreed, 1)
    assert row.bytes_in > len("hello from /a")
    assert attempt.egress.refused == 2
    lease = await house.wait_settled(attempt.lease_id)
    assert lease.id not in {each.id for each in known}
    lines = json.loads(house.sublet("cost", "--json"))
    assert agreed in {row["destination"] for row in lines[0]["egress"]["rows"]}
    assert agreed in house.sublet("cost")


async def test_a_command_uses_curl(house: House, server: int) -> None:
    agreed = f"{ADDRESS}:{server}"
    job = house.run(
        "--json", "--egress", agreed, "--", "sh", "-c",
        f"curl -sS http://{agreed}/c; echo; "
        f"curl -sS --socks5-hostname 127.0.0.1:3128 http://{agreed}/d; echo; "
        f"curl -sSp http://{agreed}/e",
    )  # fmt: skip
    assert await job.wait() == 0, job
    assert job.written()[0].decode().split("\n") == [
        "hello from /c",
        "hello from /d",
        "hello from /e",
    ]


async def test_without_egress_there_is_no_network(house: House, server: int) -> None:
    script = house.folder / "fetch.py"
    script.write_text(FETCH)
    job = house.run("--json", str(script), f"http://{ADDRESS}:{server}/")
    assert await job.wait() == 0, job
    assert job.written()[0].startswith(b"cut")
    assert job.result().attempts[0].egress is None


async def test_owner_refuses_by_name_before_a_cent(house: House) -> None:
    known = await house.leases()
    job = house.run("--json", "--retries", "0", "--egress", "x.evil.example:443",
                    "--", "true")  # fmt: skip
    assert await job.wait() != 0
    assert "x.evil.example:443 is forbidden by this machine's owner" in (
        job.result().message + job.err.read_text()
    )
    assert job.result().cost == 0
    for lease in await house.leases():
        if lease.id not in {each.id for each in known}:
            over = await house.wait_settled(lease.id)
            assert (over.paid, over.phase) == (0, Phase.SETTLED)


async def test_nothing_is_left(house: House) -> None:
    await house.check_nothing_left()


def test_nobody_offers_what_no_owner_allows(tmp_path: Path) -> None:
    with open_house(tmp_path) as closed:
        job = closed.run("--wait", "0s", "--egress", "a.org:443", "--", "true")
        assert asyncio.run(job.wait()) != 0
        assert "excluded by: egress" in job.err.read_text()


def test_bad_destinations_are_named(house: House) -> None:
    said = house.sublet("run", "--egress", "huggingface.co", "--", "true", code=2)
    assert "--egress: 'huggingface.co' names no port" in said
