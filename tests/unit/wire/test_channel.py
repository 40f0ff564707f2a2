"""The channel of two parties: one, and the same for whoever computes it."""

from sublet.core.document import Channel, Market
from sublet.wire.channel import channel_of
from sublet.wire.typed_data import Domain, digest, market_id

TENANT, PROVIDER, TOKEN = "0x" + "aa" * 20, "0x" + "bb" * 20, "0x" + "cc" * 20
MARKET = Market("lab", 1, TOKEN, TOKEN, "key", 1, 2, 3, 4, 5, 6, 900, 1_790_000_000, 7)
MARKET_ID = market_id(MARKET)


def test_channel_is_that_of_the_protocol() -> None:
    channel = channel_of(MARKET, MARKET_ID, tenant=TENANT, provider=PROVIDER)
    assert channel == Channel(
        payer=TENANT,
        payer_authorizer=TENANT,
        receiver=PROVIDER,
        receiver_authorizer=PROVIDER,
        token=TOKEN,
        withdraw_delay=900,
        salt=MARKET_ID,
    )


def test_each_direction_has_its_channel() -> None:
    domain = Domain.of(MARKET, MARKET_ID)
    there = channel_of(MARKET, MARKET_ID, tenant=TENANT, provider=PROVIDER)
    back = channel_of(MARKET, MARKET_ID, tenant=PROVIDER, provider=TENANT)
    assert digest(there, domain) != digest(back, domain)
