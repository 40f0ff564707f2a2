"""The payment channel of two parties in a market: one, and everybody computes it."""

from sublet.base.ids import Address, Digest
from sublet.core.document import Channel, Market


def channel_of(
    market: Market,
    market_id: Digest,
    *,
    tenant: Address,
    provider: Address,
    authorizer: Address | None = None,
) -> Channel:
    """Name the channel from tenant to provider, reused over all of their leases.

    Leases under a delegation have one of their own, whose ``authorizer`` is the
    delegate; everywhere else that is the tenant. Its id is its digest (``typed_data.digest``).
    """
    return Channel(
        payer=tenant,
        payer_authorizer=authorizer or tenant,
        receiver=provider,
        receiver_authorizer=provider,
        token=market.token,
        withdraw_delay=market.withdraw_delay_s,
        salt=market_id,
    )
