"""A plain OpenSSH server of our own, on loopback: what people use today.

Keys, port and configuration are made for it and go with it; the system's own server,
if there is one, is not touched.
"""

import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rig.frame import run

READY_S = 10
_PRIVILEGE_FOLDER = Path("/run/sshd")  # where sshd locks itself in; empty


class Sshd:
    """A running server, and how its clients are told of it."""

    def __init__(self, folder: Path, port: int) -> None:
        """Take where its keys are and where it listens."""
        self.flags = (
            "-F", "none", "-o", f"Port={port}", "-o", f"IdentityFile={folder}/client",
            "-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "BatchMode=yes",
        )  # fmt: skip

    def scp(self, source: str | Path, target: str | Path, *flags: str) -> None:
        """Copy; the far side is written ``127.0.0.1:/path``."""
        run("scp", "-q", *flags, *self.flags, source, target)

    def rsync(self, source: str | Path, target: str | Path) -> None:
        """Copy a folder's files as they are."""
        run("rsync", "-a", "-e", shlex.join(("ssh", *self.flags)), source, target)


@contextmanager
def running_sshd(folder: Path) -> Iterator[Sshd]:
    """Run a server that admits one new key, as the user who runs the benchmark."""
    program = find_sshd()
    folder.mkdir(mode=0o700)
    for name in ("host", "client"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    shutil.copy(folder / "client.pub", folder / "authorized")
    if os.geteuid() == 0:
        _PRIVILEGE_FOLDER.mkdir(mode=0o755, exist_ok=True)
    port = find_port()
    key = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}\n")
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        "Subsystem sftp internal-sftp\nPidFile none\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-D", "-e", "-f", folder / "config"], stderr=log
        )
    try:
        _wait_ready(process, port, folder / "log")
        yield Sshd(folder, port)
    finally:
        process.terminate()
        process.wait()


def find_sshd() -> str:
    """Give the path of OpenSSH's server; install its package where that is possible."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    program = shutil.which("sshd", path=path)
    if program is None and os.geteuid() == 0 and shutil.which("apt-get"):
        policy = Path("/usr/sbin/policy-rc.d")  # the system's own must not be started
        is_ours = not policy.exists()
        if is_ours:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            run("apt-get", "install", "-qq", "-y", "openssh-server")
        finally:
            if is_ours:
                policy.unlink()
        program = shutil.which("sshd", path=path)
    if program is None:
        raise SystemExit(
            "there is no sshd here; please: apt-get install openssh-server"
        )
    return program


def find_port() -> int:
    """Give a port of loopback that is free just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    limit = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < limit:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"sshd does not serve:\n{log.read_text()}")
