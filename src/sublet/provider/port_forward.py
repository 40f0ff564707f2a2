"""Ports of a running job, for its tenant: a notebook, a dashboard, a debugger.

What SSH calls direct-tcpip, with one destination: the job's own loopback, in the
job's own network. The names that a client may give for it are those of a loopback;
no other is looked up, and nothing is connected to from this machine's network.
"""

import asyncio
from collections.abc import Callable

import asyncssh
from asyncssh.forward import SSHForwarder

from sublet.base.errors import SubletError
from sublet.provider.desk import Desk
from sublet.provider.lease_state import Stage

FORWARDS_MAX = 64  # of one connection at a time; a browser opens six for each host
_PORT_MAX = 65_535
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "job"})


class PortForwards:
    """The forwarded connections of one SSH connection."""

    def __init__(self) -> None:
        """Begin with none."""
        self._open = 0

    async def open(self, desk: Desk, *, host: str, port: int) -> SSHForwarder:
        """Connect to a port of the job; give what SSH talks to.

        Raises:
            asyncssh.ChannelOpenError: another host, too many, or nothing listens.
        """
        if host not in _LOOPBACK or not 0 < port <= _PORT_MAX:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED,
                "only ports of the job itself, at localhost",
            )
        if desk.is_sealed:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "this job is sealed"
            )
        if self._open >= FORWARDS_MAX:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_RESOURCE_SHORTAGE,
                f"at most {FORWARDS_MAX} forwarded connections at a time",
            )
        if desk.record.stage not in (Stage.RUNNING, Stage.STOPPING):
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_CONNECT_FAILED, "the job does not run"
            )
        self._open += 1
        try:
            return SSHForwarder(await self._connect(desk, port))
        except SubletError as fault:
            self._release()
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_CONNECT_FAILED, fault.message
            ) from None
        except BaseException:
            self._release()
            raise

    async def _connect(self, desk: Desk, port: int) -> SSHForwarder:
        inside = await desk.sandbox.connect(desk.folder.job, port=port)
        loop = asyncio.get_running_loop()
        _, end = await loop.create_connection(lambda: _End(self._release), sock=inside)
        return end

    def _release(self) -> None:
        self._open -= 1


class _End(SSHForwarder):
    """The job's end of one connection; says when it is over."""

    def __init__(self, release: Callable[[], None]) -> None:
        super().__init__()
        self._release = release

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._release()
