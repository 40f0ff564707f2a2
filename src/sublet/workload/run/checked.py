"""The provider's own word on a lease, and its host key for every later connection.

A shell, a copy, a port: each is another connection, for which the market tells the
lease again. What was once held against the provider's signature is remembered.
"""

import asyncio
from pathlib import Path

import msgspec

from sublet.base.errors import PeerFault
from sublet.core.document import Order
from sublet.core.lease.phase import Lease
from sublet.sdk.job_channel import ChannelLost, JobChannel
from sublet.wire.message import Signed, Terms, Trouble
from sublet.wire.typed_data import Domain
from sublet.workload.run.evidence import check_terms

TERMS_S = 30.0  # for the provider's first word

CHECKED_FILE = "host_key.json"


async def hear_terms(
    channel: JobChannel,
    *,
    lease: Lease,
    order: Signed | None,
    domain: Domain,
    folder: Path,
) -> None:
    """Hear the provider's own word on the lease, before anything is told.

    Raises:
        PeerFault: the market lied, or this is not the provider.
        Unavailable: it does not say.
    """
    try:
        async with asyncio.timeout(TERMS_S):
            said = await channel.hear()
    except TimeoutError:
        raise ChannelLost("the provider does not show its terms") from None
    if isinstance(said, Trouble):
        text = "".join(c if c.isprintable() else " " for c in said.message)[:500]
        raise PeerFault(f"the provider cannot go on: {text}", code="trouble")
    document = order.document if order else None
    if not isinstance(said, Terms) or not isinstance(document, Order):
        raise PeerFault("the provider shows no terms", code="no_terms")
    check_terms(said, lease=lease, order=document, domain=domain)
    keep_checked(folder, lease)


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
