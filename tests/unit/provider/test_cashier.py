"""A tenant's deposit is not taken while the market's token is no dollar."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from sublet.adapter.escrow_chain import find_token_domain
from sublet.base.errors import Unavailable
from sublet.core.pricing.reading import E8
from sublet.core.rail.sending import Policy
from sublet.provider.cashier import Cashier
from sublet.provider.journal import Journal
from sublet.provider.outbox import Outbox
from sublet.provider.till import Till
from sublet.service.sender import Sender
from sublet.wire.channel import channel_of
from sublet.wire.codec import sign
from sublet.wire.deposit import sign_deposit
from sublet.wire.typed_data import Domain, market_id
from tests.fakes.chain_memory import CHAIN_ID, MemoryChain
from tests.fakes.escrow_memory import place_escrow
from tests.fakes.journal_memory import MemoryJournal
from tests.fakes.world import World
from tests.rig.recorded_feeds import write_feeds
from tests.unit.provider.lease_maker import make_lease

RENDER = "0x" + "cc" * 20


@pytest.mark.parametrize("cents", [0, 95, 100])  # 0: it has no sources
async def test_takes_no_deposit_off_the_peg(tmp_path: Path, cents: int) -> None:
    world, chain = World(), MemoryChain()
    escrow, token = place_escrow(chain)
    market = replace(
        world.market, chain_id=CHAIN_ID, contract=escrow, token=token, rail="escrow"
    )
    domain = Domain.of(market, market_id(market))
    tenant, provider = world.tenant, world.providers[0]
    lease = make_lease(tenant=tenant.address, provider=provider.address)
    channel = channel_of(
        market, domain.market, tenant=tenant.address, provider=provider.address
    )
    if cents:
        place = tmp_path / "prices.toml"
        write_feeds(place, RENDER, render=2 * E8, usdc=E8 * cents // 100)
    sent = MemoryJournal()
    (tmp_path / "outbox").mkdir()
    cashier = Cashier(
        chain,  # type: ignore[arg-type] # of the port, it is
        Sender(
            chain,
            sent,
            address=provider.address,
            sign=None,  # type: ignore[arg-type] # nothing is sent here
            policy=Policy(fee_max_wei=10**9, confirmations=0),
        ),
        home=tmp_path,
        market=market,
        domain=domain,
        confirmations=0,
        ether_usd=None,
        till=Till(
            tmp_path / "till", market=market, domain=domain, provider=provider.address
        ),
        outbox=Outbox(
            tmp_path / "outbox",
            submit=None,  # type: ignore[arg-type] # likewise
            heard=None,  # type: ignore[arg-type]
            journal=Journal(),
        ),
        journal=Journal(),
    )
    deposit = sign_deposit(
        lease,
        channel,
        domain=domain,
        token=await find_token_domain(chain, token),
        valid_before_s=2_000_000_000,
        amount=1_000,
        key=tenant,
    )
    signed = sign(channel, key=tenant, domain=domain)
    if cents == 95:
        with pytest.raises(Unavailable) as caught:
            await cashier.take_deposit(lease, channel=signed, deposit=deposit)
        assert caught.value.code == "off_peg"
    else:
        await cashier.take_deposit(lease, channel=signed, deposit=deposit)
        # What is on its way is not doubted afterwards.
        write_feeds(tmp_path / "prices.toml", RENDER, render=2 * E8, usdc=E8 // 2)
        await cashier.take_deposit(lease, channel=signed, deposit=deposit)
    assert len(sent.list_open(provider.address)) == (cents != 95)
    assert any((tmp_path / "outbox").glob("*")) == (cents != 95)
