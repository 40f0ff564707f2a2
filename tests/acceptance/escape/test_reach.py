"""What a hostile job reaches for: every attack, in every kind of sandbox.

One start for each kind tries them all (``hostile.py``); each attack is a test of its
own. "shut" means refused; where a kind answers otherwise, ``OPEN`` says why that is no
harm. What it may do anyway, so that "shut" is never a broken program: the tests of
``integration/test_sandbox_isolation``.
"""

import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.acceptance.escape.cellblock import EACH, HERE, KINDS, Inmate

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86-64"),
]

TOKEN = "sublet-escape-token"
_PATHS = (
    "the kernel shows to whoever has a mount which path of the host it comes from; the "
    "path leads nowhere from inside"
)
_OWN_KERNEL = (
    "happens in the kernel of this sandbox alone, which is a process of the job's uid "
    "on the host, without any right"
)
OPEN = {
    "bubblewrap": {"see: host paths among the mounts": _PATHS},
    "podman": {"see: host paths among the mounts": _PATHS},
    "gvisor": dict.fromkeys(
        (
            "list: /sys/class/net",  # "lo"
            "set: /proc/self/oom_score_adj",  # a number that it keeps
            "trace: a child",
            "find: init outside of the filter",  # there is none inside; its own is outside
            "become: root",
            "give: a file to root",
            "unshare: mount namespace",
            "unshare: cgroup namespace",
            "unshare: user namespace",
            "unshare: time namespace",
            "clone: user namespace",
            "clone: mount namespace",
            "io_uring",  # its own, and a part of it
            "the kernel's log",  # jokes
            "schedule: before others",  # of its own processes
            "socket: netlink",  # of its own network
        ),
        _OWN_KERNEL,
    ),
}


def read_names() -> list[str]:
    """Give the names of the attacks, as the program has them."""
    facts = {"secrets": dict.fromkeys(SECRETS, "/x"), "paths": [], "token": "", "pid": 1,
             "doors": dict.fromkeys(DOORS, (1, ""))}  # fmt: skip
    program = (HERE / "hostile.py").read_text()
    program = program.replace(
        'open("/work/facts.json")', f"__import__('io').StringIO({json.dumps(facts)!r})"
    )
    scope: dict[str, object] = {"__name__": "hostile"}
    exec(compile(program, "hostile.py", "exec"), scope)
    found = scope["ATTACKS"]
    assert isinstance(found, dict)
    return list(found)


SECRETS = {
    "the provider's key": "home/key",
    "the provider's settings": "home/config.toml",
    "another lease's file": "home/leases/other/work/data",
    "its own record": "home/leases/own/record.json",
}
DOORS = ("a service of the host", "a service of the host, v6", "the host by its address",
         "an abstract socket", "a socket in the file system")  # fmt: skip


@contextmanager
def open_doors(base: Path) -> Iterator[dict[str, tuple[int, object]]]:
    """Listen where a job might call; nobody may."""
    outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        outside.connect(("192.0.2.1", 9))  # sends nothing; says which address is ours
        own = outside.getsockname()[0]
    except OSError:
        own = "127.0.0.1"  # this machine has no other
    with (
        outside,
        socket.create_server(("0.0.0.0", 0)) as door,
        socket.socket(socket.AF_INET6) as door6,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as named,
    ):
        door6.bind(("::1", 0))
        door6.listen()
        abstract.bind(f"\0{TOKEN}-{os.getpid()}")
        abstract.listen()
        path = f"/tmp/{TOKEN}-{os.getpid()}.sock"
        named.bind(path)
        named.listen()
        Path(path).chmod(0o777)
        port, port6 = door.getsockname()[1], door6.getsockname()[1]
        found = [
            (socket.AF_INET, ["127.0.0.1", port]),
            (socket.AF_INET6, ["::1", port6]),
            (socket.AF_INET, [own, port]),
            (socket.AF_UNIX, f"\0{TOKEN}-{os.getpid()}"),
            (socket.AF_UNIX, path),
        ]
        for family, address in found:  # each of them is there for who may reach it
            with socket.socket(family) as caller:
                caller.connect(tuple(address) if isinstance(address, list) else address)
        yield dict(zip(DOORS, found, strict=True))
        Path(path).unlink()


@contextmanager
def running_provider() -> Iterator[subprocess.Popen[bytes]]:
    """Run something that a job might look for and signal."""
    program = "import time; time.sleep(600)"
    process = subprocess.Popen(
        [sys.executable, "-c", program, TOKEN], start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_host(base: Path) -> dict[str, object]:
    """Give what no attack may have changed."""
    settings = ("kernel/core_pattern", "kernel/hostname", "net/ipv4/ip_forward",
                "vm/overcommit_memory", "user/max_user_namespaces")  # fmt: skip
    found: dict[str, object] = {
        name: Path("/proc/sys", name).read_text() for name in settings
    }
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found["mounts"] = [line for line in mounts if str(base) in line]
    found["programs"] = [
        Path(path).stat().st_mode for path in ("/usr/bin/env", "/etc/passwd")
    ]
    return found


class Verdicts(dict[str, tuple[str, str]]):
    """What came of each attack in one kind of sandbox."""

    kind = ""


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=EACH)
async def verdicts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Verdicts]:
    base = tmp_path_factory.mktemp("escape")
    own = base / "home/leases/own"
    inmate = Inmate(own, KINDS[request.param]())
    secrets = {name: base / path for name, path in SECRETS.items()}
    for path in secrets.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret" * 20)
        path.chmod(0o666)  # whoever finds a way there may read it
    before, clock = read_host(base), time.time() - time.monotonic()
    with open_doors(base) as doors, running_provider() as provider:
        facts = {
            "secrets": {name: str(path) for name, path in secrets.items()},
            "paths": [str(base)],
            "token": TOKEN,
            "pid": provider.pid,
            "doors": doors,
        }
        (inmate.work / "facts.json").write_text(json.dumps(facts))
        await inmate.start("hostile.py")
        state = await inmate.sandbox.wait_ended(inmate.folder)
        assert provider.poll() is None
    assert (state.exit_code, state.reason) == (0, "exited"), inmate.complained()
    assert read_host(base) == before
    assert abs(time.time() - time.monotonic() - clock) < 3_600  # nobody set it
    found = Verdicts()
    found.kind = request.param
    for line in inmate.said():
        name, verdict, how = json.loads(line)
        found[name] = (verdict, how)
    yield found


@pytest.mark.parametrize("name", read_names())
async def test_attack_is_refused(verdicts: Verdicts, name: str) -> None:
    verdict, how = verdicts[name]
    expected = "open" if name in OPEN[verdicts.kind] else "shut"
    assert verdict == expected, how


async def test_all_attacks_were_tried(verdicts: Verdicts) -> None:
    """Nothing ended the program early, and no exception is of what is not there."""
    assert set(verdicts) == {*read_names(), "end"}
    assert set(OPEN[verdicts.kind]) <= set(verdicts)
