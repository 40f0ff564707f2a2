"""The bridge, run as it runs inside: a port on one side, a unix socket on the other."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from sublet.adapter import network_bridge

CLIENT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client:
    client.sendall(b"ping")
    client.shutdown(socket.SHUT_WR)
    print(client.recv(100).decode())
sys.exit(5)
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def bridge(port: int, path: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-I",
        "-S",
        network_bridge.__file__,
        str(port),
        str(path),
    ]
    with subprocess.Popen(
        [*command, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        out, err = process.communicate(timeout=30)
    # What serves lives on; in a sandbox it would die with the program.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def test_carries_bytes_and_the_exit_code(tmp_path: Path) -> None:
    path, port = tmp_path / "s", free_port()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(100).replace(b"i", b"o"))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        ended = bridge(port, path, sys.executable, "-c", CLIENT, str(port))
        thread.join(10)
    assert (ended.stdout, ended.returncode) == ("pong\n", 5)


def test_names_a_program_that_is_missing(tmp_path: Path) -> None:
    ended = bridge(free_port(), tmp_path / "s", "no-such-program")
    assert ended.returncode == 1
    assert "cannot run no-such-program" in ended.stderr


def test_hangs_up_when_the_proxy_is_away(tmp_path: Path) -> None:
    port = free_port()
    ended = bridge(port, tmp_path / "s", sys.executable, "-c", CLIENT, str(port))
    assert ended.stdout.strip() == ""
