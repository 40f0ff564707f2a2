"""When a machine comes free, and when the work is done: on what it rests."""

import pytest
from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.core.book.excerpt import pick
from sublet.core.book.look_ahead import choose_leases, look_later, look_now
from sublet.core.book.prices import survey, take_stock
from sublet.core.book.snapshot import dump
from sublet.core.book.view import channel_total
from sublet.core.document import Order, Start
from sublet.core.lease.phase import Lease, Phase
from sublet.core.outlook import Outlook
from tests.unit.core.book.world import GIB, OTHER_PROVIDER, PROVIDER, World, make_order

WHOLE = {"cpus_milli": 8_000}
WORK_S = 3_600


def busy_world(*duration_s: int) -> tuple[World, list[Lease]]:
    """A machine for each duration, let whole for so long and running."""
    world = World()
    world.add_credit(amount=900_000_000)
    leases = []
    for number, span_s in enumerate(duration_s):
        world.add_provider(PROVIDER, machine=f"m{number}")
        leases.append(world.lease_in(Phase.RUNNING, duration_s_max=span_s, **WHOLE))
    return world, leases


def look(world: World, order: Order) -> Outlook:
    """Look ahead in the steps that a node takes."""
    book, now_s = world.book, world.now_s
    seen = survey(take_stock(book))
    found = look_now(book, seen, order=order, now_s=now_s)
    if isinstance(found, Outlook):
        return found
    excerpt = pick(book, order, choose_leases(found), now_s=now_s)
    return look_later(found, excerpt)


def ask(world: World, **changed: object) -> Outlook:
    """Look ahead; the book is as before."""
    before, cells = dump(world.book), world.book.offers.cells.copy()
    outlook = look(world, make_order(**{**WHOLE, "duration_s_max": WORK_S, **changed}))
    assert dump(world.book) == before
    assert (world.book.offers.cells == cells).all()
    return outlook


def test_free_machine_takes_it_now() -> None:
    world = World()
    world.add_provider()
    outlook = ask(world)
    assert (outlook.wait_basis, outlook.wait_s, outlook.wait_s_max) == ("free", 0, 0)
    assert (outlook.provider, outlook.leases_before) == (PROVIDER, 0)
    rules = world.book.rules
    assert outlook.prepare_s_max == rules.accept_s + rules.deliver_s + rules.prepare_s
    assert (outlook.prepare_s, outlook.samples) == (-1, 0)  # nobody knows yet
    assert outlook.finish_s_min == WORK_S


def test_waits_for_the_lease_that_ends_first() -> None:
    world, _ = busy_world(9_000, 2_000, 5_000)
    outlook = ask(world)
    close_s = world.book.rules.close_s
    assert outlook.wait_basis == "leases_end"
    assert (outlook.leases_before, outlook.wait_s_max) == (1, 2_000 + close_s)
    assert outlook.wait_s == outlook.wait_s_max  # no lease is over that would tell


def test_waits_for_as_many_as_it_takes() -> None:
    world = World()
    world.add_credit(amount=900_000_000)
    world.add_provider()
    for span_s in (1_000, 3_000, 2_000):
        world.lease_in(Phase.RUNNING, cpus_milli=2_000, duration_s_max=span_s)
    close_s = world.book.rules.close_s
    for wanted, before, longest_s in (
        (2_000, 0, 0),
        (4_000, 1, 1_000 + close_s),
        (6_000, 2, 2_000 + close_s),
        (8_000, 3, 3_000 + close_s),
    ):
        outlook = ask(world, cpus_milli=wanted)
        assert (outlook.leases_before, outlook.wait_s_max) == (before, longest_s)


def test_nobody_can_tell_where_nothing_would_fit() -> None:
    world, _ = busy_world(1_000)
    outlook = ask(world, memory_bytes=64 * GIB)
    assert outlook.wait_basis == "nothing_fits"
    assert (outlook.wait_s, outlook.finish_s, outlook.finish_s_max) == (-1, -1, -1)


def test_too_dear_is_no_matter_of_time() -> None:
    world, _ = busy_world(1_000)
    assert ask(world, price_hour_max=1).wait_basis == "nothing_fits"


def test_machine_of_a_lost_provider_comes_not_back() -> None:
    world, _ = busy_world(1_000)
    world.book.offers.set_up(PROVIDER, is_up=False)
    assert ask(world).wait_basis == "nothing_fits"


def test_expects_leases_to_run_as_others_did() -> None:
    world = World()
    world.add_credit(amount=900_000_000)
    world.add_provider(machine="m0")
    channel = world.add_channel()
    for _ in range(3):  # each runs a quarter of its time, 7 s after its match
        lease = world.lease_in(Phase.PREPARING, duration_s_max=80, **WHOLE)
        world.now_s += 7
        world.say(PROVIDER, Start(lease.id, world.now_s, 1))
        world.now_s += 20
        world.say(PROVIDER, world.receipt(lease, 20_000))
        world.vouch(channel, channel_total(world.book, lease.id))
    lease = world.lease_in(Phase.RUNNING, duration_s_max=4_000, **WHOLE)
    outlook = ask(world)
    assert (outlook.samples, outlook.prepare_s) == (3, 7)
    assert outlook.wait_s == 1_000
    assert outlook.wait_s_max == 4_000 + world.book.rules.close_s
    assert lease.phase is Phase.RUNNING


def test_faults_of_the_provider_count() -> None:
    world = World()
    world.add_provider()
    world.book.providers[PROVIDER] = replace(
        world.book.find_provider(PROVIDER), leases_completed=1, leases_at_fault=9
    )
    bad = ask(world)
    assert (bad.chance_ppm, bad.leases_completed, bad.leases_at_fault) == (
        666_667,  # lasts two hours, asked for one
        1,
        9,
    )
    world.book.providers[PROVIDER] = replace(
        world.book.find_provider(PROVIDER), ran_s=990 * 3_600, leases_at_fault=0
    )
    good = ask(world)
    assert good.chance_ppm > 999_000
    assert good.finish_s < bad.finish_s
    assert good.finish_s_max < bad.finish_s_max
    assert good.finish_s_min == bad.finish_s_min


def test_faster_machine_is_done_sooner() -> None:
    world = World()
    world.add_provider(OTHER_PROVIDER, cpu_score=100, cpu_price_hour=90_000)
    world.add_provider(cpu_score=200)
    outlook = ask(world)
    assert (outlook.provider, outlook.speed_ppm) == (PROVIDER, 2_000_000)
    assert outlook.run_s == WORK_S // 2
    world.add_provider(cpu_score=50)
    slow = ask(world)
    assert slow.speed_ppm == 1_000_000  # of two the lower is the median
    world.add_provider(cpu_score=0)
    assert ask(world).speed_ppm == 0  # not measured
    assert ask(world).run_s == WORK_S


def test_refused_order_leaves_the_book_as_it_was() -> None:
    world, _ = busy_world(1_000)
    cells = world.book.offers.cells.copy()
    # It would fit once the lease has ended, and not be able to pay for a second.
    order = make_order(**WHOLE, total_max=1, duration_s_max=WORK_S)
    with pytest.raises(Refused) as caught:
        look(world, order)
    assert caught.value.code == "total_too_small"
    assert (world.book.offers.cells == cells).all()


def test_lease_that_ended_meanwhile_is_left_out() -> None:
    world, leases = busy_world(1_000, 2_000)
    order = make_order(**WHOLE, duration_s_max=WORK_S)
    seen = survey(take_stock(world.book))
    unmet = look_now(world.book, seen, order=order, now_s=world.now_s)
    assert not isinstance(unmet, Outlook)
    chosen = choose_leases(unmet)
    assert [lease.id for lease in chosen] == [lease.id for lease in leases]
    world.say(PROVIDER, world.receipt(leases[0], 1_000))
    excerpt = pick(world.book, order, chosen, now_s=unmet.now_s)
    assert [lease.id for lease in excerpt.leases] == [leases[1].id]


def test_gang_waits_for_the_machine_that_it_lacks() -> None:
    world, _ = busy_world(1_000, 2_000)
    world.add_provider(machine="free")
    found = ask(world, machines=2, total_max=900_000_000)
    close_s = world.book.rules.close_s
    assert (found.leases_before, found.wait_s_max) == (1, 1_000 + close_s)
