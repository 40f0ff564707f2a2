"""What programs say to each other: HTTP bodies, control link, job channel.

Everything is JSON (``msgspec``, strict: unknown fields are refused by name). Plain
values only; who says what, and in which order, stands in ``docs/protocol.md``.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from sublet.base import limits
from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.core.book.attestation import AttestationRecord
from sublet.core.book.open_order import OpenOrder
from sublet.core.book.score_terms import Standing
from sublet.core.document import AnyDocument
from sublet.core.egress import EgressTable
from sublet.core.lease.phase import Lease
from sublet.core.member import Seconds
from sublet.wire.deposit import ChainTerms, Deposit

PROTOCOL_VERSION = 1


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every message."""


# ---- signed documents, as they travel and as the log holds them -------------------


class Signed(Message, frozen=True, gc=False):
    """A document and its 65-byte signature; what parties send."""

    v: int  # PROTOCOL_VERSION
    document: AnyDocument
    signature: Annotated[str, Meta(pattern=r"\A0x[0-9a-f]{130}\Z")]


class LogEntry(Message, frozen=True, gc=False):
    """What the log holds: a signed document, who said it, when it was heard."""

    v: int
    at_s: Seconds
    id: Digest
    signer: Address
    document: AnyDocument
    signature: Annotated[str, Meta(pattern=r"\A0x[0-9a-f]{130}\Z")]


# ---- HTTP: requests and answers ---------------------------------------------------


class Fault(Message, frozen=True):
    """Body of every answer that is not 2xx."""

    code: str
    message: str
    field: str = ""
    retry_after_s: int = 0
    detail: dict[str, str | int] = {}


class Submission(Message, frozen=True):
    """POST /v1/documents: up to 256 signed documents, appended in order."""

    documents: Annotated[
        tuple[Signed, ...], Meta(min_length=1, max_length=limits.BATCH_DOCUMENTS_MAX)
    ]


class Appended(Message, frozen=True):
    """What became of one document of a submission."""

    id: Digest
    index: int = -1  # position in the log; -1 where it was refused before
    at_s: int = 0
    lease: Lease | None = None  # the lease that it made or moved, as it is now
    fault: Fault | None = None  # refused: not in the log, or void in it
    order: OpenOrder | None = None  # that waits, or did: which it placed or moved


class Appendix(Message, frozen=True):
    """Answer to a Submission: one element per document, in order."""

    results: tuple[Appended, ...]


class MarketInfo(Message, frozen=True):
    """GET /v1/market."""

    id: Digest
    operator: Address
    market: AnyDocument  # the Market document
    size: int  # entries in the log
    now_s: int
    providers_up: int
    offers: int
    leases_open: int
    nodes: tuple[str, ...] = ()  # addresses of this market's nodes; () for this one
    version: int = 1  # of the rules that hold in this market
    version_max: int = 1  # that this node reads
    chain: ChainTerms | None = None  # on the escrow rail


class QuotedMachine(Message, frozen=True):
    """One member of a gang that was quoted."""

    offer_id: Digest
    provider: Address
    machine: str
    region: str
    price_hour: int  # micro-USD
    hold: int  # micro-USD
    winner: Standing  # each term of its score


class Quote(Message, frozen=True):
    """POST /v1/quote (body: an Order, unsigned): what it would get now.

    Of a gang, price and hold are those of all members, and the rest is of the first.
    """

    offer_id: Digest = NO_DIGEST
    provider: Address = "0x" + "0" * 40
    machine: str = ""
    region: str = ""
    price_hour: int = 0
    duration_s: int = 0
    hold: int = 0
    offers_matching: int = 0
    winner: Standing | None = None  # each term of its score
    runner_up: Standing | None = None
    members: tuple[QuotedMachine, ...] = ()  # of a gang, each by itself
    fault: Fault | None = None  # no match: why


class Account(Message, frozen=True):
    """GET /v1/account (signed): the caller's wallet, in micro-USD."""

    party: Address
    balance: int  # free to spend
    held: int  # set aside for running leases
    earned: int  # all that ever came in by settlement
    spent: int  # all that ever went out by settlement


class Leases(Message, frozen=True):
    """GET /v1/leases (signed): the caller's, as tenant or provider."""

    leases: tuple[Lease, ...]


class Orders(Message, frozen=True):
    """GET /v1/orders (signed): the caller's that wait, and those that lately did."""

    orders: tuple[OpenOrder, ...]


class Attestations(Message, frozen=True):
    """GET /v1/attestations: what auditors vouch for, and what has not expired."""

    attestations: tuple[AttestationRecord, ...]


class OfferRow(Message, frozen=True):
    """One line of GET /v1/offers."""

    offer_id: Digest
    provider: Address
    machine: str
    is_up: bool
    region: str
    cpus_milli_free: int
    cpus_milli: int
    memory_bytes_free: int
    memory_bytes: int
    disk_bytes_free: int
    gpu_model: str
    gpu_memory_bytes: int
    gpus_free: int
    gpus: int
    cpu_price_hour: int
    memory_price_hour: int
    gpu_price_hour: int
    sandboxes: tuple[str, ...]
    cpu_score: int
    gpu_interface: str = ""


class Offers(Message, frozen=True):
    """GET /v1/offers."""

    offers: tuple[OfferRow, ...]


class LogSnapshot(Message, frozen=True):
    """GET /v1/log/snapshot: the newest book that a Seal in the log names."""

    size: int  # entries folded; the Seal is entry number ``size``
    book: bytes  # canonical bytes of the book; base64 on the wire, as is ``tree``
    book_hash: Digest  # SHA-256 of ``book``
    tree: bytes  # the Merkle frontier after ``size`` entries


# ---- control link: provider <-> node (WebSocket /v1/link, JSON text frames) -------


class Challenge(Message, frozen=True, tag="challenge", tag_field="type"):
    """Node: the first message; the provider signs the nonce into its hello."""

    nonce: str
    market: Digest


class Hello(Message, frozen=True, tag="hello", tag_field="type"):
    """Provider: who I am, proved by a signed request over the nonce."""

    provider: Address
    authorization: str  # as the header of a signed GET /v1/link?nonce=…
    instance: Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]  # drawn by each process


class Welcome(Message, frozen=True, tag="welcome", tag_field="type"):
    """Node: admitted. All open leases of this provider, so that it can catch up."""

    leases: tuple[Lease, ...]
    ping_s: int  # the node pings (WebSocket) this often
    orders: tuple[OpenOrder, ...] = ()  # open for bids, and that it could take now


class LeaseChanged(Message, frozen=True, tag="lease", tag_field="type"):
    """Node: a lease of yours was made or moved. May come twice."""

    lease: Lease


class OrderOpened(Message, frozen=True, tag="order", tag_field="type"):
    """Node: an order is open for bids that an offer of yours could take."""

    order: OpenOrder


class Dial(Message, frozen=True, tag="dial", tag_field="type"):
    """Node: a tenant wants to talk; open WebSocket /v1/relay/{session} to be spliced."""

    session: str
    lease_id: Digest


NodeSays = Challenge | Welcome | LeaseChanged | OrderOpened | Dial
ProviderSays = Hello


# ---- the private manifest ---------------------------------------------------------


class FileEntry(Message, frozen=True):
    """One file of a tree: where, how long, of which chunks.

    A small file shares its one chunk with others: it begins at ``offset``.
    """

    path: str  # relative, POSIX, no "..", no symlinks
    size: int
    mode: int  # permission bits that are kept: 0o644 or 0o755
    chunks: tuple[Digest, ...]  # BLAKE3 of each CHUNK_BYTES piece, in order
    offset: int = 0  # bytes of other files before it in its chunk


class Tree(Message, frozen=True):
    """A folder's content. Its id is the BLAKE3 of its canonical JSON."""

    files: tuple[FileEntry, ...]  # sorted by path


class Envelope(Message, frozen=True):
    """A job's key, sealed to one provider."""

    provider: Address
    key: bytes  # HPKE to the ``seal_key`` of its offer; base64 on the wire


class SealedJob(Message, frozen=True):
    """What a job is, for the eyes of those providers alone that may run it.

    Whoever hands it over (a node's controller) reads sizes and nothing else.
    """

    job: str  # the name that everything of the job is bound to
    envelopes: Annotated[tuple[Envelope, ...], Meta(max_length=limits.LIST_LENGTH_MAX)]
    manifest: bytes  # the real Manifest under the job's key, without its trees


class Volume(Message, frozen=True):
    """A folder of the job's own that it finds at a path of its image."""

    name: str  # of the folder
    mount: str  # absolute; not of what every sandbox has itself
    is_persistent: bool = False  # shipped while it runs, as checkpoints are


class Manifest(Message, frozen=True):
    """What a job is. Goes from tenant to provider, end to end encrypted.

    The order carries the commitment: BLAKE3 over the canonical JSON, ``salt`` included.
    """

    v: int
    salt: str  # 32 random hex characters
    kind: str  # "script" (PEP 723, by uv), "command", or "sealed": see ``sealed``
    argv: tuple[str, ...]  # script: path in inputs, then arguments; command: argv
    env: dict[str, str]
    secrets: dict[str, str]  # as env; never written to disk or logs in the clear
    inputs: Tree  # laid out in the job's work folder
    outputs: tuple[str, ...]  # paths in the work folder that come back; () for none
    checkpoint: str  # folder in the work folder that is shipped while it runs, or ""
    resume: Tree  # the last checkpoint's content, laid out there before the start
    cpus_milli: int
    memory_bytes: int
    disk_bytes: int
    timeout_s: int
    egress: tuple[str, ...] = ()  # destinations, "name:port"; () for no network at all
    image: str = ""  # a reference; without argv, its own program. "": the host's system
    lengthens: bool = False  # argv follows the image's entrypoint, for its command
    volumes: tuple[Volume, ...] = ()  # of an image; persistent ones are the checkpoint
    sealed: SealedJob | None = None  # what it really is; trees are sealed folders then

    # A manifest is private and holds secrets: nothing of it reaches a log by its repr.
    def __repr__(self) -> str:
        return f"Manifest({self.kind}, {len(self.inputs.files)} files)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("kind", self.kind), ("files", len(self.inputs.files))]


# ---- job channel: tenant <-> provider (SSH exec "sublet job", JSON lines) ---------


class Terms(Message, frozen=True, tag="terms", tag_field="type"):
    """Provider, its first word: what I signed, whatever a node told you."""

    terms: Signed  # LeaseTerms of this lease
    offer: Signed  # the Offer that they name; it carries the host key


class Own(Message, frozen=True):
    """What one member of a gang has for itself beside the manifest, which all share."""

    env: dict[str, str]  # over the manifest's
    resume: Tree  # its own last checkpoint, in place of the manifest's


class Deliver(Message, frozen=True, tag="deliver", tag_field="type"):
    """Tenant: here is the manifest. The same one again is harmless.

    Where the order requires erasure: half of the key of the scratch, which the provider
    does not keep, and a nonce for the statement at the end.
    """

    manifest: Manifest
    order: Signed | None = None  # the lease's; a provider refuses to work without
    half: str = ""  # 64 hex digits
    nonce: str = ""  # 32 hex digits
    own: Own | None = None  # of a gang's member; the order commits to none of it
    channel: Signed | None = None  # with a deposit into it
    deposit: Deposit | None = None  # on the escrow rail, where the channel lacks money

    def __repr__(self) -> str:
        return f"Deliver({self.manifest!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("manifest", self.manifest)]


class Missing(Message, frozen=True, tag="missing", tag_field="type"):
    """Provider: chunks that it lacks; put them into /chunks by SFTP, then Uploaded."""

    chunks: tuple[Digest, ...]


class Uploaded(Message, frozen=True, tag="uploaded", tag_field="type"):
    """Tenant: every missing chunk is there."""


class Progress(Message, frozen=True, tag="progress", tag_field="type"):
    """Provider: what it is doing; ``phase`` is preparing, running or ended."""

    phase: str
    text: str  # one line for people, such as "installing 5 packages"


class Metered(Message, frozen=True, tag="metered", tag_field="type"):
    """Provider: a signed usage record; answer with a voucher or be stopped."""

    record: Signed
    owed: int  # micro-USD of this lease so far
    channel_total: int  # what the channel's next voucher has to say at least


class Replace(Message, frozen=True, tag="replace", tag_field="type"):
    """Tenant: run this in place of what runs. The same one again is harmless."""

    manifest: Manifest
    replacement: Signed  # commits to it

    def __repr__(self) -> str:
        return f"Replace({self.manifest!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("manifest", self.manifest)]


class Replaced(Message, frozen=True, tag="replaced", tag_field="type"):
    """Provider: the new program runs, or why the old one goes on."""

    manifest: Digest  # that was asked for
    delivery: Signed | None = None  # of it
    code: str = ""
    message: str = ""


class Paid(Message, frozen=True, tag="paid", tag_field="type"):
    """Tenant: a signed voucher, and the signed channel with the first one."""

    voucher: Signed
    channel: Signed | None = None


class Checkpointed(Message, frozen=True, tag="checkpointed", tag_field="type"):
    """Provider: a checkpoint is ready; fetch its chunks by SFTP from /chunks."""

    number: int
    ran_ms: int
    tree: Tree


class Kept(Message, frozen=True, tag="kept", tag_field="type"):
    """Tenant: fetched and durable; the provider may forget its chunks."""

    number: int


class Ended(Message, frozen=True, tag="ended", tag_field="type"):
    """Provider: the job is over; the signed receipt, and what it left behind."""

    receipt: Signed
    outputs: Tree
    owed: int
    channel_total: int
    egress: EgressTable | None = None  # whom the job reached; None: it had no network


class Sanitized(Message, frozen=True, tag="sanitized", tag_field="type"):
    """Provider: nothing of your data is left, or why not; a DSSE envelope."""

    envelope: Annotated[str, Meta(max_length=limits.STATEMENT_BYTES_MAX)]


class Close(Message, frozen=True, tag="close", tag_field="type"):
    """Tenant: end the job (``stop``), or all was fetched, the folder may go (``done``)."""

    reason: str


class Notice(Message, frozen=True, tag="notice", tag_field="type"):
    """Provider: the owner wants the machine back; save your work."""

    stops_in_s: int


class Trouble(Message, frozen=True, tag="trouble", tag_field="type"):
    """Either: what you said was refused, or I cannot go on; the channel closes."""

    code: str
    message: str


TenantSays = Deliver | Replace | Uploaded | Paid | Kept | Close | Trouble
JobSays = (
    Terms
    | Missing
    | Replaced
    | Progress
    | Metered
    | Checkpointed
    | Ended
    | Sanitized
    | Notice
    | Trouble
)
