"""Where tenants' connections come from: the node's relay, or straight to a port."""

import asyncio
import contextlib
from typing import Any

import asyncssh

from sublet.base.errors import Refused, Unavailable
from sublet.provider.journal import Journal
from sublet.provider.link import MarketLink

CONNECTIONS_MAX = 256  # of one provider at a time
HANDSHAKES_MAX = 32  # at a time; the rest waits


class DataPlane:
    """Serves SSH on whatever stream a tenant comes through."""

    def __init__(self, options: dict[str, Any], *, journal: Journal) -> None:
        """Take the server's options (``ssh_server.server_options``)."""
        self._options = options
        self._journal = journal
        self._open: set[asyncio.Task[None]] = set()
        self._handshakes = asyncio.Semaphore(HANDSHAKES_MAX)
        self._listener: asyncssh.SSHAcceptor | None = None

    def answer(self, link: MarketLink, session: str) -> None:
        """Dial back for one connection; does not wait for it."""
        if len(self._open) >= CONNECTIONS_MAX:
            self._journal.warn("too_many_connections", open=len(self._open))
            return
        task = asyncio.create_task(self._serve(link, session))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def listen(self, host: str, port: int) -> int:
        """Serve tenants who reach this machine directly; give the port.

        Raises:
            Unavailable: the port cannot be had.
        """
        try:
            self._listener = await asyncssh.listen(
                host, port, acceptor=self._limit, **self._options
            )
        except OSError as exc:
            raise Unavailable(
                f"cannot listen on {host}:{port}: {exc.strerror}; choose another port "
                "with --listen",
                code="port_taken",
            ) from exc
        return self._listener.get_port()

    def count(self) -> int:
        """Count the connections that tenants have open."""
        return len(self._open)

    async def close(self) -> None:
        """End all connections."""
        if self._listener is not None:
            self._listener.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _limit(self, connection: asyncssh.SSHServerConnection) -> None:
        if len(self._open) >= CONNECTIONS_MAX:
            connection.abort()
            return
        task = asyncio.create_task(connection.wait_closed())
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, link: MarketLink, session: str) -> None:
        try:
            tunnel = await link.join(session)
        except (Unavailable, Refused) as fault:
            self._journal.info("relay_lost", why=fault.message)
            return
        try:
            async with self._handshakes:
                connection = await asyncssh.run_server(tunnel.socket, **self._options)
            try:
                await connection.wait_closed()
            finally:
                connection.abort()
        except (asyncssh.Error, OSError) as exc:
            self._journal.info("tenant_not_admitted", why=type(exc).__name__)
        finally:
            with contextlib.suppress(OSError):
                tunnel.socket.close()
            await tunnel.close()
