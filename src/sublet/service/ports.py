"""The ports: what services need from the world, as protocols.

Each has at least one real adapter (floor 4) and one verified fake (``tests/fakes``)
that pass the same suite (``tests/ports``). Adapters translate every foreign
exception into ``base.errors`` at their own door.
"""

import socket
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import PurePath
from typing import Protocol

from msgspec import Struct

from sublet.base.errors import Broken, Refused
from sublet.base.ids import Address, Digest
from sublet.core.document import Entry

# ---- the log ----------------------------------------------------------------------


class Row(Struct, frozen=True):
    """One entry as the log holds it."""

    index: int  # 0-based position in the total order
    id: Digest  # the document's id; unique
    body: bytes  # canonical bytes of the entry
    leaf: bytes  # RFC 9162 leaf hash of the body, 32 bytes


class Snapshot(Struct, frozen=True):
    """The book after ``size`` entries, so that a restart need not replay them."""

    size: int
    book: bytes
    book_hash: bytes  # SHA-256 of ``book``
    tree: bytes  # the Merkle frontier after ``size`` entries


class Ground(Struct, frozen=True):
    """What an append was decided on; the store looks whether it still holds."""

    size: int = 0  # entries that the caller has folded; 0: nothing is looked at
    leaf: bytes = b""  # of the last of them, 32 bytes
    at_s: int = 0  # the time that the new rows carry; the log's never goes back
    is_next: bool = False  # only if nobody has appended since
    is_resume: bool = False  # the word that ends a time in which no node was there
    silent: Address = ""  # only if no node has heard this provider ...
    silent_ms: int = 0  # ... for so long


ANY_GROUND = Ground()


class Placing(Struct, frozen=True):
    """Where the rows of one append stand."""

    size: int  # of the log before it: what stands from there on, this append put there
    indexes: list[int]  # of each row; below ``size`` where the log had it before


class Overtaken(Refused):
    """What this was decided on does not hold any more; look again, then decide."""

    code = "overtaken"


class Unattended(Refused):
    """No node took documents for a while; a Resume has to come first."""

    code = "unattended"


class LogForked(Broken):
    """The store has lost or changed entries that this node has folded; it must stop.

    Restore the newest copy of the log, or let the node start anew from what is there.
    """

    code = "log_forked"


class Log(Protocol):
    """An append-only, totally ordered table, durable before it answers.

    Methods block; services call them off the event loop. One writer per process;
    any number of readers. Where ``is_shared``, other processes append too.
    """

    is_shared: bool

    def append(
        self,
        rows: Sequence[tuple[Digest, bytes, bytes]],
        *,
        ground: Ground = ANY_GROUND,
    ) -> Placing:
        """Append (id, body, leaf) in one fsynced commit; say where each one stands.

        An id that the log already holds is not appended again: its old index comes
        back, whatever the ground. All or nothing. Without rows it is a look at the
        size, and nothing is written.

        Raises:
            Unavailable: the store did not say that it took the commit. Append again:
                what was taken all the same is recognised.
            Overtaken: the ground does not hold; nothing was appended.
            Unattended: a shared log wants a Resume first; nothing was appended.
            LogForked: the log does not go on from what the caller has folded.
        """
        ...

    def alone(self) -> AbstractContextManager[None]:
        """Keep all other writers out while the context lasts.

        What the same thread appends within it is durable once the context has ended.

        Raises:
            Unavailable: the store did not answer, or did not say that it took what
                was appended.
        """
        ...

    def wait_more(self, *, size: int, timeout_s: float) -> bool:
        """Wait until the log has more than ``size`` entries, at most so long.

        Called by one thread at a time.

        Raises:
            Unavailable: the store does not answer.
        """
        ...

    def read(self, *, first: int, limit: int) -> list[Row]:
        """Give up to ``limit`` rows from index ``first`` on, in order."""
        ...

    def find(self, id: Digest) -> int | None:  # noqa: A002
        """Give the index of the document with this id, or None."""
        ...

    def size(self) -> int:
        """Count the entries."""
        ...

    def put_checkpoint(self, *, size: int, note: bytes) -> None:
        """Keep the signed note for a tree of this size; the same again is harmless."""
        ...

    def find_checkpoint(self, *, size_max: int | None = None) -> bytes | None:
        """Give the newest signed note (of at most ``size_max`` entries), or None."""
        ...

    def read_checkpoints(self, *, first: int, limit: int) -> list[tuple[int, bytes]]:
        """Give (size, note) of sizes from ``first`` on, in order."""
        ...

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Keep this snapshot; older ones beyond the last two may go."""
        ...

    def find_snapshot(self, *, size_max: int | None = None) -> Snapshot | None:
        """Give the newest snapshot (of at most ``size_max`` entries), or None."""
        ...

    def put_settled(
        self, rows: Sequence[tuple[Digest, Address, Address, int, bytes]]
    ) -> None:
        """Keep settled leases (id, tenant, provider, settled_at_s, lease as JSON).

        A read model, not the truth: a replay makes it again. A later row of the same
        lease replaces the earlier one.
        """
        ...

    def read_settled(
        self, *, party: Address, before_s: int | None, limit: int
    ) -> list[bytes]:
        """Give a party's settled leases, newest first."""
        ...

    def find_settled(self, lease_id: Digest) -> bytes | None:
        """Give one settled lease, or None."""
        ...

    def close(self) -> None:
        """Release the store; calling it twice is harmless."""
        ...


class Presence(Protocol):
    """Who is there: nodes at work, and the providers that any of them has heard.

    Methods block. Times are by the one clock of whatever the nodes share.
    """

    def beat(self, heard: Collection[Address]) -> bool:
        """Say that this node is at work, and which providers it has just heard.

        False: no node was at work for a while, so what this one decides may be based
        on a silence that was its own; a Resume has to be appended first.

        Raises:
            Unavailable: the store does not answer.
        """
        ...

    def find_silent(
        self, providers: Collection[Address], *, silent_ms: int
    ) -> frozenset[Address]:
        """Give those that no node has heard for so long.

        Raises:
            Unavailable: the store does not answer.
        """
        ...


class Codec(Protocol):
    """Bytes of entries and documents, without services seeing how (``wire``)."""

    def read_entry(self, body: bytes) -> Entry:
        """Read a stored entry, trusting the id and signer written in it.

        Raises:
            PeerFault: the bytes are not a canonical entry.
        """
        ...

    def verify_entry(self, body: bytes, *, market: Digest) -> Entry:
        """Read a stored entry, computing id and signer again from the signature.

        Raises:
            PeerFault: not canonical, or id, signer or signature do not hold.
        """
        ...

    def write_entry(self, entry: Entry) -> bytes:
        """Write the canonical bytes of an entry."""
        ...

    def sign_note(self, *, size: int, root: bytes) -> bytes:
        """Sign a checkpoint of the log's tree as a C2SP note.

        Raises:
            Refused: this process does not hold the note key.
        """
        ...


# ---- the clock --------------------------------------------------------------------


class Clock(Protocol):
    """The one place where time comes in."""

    def now_s(self) -> int:
        """Seconds since the epoch, UTC; what is done to the machine's clock moves it not."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back; for durations only."""
        ...

    def set_anew(self) -> None:
        """Take the machine's time as it is now: others say that ours is wrong."""
        ...


# ---- the sandbox ------------------------------------------------------------------


class Probe(Struct, frozen=True):
    """What a sandbox adapter found on this machine."""

    is_ok: bool
    reason: str  # what works, or why not and what to do about it


class Bind(Struct, frozen=True):
    """A host path that the job sees at ``target``."""

    source: str
    target: str
    is_writable: bool = False


class SandboxSpec(Struct, frozen=True):
    """Everything that a sandboxed process is given; what is not here it has not."""

    argv: tuple[str, ...]
    env: Mapping[str, str]  # the whole environment
    directory: str  # working directory inside
    binds: tuple[Bind, ...]  # beside the read-only root
    uid: int  # host uid of the job, its own; ignored where not root
    memory_bytes: int
    cpus_milli: int
    processes_max: int
    tmp_bytes: int  # size of the private /tmp
    file_bytes_max: int  # largest file it may write (RLIMIT_FSIZE)
    disk_bytes: int  # what the watched folders may hold together
    watched: tuple[str, ...]  # host folders counted against disk_bytes
    gpu_uuids: tuple[str, ...] = ()
    # "none", or the unix socket of a proxy; its folder is bound, and holds nothing else
    network: str = "none"
    beside: str = ""  # state folder of a running sandbox whose network it shares
    root: str = ""  # an image's folder as the read-only root; "" for this host's system
    inside_uid: int = 1_000  # what the job is inside, where the sandbox lets it choose
    inside_gid: int = 1_000
    stdout: str = "/dev/null"  # host file, appended to
    stderr: str = "/dev/null"
    log_bytes_max: int = 1 << 30
    timeout_s: int = 0  # 0: none
    orphan_s: int = 120  # stop when nobody has touched the state folder for so long


class SandboxState(Struct, frozen=True):
    """What the warden of a sandbox last wrote down; survives the agent."""

    phase: str  # "starting", "running", "ended"
    pid: int  # of the warden
    started_at_s: int
    ran_ms: int  # monotonic, since the program was started
    cpu_ms: int
    memory_bytes_max: int
    exit_code: int  # 0 until ended; 128 + n for signal n
    reason: str  # "", exited, stopped, out_of_memory, timeout, disk_full, failed


class Sandbox(Protocol):
    """Runs a stranger's program so that it harms nobody.

    ``folder`` is a private state folder of the caller's choosing (one per process);
    with it a sandbox is found again after the agent was restarted.
    """

    name: str
    has_gpu: bool  # it can give a job GPUs

    def probe(self, *, gpu_uuids: Sequence[str] = ()) -> Probe:
        """Try it for real: start a process, reach for what is forbidden.

        It has to find what a job needs to use these GPUs, too.
        """
        ...

    async def start(self, spec: SandboxSpec, *, folder: PurePath) -> None:
        """Start the process under a warden of its own; return once it is spawned.

        Raises:
            Unavailable: the sandbox could not be set up; nothing is left behind.
        """
        ...

    def read_state(self, folder: PurePath) -> SandboxState:
        """Say how the process in ``folder`` is doing.

        Raises:
            Refused: nothing was ever started there.
        """
        ...

    async def wait_ended(self, folder: PurePath) -> SandboxState:
        """Wait until the process has ended and all of its kin are gone."""
        ...

    async def stop(self, folder: PurePath, *, grace_s: int) -> SandboxState:
        """Send SIGTERM, after ``grace_s`` kill everything; twice is harmless."""
        ...

    async def connect(self, folder: PurePath, *, port: int) -> socket.socket:
        """Connect to a port that something inside listens on, at its loopback.

        Never to a port of this machine, nor of another sandbox.

        Raises:
            Refused: nothing runs, or nothing listens there.
            Unavailable: this sandbox, or this machine, cannot forward ports.
        """
        ...


# ---- the machine ------------------------------------------------------------------


class Gpu(Struct, frozen=True):
    """One GPU as its driver describes it."""

    uuid: str
    model: str  # normalised: "h200", "rtx4090"
    memory_bytes: int
    power_limit_w: int
    index: int
    vendor: str = ""  # this and the rest as an offer says it; "" and 0 unknown
    interface: str = ""
    compute: int = 0
    driver: int = 0
    cuda: int = 0
    instances: tuple[str, ...] = ()  # UUIDs of its MIG instances


class Machine(Struct, frozen=True):
    """What a provider has to offer."""

    cpus_milli: int
    memory_bytes: int
    disk_bytes: int
    gpus: tuple[Gpu, ...]
    disk_class: str = ""  # "hdd", "ssd", "nvme"; "" unknown


class Devices(Protocol):
    """Finds what the machine has."""

    def find_machine(self, *, folder: PurePath) -> Machine:
        """Look at CPUs, memory, the disk under ``folder`` and GPUs."""
        ...


# ---- blobs ------------------------------------------------------------------------


class Blobs(Protocol):
    """A content-addressed store; keys are BLAKE3-256 of the content."""

    def has(self, key: Digest) -> bool:
        """Say whether the store holds this content."""
        ...

    def put(self, content: bytes) -> Digest:
        """Keep up to one chunk; durable when it returns.

        Raises:
            Unavailable: the disk is full or did not answer; nothing half-written stays.
        """
        ...

    def get(self, key: Digest) -> bytes:
        """Give the content, checked against its key.

        Raises:
            Refused: not here.
            Broken: it is here and damaged.
        """
        ...
