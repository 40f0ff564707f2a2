"""Whoever follows the events sees what the contract's model stores."""

import random

from msgspec.structs import replace

from sublet.core.document import Channel
from sublet.core.escrow import operation as op
from sublet.core.escrow.state import ChannelState, EscrowState
from sublet.core.escrow.step import EscrowRefused, step
from sublet.core.rail.following import fold_event

TOKEN, PAYER, PAYEE = ("0x" + letter * 40 for letter in "abc")
STEPS = 3_000


def channel(number: int) -> Channel:
    return Channel(
        payer=PAYER,
        payer_authorizer=PAYER,
        receiver=PAYEE,
        receiver_authorizer=PAYEE,
        token=TOKEN,
        withdraw_delay=900,
        salt=f"0x{number:064x}",
    )


def choose(dice: random.Random) -> op.Operation:
    number = dice.randrange(3)
    of, name, amount = channel(number), f"0x{number:064x}", dice.randrange(1, 50)
    return dice.choice(
        [
            op.Deposit(name, of, amount, PAYER),
            op.Claim(PAYEE, (op.Voucher(name, of, 10**6, dice.randrange(900), PAYER),)),
            op.Refund(name, of, amount, PAYEE),
            op.InitiateWithdraw(name, of, amount, PAYER),
            op.FinalizeWithdraw(name, of),
        ]
    )


def test_events_tell_the_whole_story() -> None:
    dice, at_s, done = random.Random(5), 1_000, 0
    state = step(
        EscrowState(frozenset((TOKEN,))), op.Mint(TOKEN, PAYER, 10**9), at_s=0
    ).state
    seen: dict[str, ChannelState] = {}
    for _ in range(STEPS):
        at_s += dice.randrange(400)
        try:
            outcome = step(state, choose(dice), at_s=at_s)
        except EscrowRefused:
            continue
        state, done = outcome.state, done + 1
        for event in outcome.events:
            name = event.channel_id
            seen[name] = fold_event(seen.get(name, ChannelState()), event, at_s=at_s)
        for name, told in seen.items():
            assert told == replace(state.channel(name), refund_nonce=0)
    assert done > STEPS // 3 and len(seen) == 3
    assert any(told.withdrawing for told in seen.values())
