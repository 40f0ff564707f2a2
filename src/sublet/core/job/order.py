"""What a job commands: orders, in the imperative. The core orders, the shell obeys.

Obeying an order twice is harmless: documents are deduplicated by their id, vouchers
are cumulative, a second dial replaces the first.
"""

from msgspec import Struct

from sublet.base.ids import Address, Digest


class Order(Struct, frozen=True, kw_only=True):
    """Something to be done for the job."""


class PlaceOrder(Order, frozen=True, kw_only=True):
    """Ask the market for a lease; answer LeaseGranted, NoMatch or OrderRefused."""

    avoid: tuple[Address, ...]
    resume: Digest  # tree id of the checkpoint to start from, or NO_DIGEST
    spent: int  # micro-USD that earlier attempts may cost; the cap shrinks by it


class AwaitSupply(Order, frozen=True, kw_only=True):
    """Wait, then say SupplyDue."""

    delay_ms: int


class Dial(Order, frozen=True, kw_only=True):
    """Open a job channel after ``delay_ms``; answer ChannelOpened or ChannelBroken."""

    lease_id: Digest
    delay_ms: int = 0


class WatchLease(Order, frozen=True, kw_only=True):
    """Follow the lease at the market; say LeaseSettled when it is closed."""

    lease_id: Digest


class AwaitReceipt(Order, frozen=True, kw_only=True):
    """Wait, then say ReceiptOverdue."""

    lease_id: Digest
    delay_ms: int


class Deliver(Order, frozen=True, kw_only=True):
    """Send the manifest, and then the chunks that the provider lacks."""

    lease_id: Digest


class SignVoucher(Order, frozen=True, kw_only=True):
    """Sign for this lease's ``owed`` on the channel, keep it, send it."""

    lease_id: Digest
    owed: int
    channel_total: int | None  # None: nobody asked, the tenant says what it owes


class SignKept(Order, frozen=True, kw_only=True):
    """Tell market and provider that the checkpoint is safe here, and vouch for it."""

    lease_id: Digest
    number: int
    ran_ms: int
    owed: int  # micro-USD up to there
    tree_id: Digest


class FetchOutputs(Order, frozen=True, kw_only=True):
    """Fetch and check what the job left; answer OutputsStored or PeerMisbehaved."""

    lease_id: Digest


class StopLease(Order, frozen=True, kw_only=True):
    """Sign a Stop and send it to the market; answer LeaseSettled if it settled."""

    lease_id: Digest
    reason: str


class CloseChannel(Order, frozen=True, kw_only=True):
    """End the conversation with the provider: ``done``, or a trouble's code."""

    lease_id: Digest
    reason: str
    message: str = ""


class Finish(Order, frozen=True, kw_only=True):
    """The job is over."""

    exit_code: int
    message: str  # "" where the program itself said what there is to say
