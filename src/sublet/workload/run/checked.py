"""The host key of a lease as it was checked, for every later connection to it.

A shell, a copy, a port: each is another connection, for which the market tells the
lease again. What was once held against the provider's signature is remembered.
"""

from pathlib import Path

import msgspec

from sublet.base.errors import PeerFault
from sublet.core.lease.phase import Lease

CHECKED_FILE = "host_key.json"


def keep_checked(folder: Path, lease: Lease) -> None:
    """Remember the host key of a lease in its job's folder."""
    content = msgspec.json.encode([lease.id, lease.ssh_host_key])
    (folder / CHECKED_FILE).write_bytes(content)


def check_known(folder: Path, lease: Lease) -> None:
    """Check that the market still names the host key that was checked.

    Raises:
        PeerFault: it names another one (``market_lied``).
    """
    try:
        raw = (folder / CHECKED_FILE).read_bytes()
        known = msgspec.json.decode(raw, type=tuple[str, str])
    except (FileNotFoundError, msgspec.MsgspecError):
        return  # no channel of this lease was ever opened here
    if known[0] == lease.id and known[1] != lease.ssh_host_key:
        raise PeerFault(
            f"the market now names another host key for lease {lease.id}: whoever "
            "holds it is not the provider",
            code="market_lied",
            detail={"lease": lease.id},
        )
