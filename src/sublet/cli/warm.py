"""The warm process: everything is imported, each command is a fork of it.

Not here: what hands a command over (``handover``).
"""

import array
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from sublet.cli.handover import ANSWER_S, GO, LENGTH, STREAMS, TAKEN, VERSION, peer_uid
from sublet.cli.root import load_everything, run_command

REQUEST_BYTES_MAX = 4 << 20


def serve_warm(path: str, *, ready: Callable[[], None] | None = None) -> None:
    """Serve until SIGTERM. One thread, no event loop: it forks for each command.

    Args:
        path: of the socket; what is left of an earlier server is replaced.
        ready: called once the socket is there.
    """
    load_everything()
    gc.freeze()  # what is loaded now stays shared with every child
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    Path(path).unlink(missing_ok=True)
    before = os.umask(0o177)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    os.umask(before)
    server.listen(64)
    if ready is not None:
        ready()
    try:
        while True:
            link, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _be_command(link)
            link.close()
    finally:
        Path(path).unlink(missing_ok=True)


def _be_command(link: socket.socket) -> None:
    """Become the command that is asked for. Never returns."""
    code = 1
    try:
        os.setsid()  # Ctrl-C where the server runs is not meant for this command
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        link.settimeout(ANSWER_S)
        if peer_uid(link) == os.getuid() and (argv := _take_request(link)) is not None:
            link.sendall(TAKEN)
            if link.recv(1) == GO:
                link.settimeout(None)
                _forward_signals(link)
                code = run_command(argv)
                sys.stdout.flush()
                sys.stderr.flush()
                link.sendall(bytes((code & 0xFF,)))
    finally:
        os._exit(code)


def _take_request(link: socket.socket) -> list[str] | None:
    head, rights, _, _ = link.recvmsg(LENGTH.size, socket.CMSG_SPACE(STREAMS * 4))
    streams = array.array("i")
    for _, kind, content in rights:
        if kind == socket.SCM_RIGHTS:
            streams.frombytes(content)
    (length,) = LENGTH.unpack(head)
    if len(streams) != STREAMS or length > REQUEST_BYTES_MAX:
        return None
    body = bytearray()
    while len(body) < length and (part := link.recv(length - len(body))):
        body += part
    version, folder, umask, count, *rest = map(os.fsdecode, bytes(body).split(b"\0"))
    if version != VERSION:
        return None
    os.chdir(folder)
    os.umask(int(umask))
    os.environ.clear()
    for entry in rest[int(count) :]:
        name, _, value = entry.partition("=")
        os.environ[name] = value
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = open(0), _writer(1), _writer(2)  # noqa: SIM115
    return rest[: int(count)]


def _writer(number: int) -> TextIO:
    """A text stream as Python makes one at its start."""
    is_prompt = number == 2 or os.isatty(number)
    return open(number, "w", buffering=1 if is_prompt else -1, closefd=False)


def _forward_signals(link: socket.socket) -> None:
    """Let the client's signals be ours; its end is a hang-up."""

    def listen() -> None:
        with suppress(OSError):
            while number := link.recv(1):
                os.kill(os.getpid(), number[0])
        os.kill(os.getpid(), signal.SIGHUP)

    threading.Thread(target=listen, daemon=True).start()
