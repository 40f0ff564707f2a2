"""``sublet ssh --stdio``: a byte stream between standard input and output and a job.

Two threads move the bytes: nothing is looked at, and the event loop is not in the way.
"""

import asyncio
import os
import socket
import threading

BLOCK_BYTES = 262_144


async def carry_stdio(stream: socket.socket) -> None:
    """Carry bytes both ways until the other side ends."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    stream.setblocking(True)
    # Daemons: one that waits for standard input is not waited for.
    threading.Thread(target=_carry_out, args=(stream,), daemon=True).start()

    def carry_in() -> None:
        _carry_in(stream)
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=carry_in, daemon=True).start()
    await over.wait()


def _carry_out(stream: socket.socket) -> None:
    try:
        while content := os.read(0, BLOCK_BYTES):
            stream.sendall(content)
        stream.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side is gone; whoever reads from it ends the work


def _carry_in(stream: socket.socket) -> None:
    buffer = bytearray(BLOCK_BYTES)
    view = memoryview(buffer)
    try:
        while size := stream.recv_into(buffer):
            left = view[:size]
            while left:
                left = left[os.write(1, left) :]
    except OSError:
        pass  # whoever asked for the bytes is gone
