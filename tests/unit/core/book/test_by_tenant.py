"""Order, Delegation, Channel and Voucher: what is granted, and to whom."""

import pytest
from msgspec.structs import replace

from sublet.base.limits import LEASES_PER_TENANT_MAX
from sublet.core.book.step import step
from sublet.core.book.view import account
from sublet.core.document import Fact, Voucher
from sublet.core.lease.phase import Phase
from tests.unit.core.book.world import (
    GIB,
    OTHER_PROVIDER,
    OTHER_TENANT,
    PROVIDER,
    RULES,
    START_S,
    TENANT,
    TOKEN,
    World,
    address,
    digest,
    make_order,
)

DELEGATE = address(0x3000)


def make_world() -> World:
    world = World()
    world.add_credit()
    world.add_provider()
    return world


# ---- orders -----------------------------------------------------------------------


def test_order_becomes_a_lease() -> None:
    world = make_world()
    world.say(TENANT, make_order())
    (lease,) = world.book.leases.values()
    assert lease.id == world.facts[-1].id
    assert (lease.tenant, lease.provider) == (TENANT, PROVIDER)
    assert lease.deadline_s == START_S + RULES.accept_s
    assert (lease.ssh_key, lease.ssh_host_key) == (
        "ssh-ed25519 TENANT",
        "ssh-ed25519 HOST",
    )
    wallet = account(world.book, TENANT)
    assert (wallet.held, wallet.balance) == (lease.hold, 10_000_000 - lease.hold)


def test_binds_lowest_free_gpus() -> None:
    world = World()
    world.add_credit()
    world.add_provider(
        gpu_model="h200", gpu_memory_bytes=141 * GIB, gpu_uuids=("d", "b", "a", "c")
    )
    first = world.order(gpu_count=2)
    second = world.order(gpu_count=1)
    assert (first.gpu_uuids, second.gpu_uuids) == (("a", "b"), ("c",))
    two = make_order(gpu_count=2)
    assert world.refused(TENANT, two) == "no_match"


def test_last_machine_goes_once() -> None:
    world = make_world()
    world.order(cpus_milli=8_000)
    assert world.refused(TENANT, make_order(cpus_milli=1)) == "no_match"


def test_order_needs_its_tenant() -> None:
    world = make_world()
    assert world.refused(OTHER_TENANT, make_order()) == "wrong_signer"


def test_order_says_what_is_missing() -> None:
    world = World()
    world.add_credit(amount=20_000)
    world.add_provider()
    done = world.fold(world.fact(TENANT, make_order()))
    assert done.refusal is not None
    assert done.refusal.code == "insufficient_funds"
    assert done.refusal.detail["missing"] == 8_000


def test_order_counts_once() -> None:
    world = make_world()
    lease = world.order()
    again = Fact(world.now_s, lease.id, TENANT, make_order())
    assert world.fold(again).refusal.code == "duplicate_order"  # type: ignore[union-attr]
    world.wait(RULES.accept_s)
    assert world.fold(again).refusal.code == "duplicate_order"  # type: ignore[union-attr]


def test_own_machine_may_be_rented() -> None:
    world = World()
    world.add_credit(PROVIDER)
    world.add_provider()
    assert world.order(tenant=PROVIDER).provider == PROVIDER


def test_open_leases_are_bounded() -> None:
    world = World()
    world.add_credit()
    world.add_provider(cpus_milli=1_024_000, cpu_price_hour=0, memory_price_hour=0)
    for salt in range(LEASES_PER_TENANT_MAX):
        order = make_order(cpus_milli=1, memory_bytes=1, disk_bytes=0, salt=salt)
        assert step(world.book, world.fact(TENANT, order)).refusal is None
        world.facts.append(world.fact(TENANT, order))
    order = make_order(cpus_milli=1, memory_bytes=1, disk_bytes=0, salt=-1)
    assert world.refused(TENANT, order) == "too_many_leases"


# ---- channels and vouchers --------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("receiver_authorizer", OTHER_PROVIDER),
        ("token", "0x" + "71" * 20),
        ("withdraw_delay", 0),
        ("salt", digest(8)),
    ],
)
def test_refuses_foreign_channel(field: str, value: str | int) -> None:
    world = World()
    channel = replace(world.channel(), **{field: value})
    assert channel.token == TOKEN or field == "token"
    assert world.refused(TENANT, channel) == "foreign_channel"


def test_channel_needs_its_payer() -> None:
    world = World()
    assert world.refused(PROVIDER, world.channel()) == "wrong_signer"
    world.add_channel()
    assert world.refused(TENANT, world.channel()) == "duplicate_channel"


def test_vouchers_only_go_up() -> None:
    world = World()
    channel = world.add_channel()
    world.vouch(channel, 500)
    for amount in (499, 500):
        assert world.refused(TENANT, Voucher(channel, amount)) == "stale_voucher"
    world.vouch(channel, 501)
    assert world.book.channels[channel].vouched == 501


def test_voucher_needs_channel_and_payer() -> None:
    world = World()
    assert world.refused(TENANT, Voucher(digest(4), 1)) == "unknown_channel"
    channel = world.add_channel()
    assert world.refused(PROVIDER, Voucher(channel, 1)) == "wrong_signer"


def test_zero_voucher_is_stale() -> None:
    world = World()
    channel = world.add_channel()
    assert world.refused(TENANT, Voucher(channel, 0)) == "stale_voucher"


def test_voucher_alone_moves_nothing() -> None:
    world = make_world()
    channel = world.add_channel()
    lease = world.lease_in(Phase.RUNNING)
    assert world.vouch(channel, 5_000).outcomes == ()
    assert account(world.book, PROVIDER).earned == 0
    assert world.lease(lease.id).phase is Phase.RUNNING


def test_a_machine_takes_as_many_leases_as_its_owner_said() -> None:
    world = World()
    world.add_credit()
    world.add_provider(leases_max=1)
    world.lease_in(Phase.RUNNING)
    assert world.refused(TENANT, make_order(salt=77)) == "no_match"
    world.wait(RULES.report_s)  # the lease is settled, and its place is free
    assert world.order().phase is Phase.MATCHED
