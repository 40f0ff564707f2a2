"""Gangs among everything else that anybody may say: whole, or gone, and nobody's money.

On top of what the machine of modes holds: between two facts there is never a part of a
gang that still waits for signatures, and its members are apart as the order asks.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from sublet.base.limits import GANG_TRIES_MAX
from sublet.core.book.gang import COMMITTED, current
from sublet.core.book.open_order import FILLED, OpenOrder, OrderPhase
from sublet.core.document import (
    Cancellation,
    Credit,
    ProviderLost,
    ProviderSeen,
    Stop,
    Tick,
)
from sublet.core.lease.phase import Lease, Phase
from tests.simulation.test_market_machine import PROVIDERS, TENANTS
from tests.simulation.test_mode_machine import Modes
from tests.unit.core.book.world import GIB, OPERATOR, make_offer

_BY_TRIES = 1 << 40  # a gang's order is over after some tries, each with a deadline
_WAITING = COMMITTED | {Phase.MATCHED}


class Gangs(Modes):
    """Orders for several machines, whose owners sign, or not, or go away."""

    def __init__(self) -> None:
        super().__init__()
        self.filled: set[str] = set()

    def gangs(self) -> list[OpenOrder]:
        orders = self.world.book.orders.values()
        return [one for one in orders if one.phase is OrderPhase.COMMITTING]

    def members(self, record: OpenOrder) -> list[Lease]:
        found = [self.world.book.find_lease(key) for key in current(record)]
        return [lease for lease in found if lease is not None]

    @rule(price=st.sampled_from([9_000, 60_000]))
    def stock(self, price: int) -> None:
        """All owners are there, each with a machine that is free."""
        for number, provider in enumerate(PROVIDERS):
            self.say(OPERATOR, ProviderSeen(provider, 1, self.salt))
            fields = {"machine": "spare", "cpu_price_hour": price + 1_000 * number}
            self.say(provider, make_offer(**fields, salt=self.salt))

    @rule(
        tenant=st.sampled_from(TENANTS[:2]),
        machines=st.sampled_from([2, 2, 3, 5]),
        apart=st.sampled_from([(), ("provider",), ("provider", "region")]),
        data=st.data(),
    )
    def gang(
        self, tenant: str, machines: int, apart: tuple[str, ...], data: st.DataObject
    ) -> None:
        wish = self.wish(tenant, data, machines=machines, apart=apart)
        self.place(wish, bound_s=_BY_TRIES)

    @rule(
        tenant=st.sampled_from(TENANTS[:2]),
        machines=st.sampled_from([2, 2, 3]),
        signers=st.sampled_from([0, 1, 2, 3]),
        then=st.sampled_from(["nothing", "time", "lost", "stop", "cancel"]),
    )
    def play(self, tenant: str, machines: int, signers: int, then: str) -> None:
        """Place one that has its machines, sign for some of it, and let something be."""
        self.stock(price=9_000)
        self.say(OPERATOR, Credit(tenant, 900_000, "", 1, self.salt))
        small = {"cpus_milli": 500, "memory_bytes": GIB, "duration_s_max": 100}
        wish = {"tenant": tenant, "machines": machines, "salt": self.salt}
        self.place(wish | small, bound_s=_BY_TRIES)
        for record in self.gangs()[-1:]:
            leases = self.members(record)
            for lease in leases[:signers]:
                if lease.phase is Phase.MATCHED:
                    self.say(lease.provider, self.world.terms(lease))
            last = leases[-1]
            if then == "time":
                self.world.now_s += self.world.book.rules.accept_s + 1
                self.say(OPERATOR, Tick(1, self.salt))
            elif then == "lost":
                self.say(OPERATOR, ProviderLost(last.provider, 1, self.salt))
            elif then == "stop":
                self.say(tenant, Stop(last.id, "cancelled", 1, self.salt))
            elif then == "cancel":
                self.say(tenant, Cancellation(record.id, 1, self.salt))

    @invariant()
    def nobody_has_a_part_of_a_gang(self) -> None:
        if not hasattr(self, "world"):
            return
        for record in self.gangs():
            assert self.world.book.now_s < record.deadline_s, "a try lasts too long"
            assert len(record.leases) <= GANG_TRIES_MAX * record.order.machines
            leases = self.members(record)
            assert len(leases) == record.order.machines
            assert all(lease.phase in _WAITING for lease in leases), "a part is gone"
            self.assert_apart(record, leases)
        for key, record in self.world.book.ended.items():
            if record.order.machines < 2 or key in self.filled:
                continue
            self.filled.add(key)
            phases = {lease.phase for lease in self.members(record)}
            if record.reason == FILLED:
                assert len(record.leases) % record.order.machines == 0
            else:
                assert not phases & _WAITING, "a broken gang has leases"

    def teardown(self) -> None:
        """All gangs are over once each of their tries may have been."""
        if not hasattr(self, "world"):
            return
        for _ in range(GANG_TRIES_MAX):
            self.world.now_s += self.world.book.rules.accept_s + 1
            self.say(OPERATOR, Tick(1, self.salt))
        assert not self.gangs()
        self.bound_s = {k: at_s for k, at_s in self.bound_s.items() if at_s < _BY_TRIES}
        super().teardown()

    def assert_apart(self, record: OpenOrder, leases: list[Lease]) -> None:
        for thing in record.order.apart:
            if thing == "provider":
                assert len({lease.provider for lease in leases}) == len(leases)
        machines = {(lease.provider, lease.machine) for lease in leases}
        assert len(machines) == len(leases), "two members on one machine"


TestGangs = Gangs.TestCase
TestGangs.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, print_blob=True
)
