"""``[chain]`` of a node's or a provider's settings: where the chain is, and how sure is sure.

Addresses of RPCs often hold a key: no message and no ``repr`` shows more than their hosts.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal, InvalidOperation
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from sublet.adapter.chain_rpc import RpcChain
from sublet.base.errors import Refused
from sublet.base.units import MicroUsd, parse_money
from sublet.core.rail.sending import Policy

DEVELOPMENT_CHAIN_ID = 31_337  # of anvil and the like
GWEI = 10**9
FEE_MAX_GWEI = "5"

Url = Annotated[str, Meta(pattern=r"\A(https?://\S+)?\Z", max_length=512)]
Contract = Annotated[str, Meta(pattern=r"\A(0x[0-9a-f]{40})?\Z")]
Depth = Annotated[int, Meta(ge=0, le=10_000)]


class ChainPlace(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[chain]``: how the chain of the escrow rail is reached."""

    rpc: Annotated[tuple[Url, ...], Meta(max_length=8)] = ()  # best first
    confirmations: Depth = 12  # blocks on top of one that counts as certain
    fee_max_gwei: str = FEE_MAX_GWEI  # a transaction pays no more for a unit of gas
    ether_usd: str = ""  # what gas is counted at; "": nobody knows
    public_rpc: Url = ""  # of a node: an address that its tenants may use, too
    stake: Contract = ""  # that holds what providers risk; a node tells everybody

    def __repr__(self) -> str:
        hosts = ", ".join(urlsplit(url).hostname or "?" for url in self.rpc)
        return f"ChainPlace({hosts})"


def make_policy(place: ChainPlace) -> Policy:
    """Say what a transaction may cost.

    Raises:
        Refused: ``bad_setting``, the fee is no amount of gwei.

    >>> make_policy(ChainPlace(fee_max_gwei="0.5")).fee_max_wei
    500000000
    """
    try:
        fee = Decimal(place.fee_max_gwei) * GWEI
        if not 0 < fee <= 10**6 * GWEI or fee != int(fee):
            raise InvalidOperation
    except InvalidOperation:
        raise Refused(
            f"chain.fee_max_gwei: {place.fee_max_gwei!r} is no amount of gwei between 0 "
            "and 1000000, such as 0.5",
            code="bad_setting",
            field="chain.fee_max_gwei",
        ) from None
    return Policy(fee_max_wei=int(fee), confirmations=place.confirmations)


def find_ether_usd(place: ChainPlace) -> MicroUsd | None:
    """Say what the chain's coin is counted at; None: nobody knows.

    Raises:
        Refused: ``bad_money``.

    >>> find_ether_usd(ChainPlace(ether_usd="1917.00"))
    1917000000
    """
    if not place.ether_usd:
        return None
    return parse_money(place.ether_usd, field="chain.ether_usd")


@asynccontextmanager
async def open_chain(place: ChainPlace, *, chain_id: int) -> AsyncIterator[RpcChain]:
    """Open the chain that the settings name; nothing is asked yet.

    Raises:
        Refused: ``no_rpc``, they name none.
    """
    if not place.rpc:
        raise Refused(
            f"this market's money lies on chain {chain_id}, and the settings name no RPC "
            'of it; write into config.toml: [chain] rpc = ["https://..."]',
            code="no_rpc",
            field="chain.rpc",
        )
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(RpcChain(place.rpc, chain_id=chain_id))
