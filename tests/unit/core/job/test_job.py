"""The life of a job as a table: each legal move, and its illegal twin."""

from typing import Any

import pytest
from msgspec import structs

from sublet.base.ids import NO_DIGEST
from sublet.core.job import fact, order
from sublet.core.job.job import STEPS, IllegalStep, start, step
from sublet.core.job.move import (
    CANCELLED,
    REDIAL_PAUSE_MS_MAX,
    SUPPLY_PAUSE_MS_MAX,
    UNREACHABLE_MS_MAX,
)
from sublet.core.job.state import Job, JobLimits, JobPhase
from sublet.core.lease.phase import REVOKED

T0 = 1_000_000_000
LEASES = tuple("0x" + f"{number:064x}" for number in range(1, 9))
PROVIDERS = tuple("0x" + f"{number:040x}" for number in range(1, 9))
TREE = "0x" + "ab" * 32
HOUR = 3_600_000  # micro-USD an hour: one a millisecond


class Story:
    """A job, told fact by fact; ``orders`` are those of the last one."""

    def __init__(self, **limits: Any) -> None:
        self.at_ms = T0
        self.lease = ""
        self.job, self.orders = start(JobLimits(**limits), at_ms=T0)

    def tell(self, kind: type[fact.Fact], *, after_ms: int = 0, **values: Any) -> Job:
        self.at_ms += after_ms
        if issubclass(kind, fact.LeaseFact):
            values.setdefault("lease_id", self.lease)
        self.job, self.orders = step(self.job, kind(at_ms=self.at_ms, **values))
        return self.job

    def grant(self, number: int = 0) -> "Story":
        self.lease = LEASES[number]
        self.tell(
            fact.LeaseGranted,
            provider=PROVIDERS[number],
            machine="box",
            price_hour=HOUR,
            hold=100_000,
            duration_s=100,
        )
        return self

    def open(self) -> "Story":
        self.tell(fact.ChannelOpened)
        return self

    def run(self) -> "Story":
        self.tell(fact.ProgramStarted)
        return self

    def show_receipt(self, *, after_ms: int = 0, **values: Any) -> "Story":
        said = {"ran_ms": 1_000, "exit_code": 0, "reason": "exited", "owed": 1_000}
        said |= {"channel_total": 1_000} | values
        self.tell(fact.ReceiptShown, after_ms=after_ms, **said)
        return self

    def kinds(self) -> list[type[order.Order]]:
        return [type(one) for one in self.orders]


def running(number: int = 0, **limits: Any) -> Story:
    return Story(**limits).grant(number).open().run()


def test_begins_by_asking_the_market() -> None:
    story = Story()
    assert story.orders == (order.PlaceOrder(avoid=(), resume=NO_DIGEST, spent=0),)
    assert story.job.phase is JobPhase.SEEKING


def test_lease_is_dialled_and_watched() -> None:
    story = Story().grant()
    assert story.kinds() == [order.Dial, order.WatchLease]
    assert story.open().kinds() == [order.Deliver]
    assert story.run().job.phase is JobPhase.RUNNING


def test_pays_only_when_outputs_are_here() -> None:
    story = running().show_receipt(after_ms=1_000)
    assert story.kinds() == [order.FetchOutputs]
    assert story.job.phase is JobPhase.COLLECTING
    story.tell(fact.OutputsStored)
    assert story.kinds() == [order.SignVoucher, order.CloseChannel, order.Finish]
    assert story.orders[0] == order.SignVoucher(
        lease_id=LEASES[0], owed=1_000, channel_total=1_000
    )
    assert (story.job.exit_code, story.job.cost) == (0, 1_000)


def test_signs_nothing_where_nothing_is_due() -> None:
    story = running().show_receipt(ran_ms=0, owed=0, channel_total=0)
    story.tell(fact.OutputsStored)
    assert story.kinds() == [order.CloseChannel, order.Finish]


ENDINGS = [
    # the receipt: the exit code of the job, and whether it is tried again
    ({"exit_code": 0}, 0, False),
    ({"exit_code": 7}, 7, False),
    ({"exit_code": 137, "reason": "out_of_memory"}, 137, False),
    ({"exit_code": 1, "reason": "disk_full"}, 1, False),
    ({"exit_code": 143, "reason": "timeout"}, 124, False),
    ({"exit_code": 143, "reason": "stopped"}, 130, False),
    ({"exit_code": 143, "reason": "cancelled"}, 130, False),
    ({"exit_code": 143, "reason": "unpaid"}, 0, True),
]


@pytest.mark.parametrize(("said", "exit_code", "is_retried"), ENDINGS)
def test_receipt_decides_how_it_ends(
    said: dict[str, Any], exit_code: int, is_retried: bool
) -> None:
    story = running().show_receipt(after_ms=1_000, **said)
    story.tell(fact.OutputsStored)
    assert (order.PlaceOrder in story.kinds()) is is_retried
    assert story.job.exit_code == exit_code


@pytest.mark.parametrize("reason", ["given_back", "failed"])
def test_lost_seconds_are_not_billed(reason: str) -> None:
    story = running()
    story.tell(
        fact.CheckpointStored, after_ms=2_000, number=1, ran_ms=1_500, tree_id=TREE
    )
    [kept] = story.orders
    assert isinstance(kept, order.SignKept)
    assert kept.owed == HOUR * 1_500 // 3_600_000
    story.show_receipt(
        after_ms=1_000, ran_ms=3_000, reason=reason, owed=1_500, channel_total=1_500
    )
    assert story.kinds() == [order.SignVoucher, order.CloseChannel, order.PlaceOrder]
    again = story.orders[2]
    assert isinstance(again, order.PlaceOrder)
    avoid = PROVIDERS[:1] if reason == "failed" else ()
    assert (again.resume, again.avoid, again.spent) == (TREE, avoid, 1_500)


@pytest.mark.parametrize("gives_way", [True, False])
def test_giving_way_is_no_attempt_of_a_spot_job(gives_way: bool) -> None:
    """Displaced as often as it may be; of machines that fail, it takes one more."""
    story = Story(retries=1, gives_way=gives_way)
    for number in range(3):
        story.grant(number).open().run()
        story.show_receipt(
            after_ms=1_000, ran_ms=1_000, reason="given_back", owed=0, channel_total=0
        )
        assert (order.PlaceOrder in story.kinds()) is (gives_way or number == 0)
        if not gives_way and number == 1:
            return
    for number in (3, 4):
        story.grant(number).open().run()
        story.show_receipt(
            after_ms=1_000, ran_ms=1_000, reason="failed", owed=0, channel_total=0
        )
    assert story.job.phase is JobPhase.FINISHED


def test_lost_seconds_cannot_be_claimed() -> None:
    story = running().show_receipt(
        after_ms=3_000, ran_ms=3_000, reason="given_back", owed=3_000
    )
    assert story.kinds() == [order.CloseChannel, order.StopLease, order.PlaceOrder]
    assert story.job.attempts[0].outcome == "owed_overstated"


def test_own_failure_is_retried_where_asked() -> None:
    story = running(retries=1, retries_own=True)
    story.show_receipt(after_ms=1_000, exit_code=1).tell(fact.OutputsStored)
    assert order.PlaceOrder in story.kinds()
    assert story.job.avoided == ()  # the machine did nothing wrong
    story.grant(1).open().run()
    story.show_receipt(after_ms=1_000, exit_code=1).tell(fact.OutputsStored)
    assert (story.job.phase, story.job.exit_code) == (JobPhase.FINISHED, 1)


def test_lost_provider_is_avoided_and_bounded() -> None:
    story = Story(retries=1)
    for number in range(2):
        story.grant(number).open().run()
        story.tell(
            fact.LeaseSettled,
            after_ms=5_000,
            reason="provider_lost",
            is_provider_fault=True,
            ran_ms=4_000,
            paid=0,
        )
    assert story.job.phase is JobPhase.FINISHED
    assert story.job.exit_code == 3
    assert "provider_lost" in story.job.message
    assert [one.paid for one in story.job.attempts] == [0, 0]


# ---- supply ---------------------------------------------------------------------------


def test_waits_for_supply_within_limits() -> None:
    story = Story(wait_ms=10_000)
    pauses = []
    while story.job.phase is JobPhase.SEEKING:
        story.tell(fact.NoMatch, message="nothing", detail={})
        if isinstance(story.orders[0], order.AwaitSupply):
            pauses.append(story.orders[0].delay_ms)
            story.tell(fact.SupplyDue, after_ms=pauses[-1])
            assert story.kinds() == [order.PlaceOrder]
    assert sum(pauses) == 10_000
    assert pauses[0] < pauses[1] <= max(pauses) == SUPPLY_PAUSE_MS_MAX
    assert (story.job.exit_code, story.job.message) == (3, "nothing")


def test_refused_order_ends_the_job() -> None:
    story = Story()
    story.tell(fact.OrderRefused, code="insufficient_funds", message="no", exit_code=2)
    assert story.orders == (order.Finish(exit_code=2, message="no"),)


# ---- money ----------------------------------------------------------------------------


def test_readings_become_vouchers() -> None:
    story = running()
    story.tell(
        fact.UsageClaimed, after_ms=2_000, ran_ms=2_000, owed=2_000, channel_total=9_000
    )
    assert story.orders == (
        order.SignVoucher(lease_id=LEASES[0], owed=2_000, channel_total=9_000),
    )


CLAIMS = {
    # what a provider may not say one second after the start
    "claims_too_much": {"ran_ms": 3_001, "owed": 3_001},
    "owed_overstated": {"ran_ms": 1_000, "owed": 1_001},
}


@pytest.mark.parametrize("code", CLAIMS)
def test_false_reading_is_not_signed(code: str) -> None:
    story = running()
    story.tell(fact.UsageClaimed, after_ms=1_000, channel_total=1, **CLAIMS[code])
    assert story.kinds() == [order.CloseChannel, order.StopLease, order.PlaceOrder]
    assert story.job.attempts[0].outcome == code
    assert story.job.attempts[0].authorized == 0


def test_meter_never_goes_back() -> None:
    story = running()
    story.tell(
        fact.UsageClaimed, after_ms=2_000, ran_ms=2_000, owed=2_000, channel_total=0
    )
    story.tell(fact.UsageClaimed, ran_ms=1_999, owed=1_999, channel_total=0)
    assert story.job.attempts[0].outcome == "meter_went_back"


def test_checkpoint_that_arrives_after_the_end_changes_nothing() -> None:
    story = running().show_receipt(after_ms=2_000, ran_ms=2_000)
    before = story.job
    story.tell(fact.CheckpointStored, number=1, ran_ms=1_500, tree_id=TREE)
    assert story.orders == ()
    assert story.job == before


def test_checkpoint_from_the_future_is_a_lie() -> None:
    story = running()
    story.tell(
        fact.CheckpointStored, after_ms=1_000, number=1, ran_ms=9_000, tree_id=TREE
    )
    assert story.job.attempts[0].outcome == "checkpoint_out_of_time"
    assert story.job.checkpoint == NO_DIGEST


def test_time_counts_from_delivery_after_a_break() -> None:
    story = Story().grant().open()
    story.tell(fact.ChannelBroken, after_ms=1_000, message="gone")
    story.open().tell(fact.ProgramStarted, after_ms=4_000)
    # It may have started while nobody could hear it.
    story.tell(fact.UsageClaimed, ran_ms=4_500, owed=4_500, channel_total=0)
    assert story.kinds() == [order.SignVoucher]


# ---- channels -------------------------------------------------------------------------


def test_broken_channel_is_dialled_again() -> None:
    story = running()
    pauses = []
    for _ in range(9):
        story.tell(fact.ChannelBroken, after_ms=10, message="gone")
        [dial] = story.orders
        assert isinstance(dial, order.Dial)
        pauses.append(dial.delay_ms)
    assert pauses == sorted(pauses)
    assert pauses[-1] == REDIAL_PAUSE_MS_MAX
    assert story.open().kinds() == [order.Deliver]
    assert story.job.attempt.redials == 0


def test_unreachable_provider_is_given_up() -> None:
    story = running()
    story.tell(fact.ChannelBroken, message="gone")
    story.tell(fact.ChannelBroken, after_ms=UNREACHABLE_MS_MAX + 1, message="gone")
    assert order.PlaceOrder in story.kinds()
    assert story.job.attempts[0].outcome == "unreachable"


SETTLED = {"ran_ms": 0, "paid": 0, "is_provider_fault": False}


def test_receipt_may_come_behind_the_settlement() -> None:
    story = running()
    story.tell(fact.LeaseSettled, reason="exited", **SETTLED)
    assert story.kinds() == [order.AwaitReceipt]
    story.show_receipt(ran_ms=0, owed=0).tell(fact.OutputsStored)
    assert story.job.exit_code == 0


def test_settled_job_without_a_word_is_lost() -> None:
    story = running()
    story.tell(fact.LeaseSettled, reason="exited", **SETTLED)
    story.tell(fact.ReceiptOverdue, after_ms=10_000)
    assert story.job.attempts[0].outcome == "outputs_lost"
    assert story.kinds() == [order.PlaceOrder]


def test_outputs_lost_after_settlement_are_made_again() -> None:
    story = running().show_receipt(after_ms=1_000)
    story.tell(fact.LeaseSettled, reason="not_paid", **SETTLED)
    assert story.orders == ()  # the files may still come
    story.tell(fact.ChannelBroken, message="gone")
    assert story.job.attempts[0].outcome == "outputs_lost"


# ---- stopping -------------------------------------------------------------------------


def test_stop_closes_the_lease_and_pays() -> None:
    story = running()
    story.tell(fact.StopAsked)
    assert story.kinds() == [order.WatchLease, order.StopLease]
    story.show_receipt(after_ms=1_000, reason="stopped", exit_code=137)
    assert story.kinds() == [order.SignVoucher, order.CloseChannel, order.Finish]
    assert story.job.exit_code == 130


def test_stop_before_the_start_costs_nothing() -> None:
    story = Story().grant()
    story.tell(fact.StopAsked)
    story.tell(fact.LeaseSettled, reason=CANCELLED, **SETTLED)
    assert (story.job.phase, story.job.exit_code) == (JobPhase.FINISHED, 130)
    assert story.job.cost == 0


def test_stop_while_waiting_ends_at_once() -> None:
    story = Story()
    story.tell(fact.NoMatch, message="nothing", detail={})
    story.tell(fact.StopAsked)
    assert story.kinds() == [order.Finish]


def test_stop_while_ordering_stops_what_is_granted() -> None:
    story = Story()
    story.tell(fact.StopAsked)
    assert story.orders == ()
    story.grant()
    assert order.StopLease in story.kinds()


def test_stop_by_another_command_is_a_stop() -> None:
    story = Story().grant().open()
    story.tell(fact.LeaseSettled, reason=CANCELLED, **SETTLED)
    assert story.job.exit_code == 130


REVOKED_WORDS = "stopped: its delegation was revoked"


def test_revoked_lease_is_a_stop() -> None:
    story = Story().grant().open()
    story.tell(fact.LeaseSettled, reason=REVOKED, **SETTLED)
    assert (story.job.exit_code, story.job.message) == (130, REVOKED_WORDS)


def test_revoked_run_pays_and_seeks_no_other() -> None:
    story = running()
    story.show_receipt(after_ms=1_000, reason=REVOKED, exit_code=137)
    story.tell(fact.OutputsStored)
    assert order.SignVoucher in story.kinds()
    assert order.PlaceOrder not in story.kinds()
    assert (story.job.exit_code, story.job.message) == (130, REVOKED_WORDS)


def test_revoked_delegation_ends_the_search() -> None:
    story = Story()
    story.tell(fact.OrderRefused, code="delegation_revoked", message="ask", exit_code=2)
    assert (story.job.exit_code, story.job.message) == (130, REVOKED_WORDS)


def test_owns_up_to_what_the_book_took_before_the_receipt() -> None:
    """Another lease's voucher covered it; that one is short by as much now."""
    story = running()
    story.tell(
        fact.UsageClaimed, after_ms=1_000, ran_ms=1_000, owed=1_000, channel_total=1_000
    )
    settled = {**SETTLED, "paid": 3_000, "ran_ms": 3_000}
    story.tell(fact.LeaseSettled, after_ms=2_000, reason="exited", **settled)
    story.show_receipt(ran_ms=3_000, owed=3_000).tell(fact.OutputsStored)
    assert story.orders[0] == order.SignVoucher(
        lease_id=LEASES[0], owed=3_000, channel_total=None
    )


# ---- the table ------------------------------------------------------------------------


def test_late_facts_change_only_the_cost() -> None:
    story = running()
    story.tell(
        fact.LeaseSettled,
        reason="silent",
        is_provider_fault=True,
        ran_ms=0,
        paid=0,
    )
    before = story.grant(1).job
    for said in (
        fact.ChannelBroken(at_ms=T0, lease_id=LEASES[0], message="late"),
        fact.ProgramStarted(at_ms=T0, lease_id=LEASES[0]),
    ):
        assert step(before, said) == (before, ())
    late = fact.LeaseSettled(
        at_ms=T0,
        lease_id=LEASES[0],
        reason="x",
        is_provider_fault=True,
        ran_ms=5,
        paid=55,
    )
    after, orders = step(before, late)
    assert orders == ()
    assert after.attempts[0].paid == 55
    assert after.attempts[1:] == before.attempts[1:]


ILLEGAL = [
    (JobPhase.SEEKING, fact.SupplyDue, True),
    (JobPhase.RUNNING, fact.SupplyDue, False),
    (JobPhase.RUNNING, fact.NoMatch, False),
    (JobPhase.COLLECTING, fact.UsageClaimed, False),
    (JobPhase.REACHING, fact.OutputsStored, False),
    (JobPhase.FINISHED, fact.NoMatch, False),
]


@pytest.mark.parametrize(("phase", "kind", "is_legal"), ILLEGAL)
def test_what_is_not_in_the_table_is_refused(
    phase: JobPhase, kind: type[fact.Fact], is_legal: bool
) -> None:
    assert (kind in STEPS[phase]) is is_legal
    if is_legal:
        return
    job = structs.replace(running().job, phase=phase)
    values: dict[str, Any] = {"at_ms": T0}
    if issubclass(kind, fact.LeaseFact):
        values["lease_id"] = LEASES[0]
    said = {
        fact.NoMatch: {"message": "", "detail": {}},
        fact.UsageClaimed: {"ran_ms": 0, "owed": 0, "channel_total": 0},
    }.get(kind, {})
    with pytest.raises(IllegalStep):
        step(job, kind(**values, **said))
