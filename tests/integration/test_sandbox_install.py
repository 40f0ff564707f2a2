"""Real installs from the real registry, in real sandboxes, and what they cannot reach."""

from pathlib import Path

import pytest

from sublet.adapter.egress_proxy import EgressProxy
from sublet.adapter.job_python import find_job_python
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.base.errors import Refused
from sublet.provider.installer import Environment, Installer
from sublet.service.ports import Bind, SandboxSpec

pytestmark = pytest.mark.sandbox

INSTALLS_UID, JOB_UID = 64_500, 64_501


def job(base: Path, *argv: str, **changes: object) -> SandboxSpec:
    (base / "work").mkdir(exist_ok=True)
    fields: dict[str, object] = {
        "argv": argv,
        "env": {"PATH": "/env/bin:/usr/bin:/bin"},
        "directory": "/work",
        "binds": (Bind(str(base / "work"), "/work", is_writable=True),),
        "uid": JOB_UID,
        "memory_bytes": 1 << 30,
        "cpus_milli": 2_000,
        "processes_max": 64,
        "tmp_bytes": 16 << 20,
        "file_bytes_max": 64 << 20,
        "disk_bytes": 64 << 20,
        "watched": (),
        "stdout": str(base / "stdout"),
        "stderr": str(base / "stderr"),
        "timeout_s": 60,
    }
    return SandboxSpec(**{**fields, **changes})  # type: ignore[arg-type]  # a test's short way


async def run(base: Path, spec: SandboxSpec) -> str:
    """Run a job; give what it said on both streams."""
    sandbox = BubblewrapSandbox()
    await sandbox.start(spec, folder=base / "sandbox")
    await sandbox.wait_ended(base / "sandbox")
    return (base / "stdout").read_text() + (base / "stderr").read_text()


class Desk:
    """An installer over the real sandbox."""

    def __init__(self, base: Path) -> None:
        self.said: list[str] = []
        self.folder = base / "home"
        self.installer = Installer(
            BubblewrapSandbox(), folder=self.folder, uid=INSTALLS_UID
        )

    async def install(self, *packages: str) -> Environment:
        await self.installer.open()
        listed = ", ".join(f'"{package}"' for package in packages)
        script = f"# /// script\n# dependencies = [{listed}]\n# ///\n"
        return await self.installer.install(script, say=self.said.append)


@pytest.mark.registry
async def test_job_imports_what_was_installed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    environment = await desk.install("numpy>=2", "six")
    assert "installing 2 packages" in desk.said
    program = "import numpy, six, sys; print(sys.prefix, numpy.arange(4).sum())"
    spec = job(tmp_path, environment.python, "-c", program)
    binds = (*spec.binds, environment.bind)
    spec = job(tmp_path, environment.python, "-c", program, binds=binds)
    assert await run(tmp_path, spec) == "/env 6\n"


@pytest.mark.registry
async def test_job_cannot_change_an_environment(tmp_path: Path) -> None:
    environment = await Desk(tmp_path).install("six")
    (work,) = job(tmp_path).binds
    program = (
        "touch /env/x || echo > /env/lib/python3*/site-packages/six.py || echo shut"
    )
    spec = job(tmp_path, "sh", "-c", program, binds=(work, environment.bind))
    assert (await run(tmp_path, spec)).splitlines()[0] == "shut"


@pytest.mark.registry
async def test_source_build_leaves_the_cache_alone(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.install("docopt==0.6.2")  # has never had a wheel
    assert "a package has to be built from source" in desk.said
    built = [path for path in desk.folder.rglob("*") if "docopt" in path.name]
    shared = [path for path in built if "uv-cache" in path.parts]
    assert built
    assert not [path for path in shared if path.suffix in (".py", ".whl", ".gz")]


@pytest.mark.registry
async def test_unknown_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="sublet-has-no-such-package was not found"):
        await Desk(tmp_path).install("sublet-has-no-such-package")


# ---- what an install can reach ----------------------------------------------------

REACH = """
import socket, ssl, sys

def tunnel(host, port):
    client = socket.create_connection(("127.0.0.1", 3128), timeout=20)
    client.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\n\\r\\n".encode())
    answer = client.recv(4096).decode().split()
    if answer[1] != "200":
        raise OSError(answer[1])
    return client

def tls(host, name):
    context = ssl.create_default_context(cafile="/etc/ssl/certs/ca-certificates.crt")
    with context.wrap_socket(tunnel(host, 443), server_hostname=name) as secure:
        return secure.version()

try:
    print("open", eval(sys.argv[1]))
except OSError as error:
    print("shut", error)
"""

SHUT = {
    "another host, through the proxy": 'tunnel("example.com", 443)',
    "another port of the registry": 'tunnel("pypi.org", 80)',
    "the provider's own machine": 'tunnel("127.0.0.1", 22)',
    "a cloud's metadata": 'tunnel("169.254.169.254", 80)',
    "an address, directly": 'socket.create_connection(("192.0.2.1", 443), timeout=3)',
    "a name server": 'socket.create_connection(("8.8.8.8", 53), timeout=3)',
    "a name": 'socket.getaddrinfo("pypi.org", 443)',
}


async def reach(base: Path, attempt: str) -> str:
    path = base / "network" / "proxy"
    path.parent.mkdir()
    async with EgressProxy(path=path):
        argv = (find_job_python().inside, "-S", "-c", REACH, attempt)
        return await run(base, job(base, *argv, network=str(path)))


@pytest.mark.parametrize("attempt", SHUT.values(), ids=SHUT)
async def test_install_cannot_reach(tmp_path: Path, attempt: str) -> None:
    assert (await reach(tmp_path, attempt)).startswith("shut")


@pytest.mark.registry
async def test_install_reaches_the_registry(tmp_path: Path) -> None:
    assert await reach(tmp_path, 'tls("pypi.org", "pypi.org")') == "open TLSv1.3\n"


@pytest.mark.registry
async def test_install_reaches_no_neighbour(tmp_path: Path) -> None:
    # Whoever shares the registry's content network is no part of the registry.
    assert (await reach(tmp_path, 'tls("pypi.org", "example.com")')).startswith("shut")


async def test_program_exit_code_passes_the_bridge(tmp_path: Path) -> None:
    path = tmp_path / "network" / "proxy"
    path.parent.mkdir()
    async with EgressProxy(path=path):
        sandbox = BubblewrapSandbox()
        spec = job(tmp_path, "sh", "-c", "exit 6", network=str(path))
        await sandbox.start(spec, folder=tmp_path / "sandbox")
        state = await sandbox.wait_ended(tmp_path / "sandbox")
    assert (state.exit_code, state.reason) == (6, "exited")
