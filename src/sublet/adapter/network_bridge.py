"""Runs inside a sandbox without a network: a door to one proxy, then the program.

``python network_bridge.py PORT SOCKET PROGRAM [ARGUMENT …]`` listens on
127.0.0.1:PORT, carries each connection to the unix socket, and becomes the program.
Only the standard library; it does not know what goes through it.
"""

import asyncio
import os
import signal
import socket
import sys

BLOCK_BYTES = 65_536


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction until its end; the other may go on."""
    try:
        while content := await reader.read(BLOCK_BYTES):
            writer.write(content)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()  # one side hung up: so does the other


async def serve(listener: socket.socket, path: str) -> None:
    """Carry every connection, for as long as the sandbox lives."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(path)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        far_writer.close()
        writer.close()

    server = await asyncio.start_server(carry, sock=listener)
    await server.serve_forever()


def main() -> None:
    """Listen, leave a child behind that serves, become the program."""
    port, path, *argv = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=128)
    if os.fork() == 0:
        # It outlives a polite SIGTERM, so that the program can still say goodbye.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        quiet = os.open("/dev/null", os.O_RDWR)
        for handle in (0, 1, 2):
            os.dup2(quiet, handle)
        asyncio.run(serve(listener, path))
        os._exit(0)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them; others do not
    try:
        os.execvp(argv[0], argv)  # noqa: S606
    except OSError as error:
        sys.exit(f"sublet: cannot run {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
