"""Every lease of a wild market, told again from its own entries: as the book has it."""

from hypothesis import Phase, settings
from msgspec.structs import replace

from sublet.core.book.book import Book
from sublet.core.book.step import LeaseMoved, step
from sublet.core.lease.phase import Lease
from sublet.core.lease.retold import Heard, retell
from sublet.service.dispute import _Gatherer
from sublet.service.ports import Row
from sublet.wire.dispute import Dispute, sort_out
from sublet.wire.note import Checkpoint
from tests.simulation.test_escrow_machine import EscrowMarket
from tests.simulation.test_mode_machine import Modes

LEASES_MAX = 6  # of one run that are looked at
# What no paper says: which GPUs, and what the book adds to a lease for its readers.
UNTOLD = {"gpu_uuids": (), "channel_total": 0}


def leases_of(facts: list) -> dict[str, Lease]:
    """Fold it all; give each lease as it was last."""
    book, leases = Book(), {}
    for fact in facts:
        for outcome in step(book, fact).outcomes:
            if isinstance(outcome, LeaseMoved):
                leases[outcome.lease.id] = outcome.lease
    # A Resume moves deadlines and tells nobody.
    return leases | {key: book.find_lease(key) or leases[key] for key in leases}


def tell_again(facts: list, lease: Lease) -> tuple[Lease | None, tuple[str, ...]]:
    gatherer = _Gatherer(lease.id)
    for index, fact in enumerate(facts):
        gatherer.hear(Row(index, fact.id, b"", b""), fact)
    kept = [Heard(each.index, each.fact, each.void) for each in gatherer.find_kept()]
    if kept[-1].index != len(facts) - 1:
        kept.append(Heard(len(facts) - 1, facts[-1]))
    dispute = Dispute(
        v=1, type="sublet-dispute", made_at_s=0, maker="", market=facts[0].id,
        lease=lease.id, order=gatherer.order_id, told=gatherer.told, records_left_out=0,
        vouchers_left_out=0, checkpoint="", entries=(), others=(), manifest="",
    )  # fmt: skip
    size = Checkpoint("", len(facts), b"")
    told = retell(
        sort_out(dispute, size, kept, ()),
        market=facts[0].document,
        lease_id=lease.id,
        order_id=dispute.order,
        told=gatherer.told,
    )
    return told.lease, told.unproven


def check_leases(facts: list) -> None:
    """Tell the last leases of a run again, and hold them against the book."""
    for lease in list(leases_of(facts).values())[-LEASES_MAX:]:
        told, unproven = tell_again(facts, lease)
        if told is None:
            assert lease.started_at_s == 0  # no terms, so no lease is shown
            assert lease.paid == 0
            continue
        assert not [each for each in unproven if "Resume" in each]
        assert replace(told, **UNTOLD) == replace(lease, **UNTOLD)


class RetoldModes(Modes):
    """At the end of each run its leases are told again."""

    def teardown(self) -> None:
        if hasattr(self, "world"):
            super().teardown()
            check_leases(self.world.facts)


class RetoldEscrow(EscrowMarket):
    """The same where money lies in channels, comes late and is taken back."""

    def teardown(self) -> None:
        if hasattr(self, "world"):
            super().teardown()
            check_leases(self.world.facts)


FEW = settings(
    max_examples=20,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes
)
TestRetoldModes = RetoldModes.TestCase
TestRetoldModes.settings = FEW
TestRetoldEscrow = RetoldEscrow.TestCase
TestRetoldEscrow.settings = FEW
