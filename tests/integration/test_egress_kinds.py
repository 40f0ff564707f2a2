"""The way out of each kind of sandbox, for scripts and images: real connections.

The world outside is a server on this machine, at an address that the owner has named.
How an order comes to have a way out, by what people type: ``acceptance/test_egress``.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sublet.adapter.egress_proxy import EgressProxy
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.sandbox_oci import GvisorSandbox, PodmanSandbox
from sublet.core.egress import EgressRules, parse_destination
from sublet.service.ports import Sandbox
from tests.image_rig import busybox_image, lay_out_root
from tests.integration.provider_house import running_house, tenant_of, wait_settled
from tests.integration.test_sandbox_isolation import PYTHON, Cell

ADDRESS = "127.0.0.2"
FETCH = """
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=30).read().decode())
    except urllib.error.HTTPError as error:
        print(error.code)
"""
KINDS: dict[str, Callable[[], Sandbox]] = {
    "bubblewrap": BubblewrapSandbox,
    "podman": PodmanSandbox,
    "gvisor": GvisorSandbox,
}
EACH = [
    pytest.param("bubblewrap", marks=pytest.mark.sandbox),
    pytest.param("podman", marks=pytest.mark.container),
    pytest.param("gvisor", marks=pytest.mark.container),
]
RULES = EgressRules(
    allow=(parse_destination("*:*", field="x", is_owner=True),),
    forbid=(parse_destination("*.evil.example:*", field="x", is_owner=True),),
    local=("127.0.0.2/32",),
)
MONEY = {"max_total": "50", "max_price": "500", "memory": "512MiB"}


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


def wget(url: str) -> str:
    """Say how busybox fetches something, and what came of it."""
    return f"busybox wget -q -O - {url} || echo refused; echo; "


@pytest.mark.parametrize("kind", EACH)
@pytest.mark.parametrize("is_image", [False, True], ids=["script", "image"])
async def test_leads_to_what_is_allowed_and_nowhere_else(
    tmp_path: Path, kind: str, is_image: bool, server: int
) -> None:
    cell = Cell(tmp_path, KINDS[kind]())
    changes: dict[str, object] = {"network": str(tmp_path / "network/proxy")}
    (tmp_path / "network").mkdir()
    allowed, other = f"http://{ADDRESS}:{server}", f"http://{ADDRESS}:1/"
    if is_image:
        changes |= {"root": lay_out_root(tmp_path / "root"), "env": {"PATH": "/bin"}}
        line = wget(f"{allowed}/a") + wget(other) + wget("http://169.254.169.254/")
        argv = ("sh", "-c", f"{line} pwd; exit 6")
    else:
        argv = (PYTHON, "-S", "-c", FETCH, f"{allowed}/a", other)
    async with EgressProxy(
        path=tmp_path / "network/proxy",
        allow=[parse_destination(f"{ADDRESS}:{server}", field="x")],
    ) as proxy:
        state = await cell.run(*argv, **changes)
        (row,) = proxy.rows()
        assert (row.destination, row.connections) == (f"{ADDRESS}:{server}", 1)
    said = cell.said().split()
    if is_image:
        assert state.exit_code == 6, cell.complained()
        assert said == ["hello", "from", "/a", "refused", "refused", "/work"]
    else:
        assert state.exit_code == 0, cell.complained()
        assert said == ["hello", "from", "/a", "403"]


@pytest.mark.parametrize("kind", EACH)
async def test_helper_in_an_image_leaves_no_trace_in_it(
    tmp_path: Path, kind: str
) -> None:
    cell = Cell(tmp_path, KINDS[kind]())
    (tmp_path / "network").mkdir()
    root = lay_out_root(tmp_path / "root")
    look = (
        "env | busybox grep -ci python; ls /run; ls /run/sublet/network; "
        "touch /run/sublet/x /run/sublet/network/x 2>/dev/null || echo read-only; "
        "busybox netstat -ltn | busybox grep -c 127.0.0.1:3128"
    )
    path = tmp_path / "network/proxy"
    async with EgressProxy(path=path):
        await cell.run(
            *("sh", "-c", look), root=root, env={"PATH": "/bin"}, network=str(path)
        )
    assert cell.said().split() == [
        *("0", "init", "nvidia", "sublet", "proxy", "read-only", "1")
    ], cell.complained()


@pytest.mark.parametrize("kind", EACH)
async def test_tenant_gets_a_way_out_of_an_image(
    tmp_path: Path, kind: str, server: int
) -> None:
    archive = busybox_image().write_archive(tmp_path / "box.tar")
    agreed = f"{ADDRESS}:{server}"
    async with (
        running_house(tmp_path, sandbox=KINDS[kind](), egress=RULES) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        result = await client.run(
            *("sh", "-c", wget(f"http://{agreed}/b") + wget(f"http://{ADDRESS}:1/")),
            image=f"oci-archive:{archive}",
            is_command=True,
            sandbox=kind,
            egress=[agreed],
            **MONEY,  # type: ignore[arg-type]
        )
        assert result.exit_code == 0, result.message
        (lease,) = await wait_settled(client)
    assert set(lease.features) == {"egress", "image"}
    said = await asyncio.to_thread(Path(result.stdout).read_text)
    assert said.split() == ["hello", "from", "/b", "refused"]
    (attempt,) = result.attempts
    assert attempt.egress is not None
    (row,) = attempt.egress.rows
    assert (row.destination, row.connections) == (agreed, 1)
    assert attempt.egress.refused == 1


@pytest.mark.parametrize("kind", EACH[1:])  # the first: acceptance/test_egress
async def test_tenant_gets_a_way_out_for_a_script(
    tmp_path: Path, kind: str, server: int
) -> None:
    script = tmp_path / "fetch.py"
    await asyncio.to_thread(script.write_text, FETCH)
    agreed = f"{ADDRESS}:{server}"
    async with (
        running_house(tmp_path, sandbox=KINDS[kind](), egress=RULES) as house,
        tenant_of(tmp_path, house.guest) as client,
    ):
        result = await client.run(
            *(str(script), f"http://{agreed}/c", f"http://{ADDRESS}:1/"),
            sandbox=kind,
            egress=[agreed],
            **MONEY,  # type: ignore[arg-type]
        )
        await wait_settled(client)
    assert result.exit_code == 0, result
    said = await asyncio.to_thread(Path(result.stdout).read_text)
    assert said.split() == ["hello", "from", "/c", "403"]
    (attempt,) = result.attempts
    assert attempt.egress is not None
    assert [row.destination for row in attempt.egress.rows] == [agreed]
