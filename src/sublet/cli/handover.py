"""Hands a command over to a warm process, where there is one.

``sublet up`` serves it (``warm``); the ``sublet`` command hands over its
arguments, folder, environment and standard streams, forwards signals, and ends with
the code that comes back. Whatever is not as it should be, a socket of
another user's, another version, no answer, and the command runs by itself.

Only modules that cost nothing are imported here: this file is on the way of every
``sublet``.
"""

import array
import os
import signal
import socket
import struct

SOCKET_NAME = "warm.sock"
ANSWER_S = 2.0  # for the server to take the request; then the command runs by itself
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
LENGTH = struct.Struct("!I")
STREAMS = 3
TAKEN, GO = b"\x01", b"\x02"
VERSION = os.path.abspath(__file__)  # noqa: PTH100, pathlib costs as much as all else


def hand_over(path: str, argv: list[str]) -> int | None:
    """Let the warm server run a command; give its exit code, or None to run it here.

    Nothing has happened where None comes back.
    """
    try:
        status = os.lstat(path)
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            return None
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.settimeout(ANSWER_S)
        link.connect(path)
        if peer_uid(link) != os.getuid():
            return None
        umask = os.umask(0)
        os.umask(umask)
        folder = os.getcwd()  # noqa: PTH109
        facts = [VERSION, folder, str(umask), str(len(argv))]
        environment = [f"{name}={value}" for name, value in os.environ.items()]
        body = b"\0".join(map(os.fsencode, (*facts, *argv, *environment)))
        streams = array.array("i", range(STREAMS))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)]
        link.sendmsg([LENGTH.pack(len(body))], rights)
        link.sendall(body)
        if link.recv(1) != TAKEN:
            return None
    except (OSError, ValueError):
        return None
    # Only now may it run there, so that it can never run twice.
    return _wait_code(link)


def _wait_code(link: socket.socket) -> int:
    link.settimeout(None)
    link.sendall(GO)

    def forward(number: int, _: object) -> None:
        try:
            link.send(bytes((number,)))
        except OSError:
            return  # it has ended

    for number in (*FORWARDED, signal.SIGWINCH):
        signal.signal(number, forward)
    code = link.recv(1)  # an interrupted call goes on by itself
    return code[0] if code else 1


def peer_uid(link: socket.socket) -> int:
    raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", raw)[1])
