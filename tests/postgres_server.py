"""A real PostgreSQL server for tests: an own cluster, a free port, no other's data.

``initdb`` and the server run as an unprivileged user where the tests run as root, as
PostgreSQL demands. Where it is not installed, the tests that need it are skipped.
"""

import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.rig.open_folder import make_open_folder

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
START_S = 60
USER = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
_numbers = itertools.count()


class Server:
    """One cluster in a folder of its own; it can be killed and started again."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = port or find_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the server's first process, whose children serve."""
        assert self._process is not None
        return self._process.pid

    def create(self, *settings: str) -> None:
        """Make a cluster that trusts whoever is on this machine."""
        self.call("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "-N")
        self.configure(*settings)

    def configure(self, *settings: str) -> None:
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(
                f"{line}\n"
                for line in (
                    f"port = {self.port}",
                    "listen_addresses = '127.0.0.1'",
                    f"unix_socket_directories = '{self.folder}'",
                    "shared_buffers = 16MB",
                    "max_connections = 60",
                    *settings,
                )
            )

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with (self.folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                [BINARIES[0] / "postgres", "-D", self.data],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=self.folder,
                **_as_user(),
            )
        self.wait_ready()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert self._process is not None
                assert self._process.poll() is None, self.read_log()
                assert time.monotonic() < deadline, self.read_log()
                time.sleep(0.05)

    def kill(self) -> None:
        """Kill every process of it, as a power cut does."""
        if self._process is not None:
            # Each leads a group of its own, and would end in order, a little later.
            family: list[psutil.Process] = []
            with suppress(psutil.NoSuchProcess):
                first = psutil.Process(self._process.pid)
                first.suspend()  # it starts nobody meanwhile
                family = first.children(recursive=True)
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.kill()
            self._process.wait()
            self._process = None
            psutil.wait_procs(family, timeout=START_S)

    def stop(self) -> None:
        """Shut it down at once, in order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_S)
            self._process = None

    def wipe(self) -> None:
        """Forget the cluster; a base backup of another may come in its place."""
        shutil.rmtree(self.data)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """Make an empty database; give its address."""
        name = f"test_{next(_numbers)}_{secrets.token_hex(4)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str, *, database: str = "postgres") -> list[object]:
        with psycopg.connect(self.url(database), autocommit=True) as session:
            cursor = session.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def call(self, program: str, *arguments: object) -> None:
        """Run one of PostgreSQL's own programs as its user."""
        done = subprocess.run(
            [BINARIES[0] / program, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            **_as_user(),
        )
        assert done.returncode == 0, (program, done.stdout, done.stderr)

    def read_log(self, *, size: int = 4_000) -> str:
        return (self.folder / "server.log").read_text()[-size:]


def _as_user() -> dict[str, str]:
    return {"user": USER, "group": USER} if os.geteuid() == 0 else {}


def find_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port: int = door.getsockname()[1]
        return port


@contextmanager
def private_folder() -> Iterator[Path]:
    """Lend a folder that PostgreSQL's user may use; pytest's own are closed to it."""
    if not BINARIES:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = make_open_folder("sublet-pg-")
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, USER, USER)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def run_server(*settings: str) -> Iterator[Server]:
    """Lend a server; where nothing is said, one that does not wait for the disk."""
    with private_folder() as folder:
        server = Server(folder)
        server.create(*(settings or ("fsync = off", "full_page_writes = off")))
        try:
            server.start()
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """One server for all tests of a process; each takes a database of its own."""
    with run_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Server) -> str:
    """Give the address of an empty database."""
    return postgres_server.create_database()
