"""A job as its tenant knows it: attempts, checkpoint, phase. Plain values.

The attempts are the timeline: who ran which seconds, who failed, what was billed.
"""

from enum import StrEnum

from msgspec import Struct

from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.core.egress import EgressTable

RETRIES = 3  # attempts after the first, where the caller names no number
WAIT_MS = 30_000  # how long a job waits for supply, where the caller says nothing

# Why a receipt may say that a program is over, when that was the program's own doing.
OWN_REASONS = frozenset({"exited", "out_of_memory", "disk_full"})

# Why an attempt of a gang's member ends that is begun again because of another member.
RECALLED = "recalled"


class JobPhase(StrEnum):
    """Where a job stands."""

    SEEKING = "seeking"  # asks the market for a lease
    REACHING = "reaching"  # leased; dials, delivers, waits for the program to start
    RUNNING = "running"  # the program runs, as far as is known
    COLLECTING = "collecting"  # the program is over; outputs are fetched and checked
    STOPPING = "stopping"  # its owner asked to stop, or recalled it; its lease closes
    FINISHED = "finished"  # nothing moves any more


class JobLimits(Struct, frozen=True):
    """How stubborn a job is."""

    retries: int = RETRIES  # attempts after the first
    retries_own: bool = False  # also when the program itself failed
    wait_ms: int = WAIT_MS  # for supply, each time that it seeks
    gives_way: bool = False  # ordered as spot: to be displaced is no failed attempt


class Attempt(Struct, frozen=True):
    """One lease of the job. Times in ms since the epoch, money in micro-USD."""

    lease_id: Digest
    provider: Address
    machine: str
    price_hour: int
    hold: int
    duration_s: int
    granted_at_ms: int
    since_ms: int  # the program cannot have started before this instant
    started_at_ms: int = 0  # 0: never
    ended_at_ms: int = 0
    ran_ms: int = 0  # by the last claim that was accepted
    secured_ms: int = 0  # up to the last checkpoint that is stored here
    authorized: int = 0  # what vouchers were signed for
    claimed: int = 0  # owed by the receipt; signed for when the outputs are here
    channel_total: int = 0  # what the voucher for it has to say at least
    paid: int = -1  # what the book settled; -1: not known yet
    exit_code: int = 0
    outcome: str = ""  # why it ended; "" while it goes on
    notice_s: int = 0  # the owner wants the machine back after so long
    note: str = ""  # the last thing that the provider told about its work
    breaks: int = 0  # times that the channel broke or could not be opened
    redials: int = 0  # since the channel last stood
    broken_at_ms: int = 0  # since when there has been no channel; 0: it stands
    egress: EgressTable | None = None  # whom it reached; None: it had no network


class Job(Struct, frozen=True):
    """The whole state of one job."""

    limits: JobLimits = JobLimits()
    phase: JobPhase = JobPhase.SEEKING
    attempts: tuple[Attempt, ...] = ()
    avoided: tuple[Address, ...] = ()
    checkpoint: Digest = NO_DIGEST  # tree id of the last one that is stored
    seeking_since_ms: int = 0
    asked: int = 0  # times that the market had no match, since it seeks
    is_waiting: bool = False  # between two questions to the market
    is_stopped: bool = False  # its owner asked to stop
    exit_code: int = 0
    message: str = ""

    @property
    def attempt(self) -> Attempt:
        """The attempt that goes on, or the last one; there must be one."""
        return self.attempts[-1]

    @property
    def is_recalled(self) -> bool:
        """Say whether its lease is being closed, and it is begun again then."""
        return self.phase is JobPhase.STOPPING and not self.is_stopped

    @property
    def cost(self) -> int:
        """Micro-USD: settled where that is known, else what vouchers were signed for."""
        return sum(
            attempt.authorized if attempt.paid < 0 else attempt.paid
            for attempt in self.attempts
        )

    @property
    def unpriced(self) -> list[Digest]:
        """The leases whose cost only the market knows: no receipt ended them."""
        return [
            attempt.lease_id
            for attempt in self.attempts
            if attempt.paid < 0 and attempt.outcome not in OWN_REASONS
        ]
