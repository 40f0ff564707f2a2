"""Money on a chain: leases wait for it, and end where it is taken back."""

from typing import Any

import pytest
from msgspec.structs import replace

from sublet.base.errors import Broken
from sublet.core.book.snapshot import dump, load
from sublet.core.book.view import account, find_lease
from sublet.core.document import Credit, Mirror, Start, Stop
from sublet.core.lease.phase import Fault, Lease, Phase
from sublet.core.mirror import ESCROW
from tests.unit.core.book.world import (
    OPERATOR,
    OTHER_PROVIDER,
    PROVIDER,
    RULES,
    TENANT,
    World,
    digest,
)


class EscrowWorld(World):
    """A market whose money lies on a chain: one provider, one channel to it."""

    def __init__(self) -> None:
        super().__init__(replace(RULES, rail=ESCROW))
        self.block = 0
        self.add_provider()
        self.channel_id = self.add_channel()

    def mirror(self, channel_id: str = "", **changed: Any) -> Mirror:
        """Make what the operator says of a channel at the next block."""
        self.block += 1
        said: dict[str, Any] = {"balance": 0, "claimed": 0, "withdrawing": 0}
        return Mirror(
            channel_id=channel_id or self.channel_id,
            block=self.block,
            block_hash=digest(self.block),
            signed_at_s=self.now_s,
            salt=len(self.facts),
            **(said | changed),
        )

    def on_chain(self, balance: int, claimed: int = 0, withdrawing: int = 0) -> None:
        self.say(
            OPERATOR,
            self.mirror(balance=balance, claimed=claimed, withdrawing=withdrawing),
        )

    def prepared(self) -> Lease:
        return self.lease_in(Phase.PREPARING)

    def start(self, lease: Lease) -> None:
        self.say(PROVIDER, Start(lease.id, self.now_s, len(self.facts)))

    def end(self, lease: Lease, ran_s: int = 10) -> int:
        """Let it run, end and be paid; give what was owed."""
        self.now_s += ran_s
        self.say(PROVIDER, self.receipt(lease, ran_s * 1_000))
        owed = self.lease(lease.id).owed
        self.vouch(self.channel_id, self.lease(lease.id).owed + self.paid())
        return owed

    def paid(self) -> int:
        return self.book.channels[self.channel_id].paid

    def earned(self) -> int:
        return account(self.book, PROVIDER).earned


@pytest.fixture
def world() -> EscrowWorld:
    return EscrowWorld()


def test_matches_without_a_wallet_and_waits_for_the_deposit(world: EscrowWorld) -> None:
    lease = world.prepared()
    assert not lease.is_funded
    start = Start(lease.id, world.now_s, 1)
    assert world.refused(PROVIDER, start) == "not_funded"
    world.on_chain(lease.hold - 1)
    assert world.refused(PROVIDER, start) == "not_funded"
    world.on_chain(lease.hold)
    assert world.lease(lease.id).is_funded
    world.start(lease)
    assert world.lease(lease.id).phase is Phase.RUNNING


def test_pays_out_of_the_channel(world: EscrowWorld) -> None:
    lease = world.prepared()
    world.on_chain(lease.hold)
    world.start(lease)
    owed = world.end(lease)
    assert owed > 0
    assert world.lease(lease.id).phase is Phase.SETTLED
    assert world.earned() == owed == world.paid()
    view = account(world.book, TENANT)
    assert (view.balance, view.held, view.spent) == (lease.hold - owed, 0, owed)


def test_next_lease_is_held_out_of_what_the_last_one_left(world: EscrowWorld) -> None:
    first = world.prepared()
    world.on_chain(2 * first.hold)
    assert world.prepared().is_funded
    third = world.prepared()
    assert not third.is_funded
    world.say(TENANT, Stop(first.id, "cancelled", world.now_s, 1))
    assert world.lease(third.id).is_funded


def test_a_lease_says_what_is_to_be_deposited(world: EscrowWorld) -> None:
    first = world.prepared()
    assert find_lease(world.book, first.id).deposit_due == first.hold
    second = world.prepared()
    due = first.hold + second.hold
    assert find_lease(world.book, second.id).deposit_due == due
    world.on_chain(first.hold + 7)
    assert find_lease(world.book, first.id).deposit_due == 0
    assert find_lease(world.book, second.id).deposit_due == second.hold - 7


def test_what_is_not_funded_fails_by_its_tenants_fault(world: EscrowWorld) -> None:
    lease = world.prepared()
    world.say(PROVIDER, world.receipt(lease, 0, "failed"))
    ended = world.lease(lease.id)
    assert (ended.reason, ended.fault) == ("not_funded", Fault.TENANT)


def test_a_tenant_without_a_deposit_is_at_fault(world: EscrowWorld) -> None:
    lease = world.prepared()
    world.wait(RULES.prepare_s)
    ended = world.lease(lease.id)
    assert (ended.phase, ended.reason) == (Phase.SETTLED, "not_funded")
    assert ended.fault is Fault.TENANT


def test_a_claim_is_a_voucher(world: EscrowWorld) -> None:
    lease = world.prepared()
    world.on_chain(lease.hold)
    world.start(lease)
    world.now_s += 10
    world.say(PROVIDER, world.receipt(lease, 10_000))
    assert world.lease(lease.id).phase is Phase.SETTLING
    owed = world.lease(lease.id).owed
    world.on_chain(lease.hold, claimed=owed)
    assert world.lease(lease.id).paid == owed


def test_free_money_may_be_withdrawn_beside_a_lease(world: EscrowWorld) -> None:
    lease = world.prepared()
    world.on_chain(lease.hold + 500)
    world.on_chain(lease.hold + 500, withdrawing=500)
    assert account(world.book, TENANT).balance == 0
    world.on_chain(lease.hold)
    world.start(lease)
    assert world.end(lease) == world.earned()


def test_a_withdrawal_ends_the_job_that_it_would_leave_unpaid(
    world: EscrowWorld,
) -> None:
    lease = world.prepared()
    world.on_chain(lease.hold)
    world.start(lease)
    world.now_s += 10
    world.say(PROVIDER, world.usage(lease, 10_000))
    world.on_chain(lease.hold, withdrawing=lease.hold)
    stopped = world.lease(lease.id)
    assert (stopped.phase, stopped.reason) == (Phase.CLOSING, "withdrawn")
    assert stopped.fault is Fault.TENANT
    # The provider claims what it holds a voucher for before the delay is over.
    world.say(PROVIDER, world.receipt(lease, 10_000))
    owed = world.lease(lease.id).owed
    world.on_chain(lease.hold, claimed=owed, withdrawing=lease.hold)
    assert world.lease(lease.id).paid == owed == world.earned()
    world.on_chain(owed, claimed=owed)
    assert world.earned() == owed
    assert account(world.book, TENANT).balance == 0


def test_a_withdrawal_before_the_start_ends_the_lease(world: EscrowWorld) -> None:
    lease = world.prepared()
    world.on_chain(lease.hold)
    world.on_chain(lease.hold, withdrawing=1)
    ended = world.lease(lease.id)
    assert (ended.phase, ended.reason) == (Phase.SETTLED, "withdrawn")
    assert (ended.fault, ended.paid) == (Fault.TENANT, 0)


def test_a_provider_that_never_claimed_loses_what_was_taken_back(
    world: EscrowWorld,
) -> None:
    lease = world.prepared()
    world.on_chain(lease.hold)
    world.start(lease)
    owed = world.end(lease)
    world.on_chain(0)
    channel = world.book.channels[world.channel_id]
    assert (channel.uncollected, world.earned()) == (owed, 0)
    # Its voucher is good for the next deposit.
    world.on_chain(owed - 1)
    assert world.earned() == owed - 1
    world.on_chain(owed + 5)
    assert world.earned() == owed
    assert account(world.book, TENANT).balance == 5


def test_what_was_paid_holds_no_other_lease(world: EscrowWorld) -> None:
    first = world.prepared()
    world.on_chain(2 * first.hold)
    world.start(first)
    second = world.lease_in(Phase.RUNNING)
    owed = world.end(first, ran_s=20)
    world.on_chain(second.hold + owed - 1)
    assert world.lease(second.id).reason == "withdrawn"


def test_a_deposit_that_a_fork_dropped_ends_the_lease(world: EscrowWorld) -> None:
    lease = world.prepared()
    world.on_chain(lease.hold)
    world.start(lease)
    world.now_s += 10
    world.say(PROVIDER, world.usage(lease, 10_000))
    world.on_chain(0)
    assert world.lease(lease.id).reason == "withdrawn"
    world.say(PROVIDER, world.receipt(lease, 10_000))
    world.vouch(world.channel_id, world.lease(lease.id).owed)
    ended = world.lease(lease.id)
    assert (ended.phase, ended.paid) == (Phase.SETTLED, 0)


def test_the_receipt_after_a_withdrawal_is_paid_of_what_is_left(
    world: EscrowWorld,
) -> None:
    lease = world.prepared()
    world.on_chain(lease.hold)
    world.start(lease)
    world.now_s += 10
    world.on_chain(3, claimed=3)
    world.say(PROVIDER, world.receipt(lease, 10_000))
    world.vouch(world.channel_id, 100)
    assert world.lease(lease.id).paid == 3 == world.earned()


def test_what_no_contract_says_is_refused(world: EscrowWorld) -> None:
    world.on_chain(10)
    stale = replace(world.mirror(balance=11), block=1)
    refused = {
        "bad_mirror": world.mirror(balance=10, claimed=11),
        "unknown_channel": world.mirror(digest(99), balance=1),
        "stale_mirror": stale,
    }
    for code, mirror in refused.items():
        assert world.refused(OPERATOR, mirror) == code
    too_much = world.mirror(balance=10, withdrawing=11)
    assert world.refused(OPERATOR, too_much) == "bad_mirror"
    assert world.refused(TENANT, world.mirror(balance=12)) == "wrong_signer"
    assert world.book.channels[world.channel_id].balance == 10


def test_each_rail_refuses_the_money_of_the_other(world: EscrowWorld) -> None:
    credit = Credit(TENANT, 5, "", world.now_s, 1)
    assert world.refused(OPERATOR, credit) == "wrong_rail"
    other = World()
    other.add_provider()
    channel_id = other.add_channel()
    assert other.refused(OPERATOR, world.mirror(channel_id, balance=1)) == "wrong_rail"


def test_a_rail_has_a_name() -> None:
    with pytest.raises(AssertionError, match=r"market\.rail"):
        World(replace(RULES, rail="gold"))


def test_money_of_one_channel_pays_no_other(world: EscrowWorld) -> None:
    world.on_chain(100_000_000)
    world.add_provider(OTHER_PROVIDER, cpu_price_hour=1)
    lease = world.order()
    assert (lease.provider, lease.is_funded) == (OTHER_PROVIDER, False)


def test_a_snapshot_keeps_what_the_chain_said(world: EscrowWorld) -> None:
    world.prepared()
    world.on_chain(5, claimed=2, withdrawing=1)
    raw = dump(world.book)
    again = load(raw)
    assert dump(again) == raw
    assert again.channels_of == world.book.channels_of


def test_redeeming_more_than_is_there_is_a_broken_book(world: EscrowWorld) -> None:
    with pytest.raises(Broken, match="redeeming"):
        world.book.ledger.redeem(party=world.channel_id, amount=1)
