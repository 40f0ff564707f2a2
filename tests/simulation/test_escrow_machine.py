"""The same market on the escrow rail: the chain may say anything, the book stays right.

Beside what anybody may say there: deposits, claims, withdrawals, forks that undo them,
and an operator who says what no contract allows.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from msgspec.structs import replace

from sublet.core.book.invariant import check_invariants
from sublet.core.document import Mirror
from sublet.core.ledger.ledger import ISSUED
from sublet.core.mirror import ESCROW
from tests.simulation.test_market_machine import Market
from tests.unit.core.book.world import OPERATOR, RULES, World, digest


class EscrowMarket(Market):
    """Money lies in channels."""

    def make_world(self) -> World:
        self.block = 0
        return _World(replace(RULES, rail=ESCROW))

    @initialize()
    def open(self) -> None:
        super().open()
        for key in self.world.book.channels:
            self.mirror(key, 3_000_000, 0, 0)

    def mirror(self, channel_id: str, balance: int, claimed: int, asked: int) -> None:
        self.block += 1
        world = self.world
        self.say(
            OPERATOR,
            Mirror(
                channel_id=channel_id,
                balance=balance,
                claimed=claimed,
                withdrawing=asked,
                block=self.block,
                block_hash=digest(self.block),
                signed_at_s=world.now_s,
                salt=self.salt,
            ),
        )

    @rule(data=st.data(), more=st.sampled_from([1, 5_000, 400_000, 9_000_000]))
    def deposit(self, data: st.DataObject, more: int) -> None:
        channel = data.draw(st.sampled_from(list(self.world.book.channels.values())))
        self.mirror(
            channel.id, channel.balance + more, channel.claimed, channel.withdrawing
        )

    @rule(data=st.data())
    def claim_on_chain(self, data: st.DataObject) -> None:
        """The provider claims what it was vouched for, as far as the deposit goes."""
        channel = data.draw(st.sampled_from(list(self.world.book.channels.values())))
        claimed = min(channel.balance, channel.vouched)
        self.mirror(channel.id, channel.balance, claimed, 0)

    @rule(
        left=st.sampled_from([0, 5, 2_000, 1_000_000]),
        back=st.sampled_from([0, 7, 3_000, 3_000_000]),
        is_paid_later=st.booleans(),
    )
    def sleep_on_it(self, left: int, back: int, *, is_paid_later: bool) -> None:
        """A provider does not claim, the payer takes back, and comes again."""
        self.live(span_s=9, end="exited")
        leases = list(self.world.book.leases.values())
        if not leases:
            return
        line = leases[-1].line
        channel = self.world.book.find_channel(line)
        if channel is None:
            return
        if not is_paid_later:
            self.pay(leases[-1])
        left = min(left, channel.balance)
        self.mirror(channel.id, left, min(left, channel.claimed), 0)
        if is_paid_later:
            self.pay(leases[-1])
        self.mirror(channel.id, left + back, min(left, channel.claimed), 0)

    @rule(data=st.data(), share=st.sampled_from([1, 2, 10]))
    def take_back(self, data: st.DataObject, share: int) -> None:
        """The payer asks for a part, and the delay passes, or does not."""
        channel = data.draw(st.sampled_from(list(self.world.book.channels.values())))
        asked = (channel.balance - channel.claimed) // share
        self.mirror(channel.id, channel.balance, channel.claimed, asked)
        if data.draw(st.booleans()):
            self.mirror(channel.id, channel.balance - asked, channel.claimed, 0)

    @rule(data=st.data(), numbers=st.tuples(*[st.integers(0, 300_000)] * 3))
    def fork(self, data: st.DataObject, numbers: tuple[int, int, int]) -> None:
        """The chain is suddenly another; or the operator lies."""
        channel = data.draw(st.sampled_from(list(self.world.book.channels.values())))
        self.mirror(channel.id, *numbers)

    @invariant()
    def book_is_right(self) -> None:
        if hasattr(self, "world"):
            check_invariants(self.world.book)
            book = self.world.book
            outside = book.ledger.find(ISSUED)
            on_chain = sum(channel.balance for channel in book.channels.values())
            assert outside.debits_posted - outside.credits_posted == on_chain


class _World(World):
    def add_credit(self, party: str = "", amount: int = 0) -> None:
        """Nobody issues credits here; deposits come by themselves."""


TestEscrowMarket = EscrowMarket.TestCase
TestEscrowMarket.settings = settings(
    max_examples=50, stateful_step_count=80, deadline=None, print_blob=True
)
