"""What an event makes of a channel, as somebody who follows the contract sees it.

Not here: fetching events (``service.escrow_follower``), the contract's own rules
(``core.escrow.step``); a test holds the two together.
"""

from msgspec.structs import replace

from sublet.core.escrow import event as ev
from sublet.core.escrow.state import ChannelState


def fold_event(state: ChannelState, event: ev.Event, *, at_s: int) -> ChannelState:
    """Give the channel after an event of it.

    Args:
        state: before.
        event: of this channel.
        at_s: its block's time.
    """
    match event:
        case ev.Deposited():
            return replace(state, balance=event.balance)
        case ev.Claimed():
            return replace(state, claimed=event.total)
        case ev.WithdrawInitiated():
            return replace(state, withdrawing=event.amount, initiated_at_s=at_s)
        case ev.WithdrawFinalized():
            return replace(
                state, balance=event.balance, withdrawing=0, initiated_at_s=0
            )
        case ev.Refunded():
            # What came back need not be withdrawn any more.
            left = max(0, state.withdrawing - event.amount)
            return replace(
                state,
                balance=event.balance,
                withdrawing=left,
                initiated_at_s=state.initiated_at_s if left else 0,
            )
        case _:
            return state
