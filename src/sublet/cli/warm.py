"""The warm process: everything is imported, and some of its forks stand ready.

A fork that waits has rehearsed: what is loaded late is loaded, and the memory that it
will touch is its own already. It takes one command, and the server forks the next.

Not here: what hands a command over (``handover``), what is rehearsed (``rehearsal``).
"""

import array
import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from sublet.cli.handover import ANSWER_S, GO, LENGTH, STREAMS, TAKEN, VERSION, peer_uid
from sublet.cli.rehearsal import rehearse
from sublet.cli.root import load_everything, run_command

READY_MAX = 3  # forks that wait for a command
PAUSE_S = 0.5  # before the next fork is made ready: the command has the CPUs first
REQUEST_BYTES_MAX = 4 << 20
_PR_SET_PDEATHSIG = 1


def serve_warm(path: str, *, ready: Callable[[], None] | None = None) -> None:
    """Serve until SIGTERM. The server itself has one thread and no event loop.

    Args:
        path: of the socket; what is left of an earlier server is replaced.
        ready: called once the socket is there.
    """
    load_everything()
    gc.freeze()  # what is loaded now stays shared with every fork
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    Path(path).unlink(missing_ok=True)
    before = os.umask(0o177)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    os.umask(before)
    server.listen(64)
    if ready is not None:
        ready()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    words, word = os.pipe()  # a fork that gets busy says so, and the next is made
    try:
        for _ in range(READY_MAX):
            _fork(server, word, pause_s=0.0)
        while os.read(words, 1):
            _fork(server, word, pause_s=PAUSE_S)
    finally:
        Path(path).unlink(missing_ok=True)


def _fork(server: socket.socket, word: int, *, pause_s: float) -> None:
    """Make a fork that waits for one command."""
    if os.fork():
        return
    code = 1
    try:
        os.setsid()  # Ctrl-C where the server runs is not meant for a command
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        _end_with_server(signal.SIGTERM)
        time.sleep(pause_s)
        rehearse()
        link, _ = server.accept()
        _end_with_server(0)  # a command outlives whoever started it
        server.close()
        os.write(word, b"+")
        code = _serve(link)
    finally:
        os._exit(code)


def _end_with_server(number: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _serve(link: socket.socket) -> int:
    """Run the command that is handed over, and say how it ended."""
    link.settimeout(ANSWER_S)
    if peer_uid(link) != os.getuid() or (argv := _take_request(link)) is None:
        return 1
    link.sendall(TAKEN)
    if link.recv(1) != GO:
        return 1
    link.settimeout(None)
    threading.Thread(target=_forward_signals, args=(link,), daemon=True).start()
    code = run_command(argv)
    sys.stdout.flush()
    sys.stderr.flush()
    link.sendall(bytes((code & 0xFF,)))
    return code


def _take_request(link: socket.socket) -> list[str] | None:
    """Take over folder, environment and streams; give the arguments."""
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
    with suppress(OSError):
        while number := link.recv(1):
            os.kill(os.getpid(), number[0])
    os.kill(os.getpid(), signal.SIGHUP)
