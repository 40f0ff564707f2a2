"""Does the sandbox hold on this machine? Tried out, not guessed from versions.

One program reaches for what is forbidden (host files, the network, more processes
than allowed), one takes more memory than it was given. Each has a timeout.
"""

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sublet.base.errors import SubletError
from sublet.service.ports import Bind, Probe, Sandbox, SandboxSpec, SandboxState

_TIMEOUT_S = 20
_UID = 64_999  # of the trial programs; no account, no job
_PROCESSES_MAX = 16
_FORKS = 600  # more than these and what a sandbox needs for itself
_MEMORY_BYTES = 64 << 20

_REACH = """
import os, signal, socket, sys
faults = []
try:
    faults.append("host files are visible: " + open(sys.argv[1]).read())
except OSError:
    pass
if os.path.exists("/home") or os.path.exists("/root/.ssh"):
    faults.append("home folders of the host are visible")
try:
    socket.create_connection(("192.0.2.1", 80), timeout=2)
    faults.append("the network is reachable")
except TimeoutError:
    faults.append("the network is reachable")
except OSError:
    pass
print("; ".join(faults) or "holds", flush=True)
try:
    for _ in range(int(sys.argv[2])):
        if os.fork() == 0:
            signal.pause()
    print("the number of processes is not limited", flush=True)
except OSError:
    pass
"""
_EAT = "import sys; x = bytearray(int(sys.argv[1])); print(len(x))"


def probe_sandbox(sandbox: Sandbox, *, python: str) -> Probe:
    """Run both trials; blocks for about half a second, never for long.

    Args:
        sandbox: the adapter on trial.
        python: path of an interpreter, as seen from inside.
    """
    # In a thread, because the caller may or may not have an event loop running.
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(lambda: asyncio.run(_probe(sandbox, python))).result()


async def _probe(sandbox: Sandbox, python: str) -> Probe:
    with tempfile.TemporaryDirectory(prefix="sublet-probe-") as name:
        base = Path(name)
        secret = base / "secret"
        secret.write_text("secret")
        reach = (_REACH, str(secret), str(_FORKS))
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await _run(sandbox, base / "reach", (python, "-S", "-c", *reach))
                said = (base / "reach.log").read_text().strip()
                if said != "holds":
                    return Probe(is_ok=False, reason=_explain(said))
                eat = (_EAT, str(_MEMORY_BYTES * 2))
                state = await _run(sandbox, base / "eat", (python, "-S", "-c", *eat))
        except SubletError as error:
            return Probe(is_ok=False, reason=_explain(error.message))
        except TimeoutError:
            return Probe(is_ok=False, reason=f"no answer within {_TIMEOUT_S} s")
    if state.reason != "out_of_memory":
        return Probe(is_ok=False, reason="memory is not limited; see control groups")
    return Probe(is_ok=True, reason="namespaces, seccomp, memory and process limits")


async def _run(sandbox: Sandbox, folder: Path, argv: tuple[str, ...]) -> SandboxState:
    work = folder.with_suffix(".work")
    work.mkdir()
    spec = SandboxSpec(
        argv=argv,
        env={},
        directory="/work",
        binds=(Bind(str(work), "/work", is_writable=True),),
        uid=_UID,
        memory_bytes=_MEMORY_BYTES,
        cpus_milli=1_000,
        processes_max=_PROCESSES_MAX,
        tmp_bytes=1 << 20,
        file_bytes_max=1 << 20,
        disk_bytes=1 << 20,
        watched=(str(work),),
        stdout=str(folder.with_suffix(".log")),
        stderr=str(folder.with_suffix(".log")),
        log_bytes_max=4_096,
        timeout_s=_TIMEOUT_S // 2,
    )
    await sandbox.start(spec, folder=folder)
    return await sandbox.wait_ended(folder)


def _explain(said: str) -> str:
    """Add the cure to what went wrong, where it is known; one line."""
    line = " ".join(said.split())[:400] or "the trial program said nothing"
    if "namespace" in line or "uid map" in line or "Operation not permitted" in line:
        line += (
            "; this kernel forbids user namespaces: sysctl -w "
            "kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000 "
            "kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
        )
    return line
