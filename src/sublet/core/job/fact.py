"""What a job is told: facts, in the past tense, each with the tenant's clock.

``at_ms`` is milliseconds since the epoch by a clock that never goes back. Facts that
concern one attempt name its lease; a fact of an attempt that is over changes nothing
but what was paid for it. Through which door a fact comes is said per group.
"""

from msgspec import Struct

from sublet.base.ids import Address, Digest
from sublet.core.egress import EgressTable


class Fact(Struct, frozen=True, kw_only=True):
    """Something that happened to the job."""

    at_ms: int


class LeaseFact(Fact, frozen=True, kw_only=True):
    """Something that happened to one attempt of the job."""

    lease_id: Digest


# ---- the person ---------------------------------------------------------------------


class Submitted(Fact, frozen=True, kw_only=True):
    """The job was asked for."""


class StopAsked(Fact, frozen=True, kw_only=True):
    """Its owner does not want it any more."""


class Recalled(LeaseFact, frozen=True, kw_only=True):
    """Another member of its gang has to begin again, and this one with it."""


# ---- the market ---------------------------------------------------------------------


class NoMatch(Fact, frozen=True, kw_only=True):
    """No offer fits now; ``detail`` says how many each requirement excluded."""

    message: str
    detail: dict[str, str | int]


class SupplyDue(Fact, frozen=True, kw_only=True):
    """The pause before asking the market again is over."""


class OrderRefused(Fact, frozen=True, kw_only=True):
    """The order cannot be granted as it stands, or the market cannot be reached."""

    code: str
    message: str
    exit_code: int  # what the command line ends with


class LeaseGranted(LeaseFact, frozen=True, kw_only=True):
    """The market matched the order."""

    provider: Address
    machine: str
    price_hour: int  # micro-USD an hour for the slice
    hold: int  # micro-USD set aside
    duration_s: int  # the longest that it may run


class LeaseSettled(LeaseFact, frozen=True, kw_only=True):
    """The book closed the lease; what was paid is final."""

    reason: str
    is_provider_fault: bool
    ran_ms: int
    paid: int  # micro-USD


# ---- the provider, over the job channel ---------------------------------------------


class ChannelOpened(LeaseFact, frozen=True, kw_only=True):
    """A job channel to the provider stands."""


class ChannelBroken(LeaseFact, frozen=True, kw_only=True):
    """The channel could not be opened, or broke; the job may go on over there."""

    message: str


class ProgramStarted(LeaseFact, frozen=True, kw_only=True):
    """The job's own program runs: from here on seconds may be billed."""


class UsageClaimed(LeaseFact, frozen=True, kw_only=True):
    """The provider reported usage (its signature holds) and asks for a voucher."""

    ran_ms: int
    owed: int  # micro-USD for this lease
    channel_total: int  # micro-USD that the next voucher has to say at least


class CheckpointStored(LeaseFact, frozen=True, kw_only=True):
    """A checkpoint was fetched, checked and is durable here."""

    number: int
    ran_ms: int
    tree_id: Digest


class NoticeGiven(LeaseFact, frozen=True, kw_only=True):
    """The owner wants the machine back."""

    stops_in_s: int


class ReceiptShown(LeaseFact, frozen=True, kw_only=True):
    """The program is over; the receipt's signature holds."""

    ran_ms: int
    exit_code: int
    reason: str
    owed: int
    channel_total: int
    note: str = ""  # the last thing that the provider told about its work
    egress: EgressTable | None = None  # whom the job reached, as the receipt hashed it


class ReceiptOverdue(LeaseFact, frozen=True, kw_only=True):
    """The lease is settled, and the provider did not say how it ended."""


class OutputsStored(LeaseFact, frozen=True, kw_only=True):
    """Every output file was fetched and is what the receipt hashed.

    Or this machine cannot take them: the provider did its part, and is paid.
    """


class PeerMisbehaved(LeaseFact, frozen=True, kw_only=True):
    """The provider broke the protocol: bad signature, other files, nonsense."""

    code: str
    message: str
