"""What happens to a job, told to whoever looks on: plain values, in order."""

from msgspec import Struct

from sublet.base.ids import Address, Digest


class Event(Struct, frozen=True, kw_only=True):
    """Something happened; ``at_ms`` since the epoch."""

    at_ms: int
    rank: int | None = None  # to which member of a gang; None: the job is no gang


class Waiting(Event, frozen=True, kw_only=True):
    """The market has nothing that fits; it is asked again."""

    message: str


class Matched(Event, frozen=True, kw_only=True):
    """A lease was granted."""

    lease_id: Digest
    provider: Address
    machine: str
    price_hour: int  # micro-USD
    attempt: int  # 1 for the first


class Uploading(Event, frozen=True, kw_only=True):
    """Inputs are on their way."""

    bytes: int


class Preparing(Event, frozen=True, kw_only=True):
    """The provider told what it is doing."""

    text: str


class Running(Event, frozen=True, kw_only=True):
    """The job's own program runs."""


class Wrote(Event, frozen=True, kw_only=True):
    """The program wrote to a stream."""

    stream: str  # "stdout" or "stderr"
    data: bytes


class Secured(Event, frozen=True, kw_only=True):
    """A checkpoint is stored here; a failure costs nothing before it."""

    ran_ms: int


class Unkept(Event, frozen=True, kw_only=True):
    """This machine could not keep something; the job goes on."""

    message: str


class Notified(Event, frozen=True, kw_only=True):
    """The owner wants the machine back."""

    stops_in_s: int


class Disconnected(Event, frozen=True, kw_only=True):
    """The provider is not reached just now; the job may go on over there."""

    message: str


class Left(Event, frozen=True, kw_only=True):
    """This provider is given up, the next one is looked for."""

    provider: Address
    outcome: str
    note: str


class Collecting(Event, frozen=True, kw_only=True):
    """Outputs are fetched."""

    files: int
    bytes: int


class Missing(Event, frozen=True, kw_only=True):
    """An output that was asked for was never made."""

    path: str


class Erased(Event, frozen=True, kw_only=True):
    """The provider stated what became of the data."""

    claim: str  # in the words of the standard, and how far it can be believed
    path: str  # where the signed statement lies


class MarketLied(Event, frozen=True, kw_only=True):
    """The market contradicts its own signature or word; the job itself is not wrong."""

    code: str  # log_forked, log_truncated, log_forged, log_withheld
    message: str
    evidence: str  # path of a file for ``sublet audit split``; "" where there is none


AnyEvent = (
    Waiting
    | Matched
    | Uploading
    | Preparing
    | Running
    | Wrote
    | Secured
    | Unkept
    | Notified
    | Disconnected
    | Left
    | Collecting
    | Missing
    | Erased
    | MarketLied
)
