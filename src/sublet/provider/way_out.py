"""One job's way out: the proxy that leads to what its tenant and this owner agreed on.

Its counts lie in the lease's folder, so that an agent that was restarted goes on
counting. Who was reached is told to the tenant alone; the receipt holds a digest.
"""

import contextlib
import secrets
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from sublet.adapter.egress_proxy import EgressProxy
from sublet.adapter.own_networks import find_own_networks
from sublet.base.errors import SubletError
from sublet.core.egress import (
    Destination,
    EgressRules,
    EgressTable,
    check_allowed,
    check_destinations,
    find_address_fault,
    find_fault,
)
from sublet.provider.record import write_atomic

_FILE = "egress.json"


def check_wanted(texts: tuple[str, ...], rules: EgressRules) -> None:
    """Check what a manifest wants to reach, before anything is prepared or billed.

    Raises:
        Refused: the first destination that this owner does not allow.
    """
    if texts:
        wanted = check_destinations(texts)
        check_allowed(wanted, rules, own=find_own_networks())


class WayOut:
    """The way out of one lease's sandbox; closed until ``open``."""

    def __init__(self, folder: Path, rules: EgressRules) -> None:
        """Take the lease's folder and the owner's rules; nothing is opened."""
        self.path = folder / "network" / "egress"
        self._file = folder / "data" / _FILE
        self._rules = rules
        self._stack = AsyncExitStack()
        self._proxy: EgressProxy | None = None
        self._salt = secrets.token_hex(16)
        self._refused = 0
        self._last: EgressTable | None = None  # once it is closed

    async def open(self, texts: tuple[str, ...]) -> str:
        """Begin to listen; give the socket's path, for the sandbox. Twice is harmless.

        Raises:
            Refused: the owner has changed the rules since.
            Unavailable: the socket cannot be made.
        """
        if self._proxy is None:
            wanted = check_destinations(texts)
            self.path.parent.mkdir(mode=0o755, exist_ok=True)
            before = self._find_table()
            self._salt, self._refused = before.salt, before.refused
            proxy = EgressProxy(
                path=self.path,
                allow=wanted,
                find_fault=self._find_fault,
                find_address_fault=self._find_address_fault,
                rows=before.rows,
                bytes_max=self._rules.bytes_max,
                rate_bytes_s=self._rules.rate_bytes_s,
                connections_max=self._rules.connections_max,
            )
            self._proxy = await self._stack.enter_async_context(proxy)
            self.save()
        return str(self.path)

    def is_used(self) -> bool:
        """Say whether this job was ever given a way out, by an earlier agent, too."""
        return self._proxy is not None or _is_there(self._file)

    async def close(self) -> None:
        """Hang up on everybody; from now on the counts stand still."""
        if self._proxy is not None:
            await self._stack.aclose()
            self.save()
            self._last, self._proxy = self.table(), None

    def save(self) -> None:
        """Keep the counts, as far as the disk lets us."""
        if self._proxy is not None and _is_there(self._file.parent):
            with contextlib.suppress(SubletError):  # whoever writes the record says so
                write_atomic(self._file, msgspec.json.encode(self.table()))

    def table(self) -> EgressTable:
        """Give what was counted so far; of what an earlier agent left, if need be."""
        if self._proxy is None:
            return self._last or self._find_table()
        refused = self._refused + self._proxy.refused.total()
        return EgressTable(salt=self._salt, rows=self._proxy.rows(), refused=refused)

    def _find_table(self) -> EgressTable:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=EgressTable)
        except (OSError, msgspec.MsgspecError):
            return EgressTable(salt=self._salt, rows=())

    def _find_fault(self, target: Destination) -> str:
        return find_fault(target, self._rules)

    def _find_address_fault(self, address: str) -> str:
        local = self._rules.local
        return find_address_fault(address, local=local, own=find_own_networks())


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False  # or the file system that it lay on was torn away
    return True
