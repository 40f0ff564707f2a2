"""When a provider claims: what is due, what it costs, and who is taking money out.

A claim is worth it once a batch brings a hundred times its gas. A channel whose payer
has begun to withdraw is claimed at once, by the newest block, whatever the gas, unless
the gas costs more than the claim brings. Only what was deposited at a confirmed block
counts. Where nobody knows the price of gas, claims go on: they never wait for a price.

Pure, and without a clock: an unclaimed voucher is safe as long as nobody withdraws.
"""

from collections.abc import Sequence

from msgspec import Struct

from sublet.base.ids import Digest
from sublet.base.units import MicroUsd
from sublet.core.document import Channel
from sublet.core.escrow.state import ChannelState, Earned

WORTH = 100  # times its gas that a claim must bring, unless it is urgent
BATCH_MAX = 50  # vouchers; more save less than a hundredth, and 100 are the end
CLAIM_GAS = 36_000  # of a batch, whatever is in it
VOUCHER_GAS = 17_000  # of each voucher in it
SETTLE_GAS = 50_000
WORTH_UNPRICED = MicroUsd(1_000_000)  # what a claim must bring where gas has no price
_WEI_PER_ETHER = 10**18


class VoucherClaim(Struct, frozen=True):
    """One voucher, and how much of it is claimed; amounts in units of the token."""

    channel: Channel
    most: int  # what the voucher says, cumulative
    signature: bytes  # 65 bytes, of the channel's authorizer
    total: int  # claimed of it, cumulative


class Held(Struct, frozen=True):
    """A channel of which somebody holds a voucher."""

    id: Digest
    channel: Channel
    confirmed: ChannelState  # at a block that nobody takes back
    newest: ChannelState  # as far as the newest block shows
    most: int  # of the best voucher, cumulative
    signature: bytes
    under_way: int = 0  # claimed in all, once what was sent is mined

    @property
    def total(self) -> int:
        """What can be claimed in all: the deposit clamps the voucher."""
        return min(self.most, self.confirmed.balance, self.newest.balance)

    @property
    def due(self) -> int:
        """What a claim would bring now."""
        claimed = max(self.confirmed.claimed, self.newest.claimed, self.under_way)
        return max(0, self.total - claimed)

    @property
    def is_urgent(self) -> bool:
        """Its payer is taking money out."""
        return bool(self.newest.withdrawing or self.confirmed.withdrawing)

    @property
    def lost(self) -> int:
        """What the voucher says, and the channel does not hold any more."""
        return max(0, self.most - self.newest.balance)


class GasPrice(Struct, frozen=True):
    """What gas costs just now."""

    fee_wei: int  # a unit
    ether_usd: MicroUsd

    def cost(self, gas: int) -> MicroUsd:
        """Price so much gas; rounds up.

        >>> GasPrice(fee_wei=10_000_000, ether_usd=MicroUsd(1_917_000_000)).cost(53_000)
        1017
        """
        wei = gas * self.fee_wei
        return MicroUsd(-(-wei * self.ether_usd // _WEI_PER_ETHER))


class Batch(Struct, frozen=True):
    """Vouchers to claim in one transaction now."""

    held: tuple[Held, ...]
    is_urgent: bool

    def fee_max_wei(self, gas_price: GasPrice | None) -> int:
        """Give what a unit of gas may cost: half of what an urgent claim brings."""
        if not self.is_urgent or gas_price is None or not gas_price.ether_usd:
            return 0
        gas = CLAIM_GAS + VOUCHER_GAS * len(self.held)
        due = sum(one.due for one in self.held if one.is_urgent)
        return due * _WEI_PER_ETHER // (2 * gas * gas_price.ether_usd)

    @property
    def claims(self) -> tuple[VoucherClaim, ...]:
        """In the contract's words."""
        return tuple(
            VoucherClaim(one.channel, one.most, one.signature, one.total)
            for one in self.held
        )


def plan_batches(
    held: Sequence[Held], *, gas_price: GasPrice | None
) -> tuple[Batch, ...]:
    """Say which vouchers to claim now, in which batches; urgent ones come first.

    Args:
        held: all channels of one receiver with a voucher.
        gas_price: None where nobody knows it just now.
    """
    each = gas_price.cost(VOUCHER_GAS) if gas_price else 0
    urgent = [one for one in held if one.is_urgent and one.due > each]
    # What pays for its own place in a batch; whether for the batch, is seen below.
    worth = [
        one for one in held if not one.is_urgent and one.due and one.due >= WORTH * each
    ]
    ordered = sorted(urgent, key=_by_due) + sorted(worth, key=_by_due)
    batches = []
    for at in range(0, len(ordered), BATCH_MAX):
        some = tuple(ordered[at : at + BATCH_MAX])
        is_urgent = some[0].is_urgent
        if is_urgent or _is_worth(some, gas_price):
            batches.append(Batch(some, is_urgent))
    return tuple(batches)


def is_settling_worth(earned: Earned, *, gas_price: GasPrice | None) -> bool:
    """Say whether to have the claimed money paid out; nobody can take it meanwhile."""
    due = earned.claimed - earned.settled
    if gas_price is None:
        return due >= WORTH_UNPRICED
    return due > 0 and due >= WORTH * gas_price.cost(SETTLE_GAS)


def _is_worth(held: Sequence[Held], gas_price: GasPrice | None) -> bool:
    due = sum(one.due for one in held)
    if gas_price is None:
        return due >= WORTH_UNPRICED
    return due >= WORTH * gas_price.cost(CLAIM_GAS + VOUCHER_GAS * len(held))


def _by_due(held: Held) -> tuple[int, Digest]:
    return -held.due, held.id
