"""The port of detached jobs: what the nodes of one market keep of them, sealed.

A job is looked after by one node at a time: the one that holds its claim. Each claim
has a higher epoch than the one before, and what is written under an older one is
refused: a node that stood still for a while undoes nothing of what another did since.

Methods block. Times are by the one clock of whatever the nodes share.
"""

from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.service.ports import Blobs


class ClaimLost(Refused):
    """Another node looks after this job now, or nobody does; it goes on there."""

    code = "claim_lost"


class Standing(Struct, frozen=True):
    """How a job stands, as far as that can be said without opening anything."""

    tenant: Address
    id: str  # of the job, among this tenant's
    kept_at_s: int  # since when there is a plan
    started_at_s: int = 0  # 0: not yet; likewise below
    stopped_at_s: int = 0  # its tenant does not want it any more
    ended_at_s: int = 0
    is_held: bool = False  # somebody's claim has not run out


class JobBlobs(Blobs, Protocol):
    """The sealed chunks of one job."""

    def drop(self, key: Digest) -> None:
        """Forget a chunk; one that is not here is forgotten already."""
        ...

    def keys(self) -> Iterator[Digest]:
        """Give the keys of all chunks, in no order."""
        ...


class JobVault(Protocol):
    """The place of one detached job. All methods raise ``Unavailable``."""

    tenant: Address
    id: str

    @property
    def blobs(self) -> JobBlobs:
        """Where its sealed chunks are."""
        ...

    def stand(self) -> Standing | None:
        """Say how the job stands, or None where there is no plan."""
        ...

    def begin(self, plan: bytes) -> bytes:
        """Keep the plan, unless there is one; give the one that stands."""
        ...

    def read_plan(self) -> bytes | None:
        """Give the plan, or None where there is none."""
        ...

    def start(self) -> None:
        """Note that all is there; twice is harmless."""
        ...

    def stop(self) -> None:
        """Note that its tenant wants it stopped; twice is harmless."""
        ...

    def end(self, *, epoch: int) -> None:
        """Note that it is over, all of it written; nobody claims it any more.

        Raises:
            ClaimLost: there is a later claim.
        """
        ...

    def claim(self, holder: str, *, span_ms: int) -> int | None:
        """Take the job on for so long; give the epoch, or None where it is held.

        One that is over, or of which there is no plan, nobody can claim.

        Args:
            holder: who claims; a name that no other process has.
            span_ms: until the claim runs out, unless it is renewed.
        """
        ...

    def release(self, *, epoch: int) -> None:
        """Give a claim back; where there is a later one, nothing happens."""
        ...

    def read(self, name: str) -> bytes | None:
        """Give a record, or None where it was never written."""
        ...

    def write(self, name: str, content: bytes, *, epoch: int) -> None:
        """Keep a record in place of the old one, whole and durable.

        Args:
            name: lowercase letters, digits and ``-``.
            content: any bytes.
            epoch: of the claim under which it is written.

        Raises:
            ClaimLost: there is a later claim; the old record stays.
        """
        ...

    def read_stream(
        self, lease: Digest, stream: str, *, offset: int, limit: int
    ) -> bytes:
        """Give a piece of a stream; nothing where there is none yet."""
        ...

    def append_stream(
        self, lease: Digest, stream: str, content: bytes, *, offset: int, epoch: int
    ) -> None:
        """Add to a stream what follows its first ``offset`` bytes.

        It is written soon, not at once: what a power cut takes can be fetched again.

        Raises:
            ClaimLost: there is a later claim.
        """
        ...

    def drop(self) -> None:
        """Forget the job and all that is kept of it; twice is harmless."""
        ...


class Vault(Protocol):
    """All detached jobs of one market, as its nodes keep them."""

    def find(self, tenant: Address, job: str) -> JobVault:
        """Give the place of a job, whether there is one or not.

        Raises:
            Refused: this names no job.
        """
        ...

    def survey(self, tenant: Address | None = None) -> list[Standing]:
        """Say how all jobs stand, or a tenant's."""
        ...

    def renew(self, holder: str, *, span_ms: int) -> frozenset[tuple[Address, str]]:
        """Have all claims of a holder run for so long from now; name their jobs.

        A claim that ran out and that nobody else has taken since counts again.
        """
        ...

    def measure(self) -> int:
        """Count the bytes of all chunks and plans."""
        ...

    def close(self) -> None:
        """Release what it holds; calling it twice is harmless."""
        ...
