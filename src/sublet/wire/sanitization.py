"""The statement that a tenant's data is gone: in-toto, in a signed DSSE envelope.

The words are those of NIST SP 800-88r2. What is signed is exact bytes; the log holds
their SHA-256 (document ``Erasure``), so a statement cannot be changed afterwards, and
the salt in it keeps the log from telling what it says. The signature is that of the
provider's own key over the SHA-256 of DSSE's pre-authentication encoding: 65 bytes as
for documents, and nothing else that the key signs has that form.

Pure. Not here: how data is erased (``provider.erasure``), what people are shown.
"""

import base64
import binascii
from hashlib import sha256

import msgspec
from msgspec import Struct

from sublet.base import limits
from sublet.base.errors import PeerFault
from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.core.lease.phase import Lease
from sublet.wire.signature import Key, recover

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:sublet:media-sanitization:v1"
STANDARD = "NIST SP 800-88r2"
CLEAR = "clear"  # the standard's weakest claim, and all that software can make
NONE = "none"  # something could not be done; nothing is claimed
LEVEL = "A1"  # signed by the provider, checked by nobody else
CLOCK_SLACK_S = 60  # between the provider's clock and the log's
STEPS = ("kill", "unmount", "destroy_key", "scrub_vram", "remove_ciphertext")


class Step(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One thing that was done, in this order, and how it went."""

    name: str
    at_s: int
    is_ok: bool
    note: str


class GpuScrub(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The memory of one GPU: how much of it was overwritten, and looked at again."""

    uuid: str
    bytes_total: int
    bytes_overwritten: int
    bytes_sampled: int
    processes_left: int  # on the GPU, by the driver's word
    is_ok: bool  # overwritten, every sample read back as written, nobody left
    note: str


class Medium(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Where the data lay, and by what it could be read."""

    kind: str  # "gocryptfs", "tmpfs", or "" where the tenant never sent any data
    cipher: str
    key_id: str  # of the key; says nothing of it
    created_at_s: int
    destroyed_at_s: int
    is_key_persisted: bool
    swap: str  # "off", or what memory may have been swapped out to
    files: int  # ciphertext, when it was taken away
    bytes: int


class Sanitization(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The predicate: what was done to which data, by whom, and what it amounts to."""

    standard: str
    category: str  # CLEAR or NONE
    level: str
    lease: Digest
    tenant: Address
    provider: Address
    machine: str
    medium: Medium
    steps: tuple[Step, ...]
    gpus: tuple[GpuScrub, ...]
    nonce: str  # the tenant's, from the delivery: no statement is made in advance
    salt: str


class Subject(Struct, frozen=True, forbid_unknown_fields=True):
    """What the statement is about: the list of the ciphertext's files."""

    name: str
    digest: dict[str, str]


class Statement(Struct, frozen=True, forbid_unknown_fields=True):
    """An in-toto statement, version 1."""

    type_: str = msgspec.field(name="_type")
    subject: tuple[Subject, ...]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: Sanitization


class EnvelopeSignature(Struct, frozen=True, forbid_unknown_fields=True):
    """Who signed, and the signature in base64."""

    keyid: Address
    sig: str


class Envelope(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A DSSE envelope."""

    payload: str  # base64
    payload_type: str
    signatures: tuple[EnvelopeSignature, ...]


class Read(Struct, frozen=True):
    """What an envelope holds, once its signature was checked."""

    signer: Address
    digest: Digest  # of the payload: what the log has
    statement: Statement


class BadStatement(PeerFault):
    """This is no signed statement of erasure, or it was changed."""

    code = "bad_statement"


# ---- writing ------------------------------------------------------------------------


def make_statement(predicate: Sanitization, *, remains: Digest) -> Statement:
    """Put a predicate into its statement."""
    subject = Subject(
        name=f"lease/{predicate.lease}/ciphertext", digest={"sha256": remains[2:]}
    )
    return Statement(
        type_=STATEMENT_TYPE,
        subject=(subject,),
        predicate_type=PREDICATE_TYPE,
        predicate=predicate,
    )


def seal(statement: Statement, *, key: Key) -> tuple[bytes, Digest]:
    """Sign a statement; give its envelope and the digest for the log."""
    payload = msgspec.json.encode(statement)
    signature = key.sign(_digest_of(payload))
    envelope = Envelope(
        payload=base64.b64encode(payload).decode(),
        payload_type=PAYLOAD_TYPE,
        signatures=(
            EnvelopeSignature(key.address, base64.b64encode(signature).decode()),
        ),
    )
    return msgspec.json.encode(envelope), "0x" + sha256(payload).hexdigest()


def encode_for_signing(payload_type: str, payload: bytes) -> bytes:
    """Give DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _digest_of(payload: bytes) -> Digest:
    return "0x" + sha256(encode_for_signing(PAYLOAD_TYPE, payload)).hexdigest()


# ---- reading ------------------------------------------------------------------------


def open_envelope(raw: bytes) -> Read:
    """Check an envelope's form and signature.

    Raises:
        BadStatement: it has no such form, or the signature is not its key's.
    """
    if len(raw) > limits.STATEMENT_BYTES_MAX:
        raise BadStatement("an envelope of a statement is not so large")
    try:
        envelope = msgspec.json.decode(raw, type=Envelope)
        payload = base64.b64decode(envelope.payload, validate=True)
        (signature,) = envelope.signatures
        sig = base64.b64decode(signature.sig, validate=True)
        statement = msgspec.json.decode(payload, type=Statement)
    except (msgspec.MsgspecError, UnicodeDecodeError, binascii.Error, ValueError) as e:
        raise BadStatement(f"this is no signed statement of erasure: {e}") from None
    kinds = (envelope.payload_type, statement.type_, statement.predicate_type)
    if kinds != (PAYLOAD_TYPE, STATEMENT_TYPE, PREDICATE_TYPE):
        raise BadStatement("this is a statement about something else")
    signer = recover(_digest_of(payload), sig)
    if signer != signature.keyid:
        raise BadStatement(
            f"the signature is not that of {signature.keyid}; the statement was changed"
        )
    return Read(signer, "0x" + sha256(payload).hexdigest(), statement)


def find_faults(
    read: Read, lease: Lease, *, logged_at_s: int, nonce: str = ""
) -> tuple[str, ...]:
    """Hold a statement against the lease as the log has it; name all that is wrong.

    Args:
        read: the statement, its signature checked.
        lease: settled or settling, with its Erasure.
        logged_at_s: when the log heard the Erasure; 0 where it never did.
        nonce: what the tenant asked for; "" where that is not known any more.
    """
    said = read.statement.predicate
    medium = said.medium
    names = tuple(step.name for step in said.steps)
    scrubbed = {gpu.uuid for gpu in said.gpus if gpu.is_ok}
    times = [step.at_s for step in said.steps]
    checks = {
        "it is not signed by the lease's provider": read.signer == lease.provider,
        "it speaks of another lease": said.lease == lease.id,
        "it names another tenant, provider or machine": (
            (said.tenant, said.provider, said.machine)
            == (lease.tenant, lease.provider, lease.machine)
        ),
        "the log holds no Erasure of this lease": lease.erasure != NO_DIGEST,
        "the log holds the digest of another statement": (
            lease.erasure in (NO_DIGEST, read.digest)
        ),
        "the log names another level": (
            lease.erasure == NO_DIGEST or lease.erasure_level == said.level
        ),
        "it claims a higher level than it can bear": said.level == LEVEL,
        "it claims no erasure: something could not be done": said.category == CLEAR,
        "its steps are not those of an erasure, in their order": names == STEPS,
        "its steps go back in time": times == sorted(times),
        "a step failed and erasure is claimed all the same": (
            said.category != CLEAR or all(step.is_ok for step in said.steps)
        ),
        "the key was written down": not medium.is_key_persisted,
        "a GPU of the lease was not scrubbed": set(lease.gpu_uuids) <= scrubbed,
        "a GPU is called scrubbed that by its figures was not": all(
            _is_scrubbed(gpu) for gpu in said.gpus if gpu.is_ok
        ),
        "the scratch was made before the lease": (
            not medium.kind or medium.created_at_s >= lease.matched_at_s - CLOCK_SLACK_S
        ),
        "the key outlived the log's word for the erasure": (
            not logged_at_s or medium.destroyed_at_s <= logged_at_s + CLOCK_SLACK_S
        ),
        "the key was destroyed before the scratch was made": (
            medium.created_at_s <= medium.destroyed_at_s
        ),
        "it answers another nonce than the tenant's": nonce in ("", said.nonce),
    }
    return tuple(fault for fault, is_right in checks.items() if not is_right)


def _is_scrubbed(gpu: GpuScrub) -> bool:
    """Say whether a GPU's figures bear out what is said of it."""
    needed = gpu.bytes_total * limits.VRAM_COVERED_MIN_PPM
    return (
        gpu.bytes_sampled > 0
        and gpu.bytes_overwritten * 1_000_000 >= needed > 0
        and gpu.processes_left == 0
    )
