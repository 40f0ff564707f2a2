"""What the parties say: every document that can stand in the log.

Documents are immutable. The class name is the primary type of the EIP-712 typed data, the
fields, in camelCase, its members (``wire.typed_data``; ``Channel`` and ``Voucher`` are x402's).
``signed_at_s`` is the signer's own clock; what counts is stamped by the log. ``salt``
makes two equal wishes two documents.

Not here: signatures and bytes (``wire``), what documents do to the market (``book``).
"""

from msgspec import Struct

from sublet.base import limits
from sublet.base.ids import Address, Digest
from sublet.core.member import (
    Addresses,
    Amount,
    ChainId,
    CpuMillis,
    Cpus,
    Delay,
    Disk,
    Document,
    ExitCode,
    GpuCount,
    GpuMemory,
    GpuUuids,
    KeyLine,
    Latency,
    LeaseCount,
    Level,
    MachineCount,
    Memory,
    Millis,
    Price,
    Rate,
    Salt,
    Score,
    Seconds,
    Share,
    Size,
    Span,
    Text,
    Texts,
    Version,
    Volume,
)
from sublet.core.mirror import CREDITS
from sublet.core.mirror import Mirror as Mirror
from sublet.core.replacement import Replacement as Replacement

# ---- the operator -----------------------------------------------------------------


class Market(Document, frozen=True, tag="Market"):
    """Entry 0 of every log: who operates the market and by which rules.

    Its digest, with a zero salt in the domain, is the market's id, and the salt in
    the domain of every other document: none can be replayed on another market.
    The spans are the deadlines that the book enforces, each with its owner.
    """

    name: Text
    chain_id: ChainId  # of the chain on which vouchers could be redeemed
    contract: Address  # the x402 batch-settlement contract there
    token: Address  # the token that vouchers are denominated in
    note_key: KeyLine  # C2SP verifier key of the checkpoints
    accept_s: Span  # provider signs the terms
    deliver_s: Span  # tenant delivers the manifest
    prepare_s: Span  # provider starts the job (dependencies installed)
    report_s: Span  # provider's longest silence while a job runs
    close_s: Span  # provider's receipt, once a stop was asked
    settle_s: Span  # tenant's last voucher, once the receipt is there
    withdraw_delay_s: Delay  # of the channels
    signed_at_s: Seconds
    salt: Salt
    rail: Text = CREDITS  # or "escrow": see core.mirror


class Credit(Document, frozen=True, tag="Credit"):
    """The operator issues credits to a party's wallet (the credits rail)."""

    party: Address
    amount: Amount
    memo: Text
    signed_at_s: Seconds
    salt: Salt


class ProviderSeen(Document, frozen=True, tag="ProviderSeen"):
    """A node holds a control link to this provider."""

    provider: Address
    signed_at_s: Seconds
    salt: Salt


class ProviderLost(Document, frozen=True, tag="ProviderLost"):
    """No node has held a control link to this provider for the grace period."""

    provider: Address
    signed_at_s: Seconds
    salt: Salt


class Tick(Document, frozen=True, tag="Tick"):
    """Time passed: a deadline of the book is due and nobody else spoke."""

    signed_at_s: Seconds
    salt: Salt


class Resume(Document, frozen=True, tag="Resume"):
    """No node took documents since the last entry: open deadlines move by that gap."""

    signed_at_s: Seconds
    salt: Salt


class Seal(Document, frozen=True, tag="Seal"):
    """The operator's word for the book after ``size`` entries: directly behind them."""

    size: Size
    book: Digest  # SHA-256 of the book's canonical bytes
    signed_at_s: Seconds
    salt: Salt


class Upgrade(Document, frozen=True, tag="Upgrade"):
    """From here on the rules of this version hold; older programs stop here."""

    version: Version
    signed_at_s: Seconds
    salt: Salt


# ---- the provider -----------------------------------------------------------------


class Offer(Document, frozen=True, kw_only=True, tag="Offer"):
    """A standing offer of one machine, sold in slices at unit prices.

    A later offer of the same (provider, machine) replaces this one; running leases
    keep what they were promised. What is left out is undeclared: it meets no wish.
    """

    machine: Text  # the provider's name for it
    cpus_milli: Cpus
    memory_bytes: Memory
    disk_bytes: Disk
    disk_class: Text = ""  # "hdd", "ssd" or "nvme"
    gpu_model: Text  # "" where there is none
    gpu_memory_bytes: GpuMemory  # of each
    gpu_uuids: GpuUuids  # of GPUs, or of the parts of GPUs that are sold
    gpu_vendor: Text = ""  # "nvidia" or "amd"
    gpu_interface: Text = ""  # "pcie" or "sxm"
    gpu_compute: Level = 0  # compute capability: 90 for 9.0
    gpu_driver: Level = 0  # 550_054_014 for 550.54.14
    cuda: Level = 0  # the latest that the driver serves: 12_040 for 12.4
    gpu_share_milli: Share = limits.GPU_SHARE_WHOLE  # how much of a GPU each is
    gpu_sharing: Text = ""  # how it is parted, "mig" or "time-slice"; "" where whole
    region: Text  # ISO 3166: "DE" or "US-CA"; "" undeclared
    jurisdiction: Text = ""  # ISO 3166: whose law binds the owner
    network: Text = ""  # what fails together, such as "as24940"
    up_mbit_s: Rate = 0  # measured, to the internet
    down_mbit_s: Rate = 0
    latencies: Texts = ()  # measured, in ms, to places: "frankfurt=12"
    sandboxes: Texts  # adapters whose probe succeeded, such as "bubblewrap"
    features: Texts  # what else it can do or promises: "image", "egress", "erasure"
    attributes: Texts = ()  # what the owner says of it: "tier=datacenter"
    cpu_price_hour: Price  # floor, for one CPU
    memory_price_hour: Price  # floor, for one GiB
    gpu_price_hour: Price  # floor, for one GPU
    cpu_score: Score  # measured once; see provider.benchmark for the units
    disk_score: Score
    gpu_score: Score
    ssh_host_key: KeyLine  # the tenant pins it
    seal_key: KeyLine  # "x25519:<hex>": what is sealed to it only this machine opens
    endpoint: Text  # "host:port" where reachable directly, else ""
    leases_max: LeaseCount  # on this machine at one time; 0 for as many as fit
    refuses: Addresses  # tenants that this owner does not work for
    expires_at_s: Seconds
    signed_at_s: Seconds
    salt: Salt


class OfferWithdrawal(Document, frozen=True, tag="OfferWithdrawal"):
    """The provider takes an offer back (drain); running leases go on."""

    offer_id: Digest
    signed_at_s: Seconds
    salt: Salt


class Bid(Document, frozen=True, tag="Bid"):
    """The provider would take this live order, on this machine, at this price."""

    order_id: Digest
    offer_id: Digest  # of its own, in force
    price_hour: Price  # micro-USD an hour for the whole slice
    signed_at_s: Seconds
    salt: Salt


class LeaseTerms(Document, frozen=True, tag="LeaseTerms"):
    """The provider accepts a match and signs what it understood it to be.

    Terms that differ from the book's match are refused: so a lying node shows.
    """

    lease_id: Digest  # the order's id, where one order is one lease
    offer_id: Digest
    tenant: Address
    provider: Address
    price_hour: Price  # micro-USD an hour for the whole slice
    duration_s: Span
    signed_at_s: Seconds
    salt: Salt


class Delivery(Document, frozen=True, tag="Delivery"):
    """The provider holds the manifest, and it is the one that was committed to.

    Of a lease that runs: the program of its last Replacement runs now.
    """

    lease_id: Digest
    manifest: Digest
    signed_at_s: Seconds
    salt: Salt


class Start(Document, frozen=True, tag="Start"):
    """The job's own program runs; from here on seconds are billed."""

    lease_id: Digest
    signed_at_s: Seconds
    salt: Salt


class UsageRecord(Document, frozen=True, tag="UsageRecord"):
    """The meter's reading since the start; cumulative, one per report interval."""

    lease_id: Digest
    sequence: Size
    ran_ms: Millis
    cpu_ms: CpuMillis  # of all processes
    memory_bytes_max: Memory
    signed_at_s: Seconds
    salt: Salt


class GiveBack(Document, frozen=True, tag="GiveBack"):
    """The owner wants the machine back: notice now, stop after ``notice_s``."""

    lease_id: Digest
    notice_s: Span
    signed_at_s: Seconds
    salt: Salt


class Receipt(Document, frozen=True, tag="Receipt"):
    """The end of a lease as the provider signs it: what ran, how long, what came out."""

    lease_id: Digest
    ran_ms: Millis
    exit_code: ExitCode  # of the program; 128 + n for signal n
    reason: Text  # exited, stopped, given_back, out_of_memory, timeout, unpaid, failed
    outputs: Digest  # of the tree of output files; NO_DIGEST for none
    stdout: Digest  # BLAKE3 of the stream
    stderr: Digest
    egress: Digest  # salted, of the table of who was reached; NO_DIGEST for nobody
    signed_at_s: Seconds
    salt: Salt


class Erasure(Document, frozen=True, tag="Erasure"):
    """Nothing of the tenant's data is left, by a statement that the tenant has.

    Where the order required ``erasure``, the slice is bound until this is in the log.
    """

    lease_id: Digest
    statement: Digest  # SHA-256 of the in-toto statement, which is salted
    level: Text  # assurance: "A0" declared … "A4" hardware-attested
    signed_at_s: Seconds
    salt: Salt


# ---- the auditor ------------------------------------------------------------------


class Attestation(Document, frozen=True, tag="Attestation"):
    """Somebody vouches for what is said of a provider, or of one machine of it.

    Anyone may; what it is worth is what the orders say that name the signer. A later
    one of the same signer for the same (provider, machine) replaces it; one
    without attributes revokes.
    """

    provider: Address
    machine: Text  # "" for all of them
    attributes: Texts  # "soc2=type-2", "site=frankfurt"
    expires_at_s: Seconds
    signed_at_s: Seconds
    salt: Salt


# ---- the tenant -------------------------------------------------------------------


class Order(Document, frozen=True, kw_only=True, tag="Order"):
    """A wish for a slice of a machine, or of several at once, at most at this price.

    The job stays private, behind a salted commitment. What is left out is no wish.
    """

    tenant: Address  # who pays; the signer is the tenant or its delegate
    cpus_milli: Cpus
    memory_bytes: Memory
    disk_bytes: Disk
    disk_classes: Texts = ()  # any of
    gpu_models: Texts = ()  # any of: "h100", "h100/sxm", "a100/80GiB" (at least)
    gpu_count: GpuCount
    gpu_memory_bytes: GpuMemory  # at least, of each
    gpu_vendor: Text = ""
    gpu_interface: Text = ""
    gpu_compute: Level = 0  # at least, as the following; units as in the offer
    gpu_driver: Level = 0
    cuda: Level = 0
    gpu_share_milli: Share = limits.GPU_SHARE_WHOLE  # of each
    gpu_sharing: Text = ""  # the one way in which GPUs may be parted; "" for any
    regions: Texts  # any of; empty for anywhere
    jurisdictions: Texts = ()  # any of
    up_mbit_s: Rate = 0  # at least
    down_mbit_s: Rate = 0
    latencies: Texts = ()  # ms at most to places, all of them: "frankfurt=30"
    sandbox: Text  # the class that is required; "" for any
    features: Texts  # all of these are required
    attributes: Texts = ()  # all of these are required, "key=value" …
    auditors_any: Addresses = ()  # … signed by one of these, where it names any,
    auditors_all: Addresses = ()  # … and by each of these
    avoid: Addresses  # providers that are not wanted
    work: Text = ""  # whose measured speed counts: "cpu", "disk", "gpu"; "" for none
    near: Text = ""  # a place; each ms to it weighs as much as …
    near_price_hour: Price = 0  # … this on the price
    data_at: Addresses = ()  # providers that hold the data; elsewhere it weighs …
    data_price_hour: Price = 0  # … this on the price to bring it
    machines: MachineCount = 1  # a gang: such a slice of so many, all or none of them
    apart: Texts = ()  # "provider", "region", "network": of these, no two share one
    together_ms: Latency = 0  # between any two, at most; 0 for no such wish
    price_hour_max: Price  # for the whole slice, of one machine
    total_max: Amount  # for the whole lease, or all leases of the order
    duration_s_max: Span
    pricing: Text = "second_score"  # or "pay_as_bid"
    mode: Text = "instant"  # or live, standing, spot, reserved: see core.book.mode
    window_s: Span = 0  # live: bids are taken for so long
    choose_s: Span = 0  # live: then the tenant chooses for so long; 0: the best wins
    open_until_s: Seconds = 0  # standing, spot: waits until then
    volume_s: Volume = 0  # standing: of the slice, in all its leases; 0: one lease
    starts_at_s: Seconds = 0  # reserved: from then on, for duration_s_max
    notice_s: Span = 0  # spot: from the notice to the end, where another pays more
    deadline_s: Seconds = 0  # all is over by then; 0 for no such wish
    manifest: Digest  # commitment to the private manifest
    ssh_key: KeyLine  # the provider admits this key to the lease, and no other
    delegation: Digest  # NO_DIGEST where the tenant signs itself
    signed_at_s: Seconds
    salt: Salt


class Choice(Document, frozen=True, tag="Choice"):
    """The tenant takes one of the bids for its order, at that bid's price."""

    order_id: Digest
    bid_id: Digest
    signed_at_s: Seconds
    salt: Salt


class Cancellation(Document, frozen=True, tag="Cancellation"):
    """The tenant takes back an order that waits; leases that it has go on."""

    order_id: Digest
    signed_at_s: Seconds
    salt: Salt


class Delegation(Document, frozen=True, tag="Delegation"):
    """The tenant lets another key order in its name: capped, scoped, expiring.

    Paid is out of channels whose vouchers that key signs, and for these leases alone.
    """

    delegate: Address
    budget: Amount
    leases_max: LeaseCount  # that may hold a machine at one time
    providers: Addresses  # with whom alone it may deal; empty for anyone
    scope: Text  # what it is for; shown to people
    expires_at_s: Seconds
    signed_at_s: Seconds
    salt: Salt


class Revocation(Document, frozen=True, tag="Revocation"):
    """The tenant ends a delegation before its time; leases under it are stopped."""

    delegation_id: Digest
    signed_at_s: Seconds
    salt: Salt


class Channel(Document, frozen=True, tag="Channel"):
    """x402 ``ChannelConfig``: its digest is the channel id. Signed by the payer."""

    payer: Address
    payer_authorizer: Address
    receiver: Address
    receiver_authorizer: Address
    token: Address
    withdraw_delay: Delay
    salt: Digest


class Voucher(Document, frozen=True, tag="Voucher"):
    """x402 ``Voucher``: "so far I owe you this much", cumulative, the last one counts.

    Signed by the channel's payer authorizer.
    """

    channel_id: Digest
    max_claimable_amount: Amount


class CheckpointKept(Document, frozen=True, tag="CheckpointKept"):
    """The tenant holds a checkpoint: what ran up to it is owed whatever comes."""

    lease_id: Digest
    ran_ms: Millis
    checkpoint: Digest
    signed_at_s: Seconds
    salt: Salt


class Stop(Document, frozen=True, tag="Stop"):
    """The tenant ends the lease."""

    lease_id: Digest
    reason: Text  # cancelled, provider_lost, bad_output, done …
    signed_at_s: Seconds
    salt: Salt


AnyDocument = (
    Market
    | Credit
    | Mirror
    | ProviderSeen
    | ProviderLost
    | Tick
    | Resume
    | Seal
    | Upgrade
    | Offer
    | OfferWithdrawal
    | Bid
    | LeaseTerms
    | Delivery
    | Start
    | UsageRecord
    | GiveBack
    | Receipt
    | Erasure
    | Attestation
    | Order
    | Choice
    | Cancellation
    | Delegation
    | Revocation
    | Channel
    | Voucher
    | CheckpointKept
    | Replacement
    | Stop
)


class Fact(Struct, frozen=True, gc=False):
    """A document that has happened; the book takes nothing else."""

    at_s: int  # stamped by the log
    id: Digest
    signer: Address  # recovered from the signature
    document: AnyDocument


class Entry(Struct, frozen=True, gc=False):
    """A fact with the signature that makes it one: what an entry of the log says."""

    fact: Fact
    signature: bytes  # 65 bytes
