"""A member of a gang that is begun again because of another member."""

from sublet.base.ids import NO_DIGEST
from sublet.core.job import fact, order
from sublet.core.job.job import again
from sublet.core.job.move import CANCELLED
from sublet.core.job.state import JobPhase
from tests.unit.core.job.test_job import PROVIDERS, TREE, Story, running

SEEKS_AGAIN = order.PlaceOrder(avoid=(), resume=NO_DIGEST, spent=1_000)


def recalled(**limits: int) -> Story:
    story = running(**limits)
    story.tell(fact.Recalled, after_ms=1_000)
    return story


def test_recalled_member_leaves_its_lease_and_pays() -> None:
    story = recalled()
    assert story.orders == (
        order.WatchLease(lease_id=story.lease),
        order.StopLease(lease_id=story.lease, reason=CANCELLED),
    )
    story.show_receipt(reason="stopped", exit_code=143)
    assert story.kinds() == [order.SignVoucher, order.CloseChannel, order.PlaceOrder]
    # Its owner did nothing wrong, and may be asked again.
    assert story.orders[-1] == SEEKS_AGAIN
    assert story.job.attempt.outcome == "recalled"


def test_recalled_before_it_ran_seeks_again() -> None:
    story = Story().grant()
    story.tell(fact.Recalled)
    story.tell(
        fact.LeaseSettled, reason=CANCELLED, is_provider_fault=False, ran_ms=0, paid=0
    )
    assert story.orders[-1] == order.PlaceOrder(avoid=(), resume=NO_DIGEST, spent=0)


def test_recalled_from_a_lost_machine_avoids_it() -> None:
    story = recalled()
    story.tell(
        fact.LeaseSettled,
        reason="provider_lost",
        is_provider_fault=True,
        ran_ms=0,
        paid=0,
    )
    assert story.job.avoided == (PROVIDERS[0],)


def test_stop_while_recalled_ends_it() -> None:
    story = recalled()
    story.tell(fact.StopAsked)
    story.show_receipt(reason="stopped", exit_code=143)
    assert (story.job.phase, story.job.exit_code) == (JobPhase.FINISHED, 130)


def test_recall_counts_as_an_attempt() -> None:
    story = recalled(retries=0)
    story.show_receipt(reason="stopped", exit_code=143)
    assert (story.job.phase, story.job.exit_code) == (JobPhase.FINISHED, 3)


def test_done_member_begins_again_from_its_checkpoint() -> None:
    story = running()
    story.tell(
        fact.CheckpointStored, after_ms=1_000, number=1, ran_ms=500, tree_id=TREE
    )
    story.show_receipt(after_ms=1_000)
    story.tell(fact.Recalled)  # too late: it is through
    assert story.job.phase is JobPhase.COLLECTING
    story.tell(fact.OutputsStored)
    assert story.job.phase is JobPhase.FINISHED
    job, orders = again(story.job, at_ms=story.at_ms)
    assert job.phase is JobPhase.SEEKING
    assert orders == (order.PlaceOrder(avoid=(), resume=TREE, spent=1_000),)
