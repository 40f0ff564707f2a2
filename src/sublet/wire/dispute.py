"""A file of evidence about one lease, which anyone checks without a network.

One canonical JSON object: entries of the market's log with their Merkle proofs, the
signed checkpoint that they lead to, documents that are in no log, and the signature of
whoever put it together. Nothing in it is believed: ``open_dispute`` checks each byte,
``judge`` tells the lease again from what holds. The format: docs/disputes.md.

Pure. Not here: where the entries come from (``service.dispute``), words for people.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.core.document import (
    AnyDocument,
    Bid,
    Cancellation,
    Channel,
    Choice,
    Delegation,
    Fact,
    LeaseTerms,
    Market,
    Offer,
    Order,
    ProviderLost,
    Replacement,
    Resume,
    Revocation,
    Voucher,
)
from sublet.core.lease.contradiction import Contradiction, Said, find_contradictions
from sublet.core.lease.retold import Heard, Retold, Told, retell
from sublet.core.member import Seconds
from sublet.core.merkle import leaf_hash, verify_inclusion
from sublet.core.mirror import Mirror
from sublet.wire.codec import (
    ENTRY_BYTES_MAX,
    DocumentCodec,
    decode,
    decode_signed,
    encode,
    origin_of,
)
from sublet.wire.cosignature import find_cosigners
from sublet.wire.manifest import commitment
from sublet.wire.message import Manifest
from sublet.wire.note import NOTE_BYTES_MAX, Checkpoint, read_checkpoint
from sublet.wire.signature import BadSignature, Key, recover
from sublet.wire.typed_data import Domain, market_id

FILE_BYTES_MAX = 64 * 1024 * 1024
ENTRIES_MAX = 20_000
OTHERS_MAX = 64  # signed documents that are in no log
PROOF_HASHES_MAX = 63

_SIGNED_AS = b"sublet dispute v1\n"  # before the bytes, so that it is nothing else
_NO_SIGNATURE = "0x" + "00" * 65


class BadDispute(PeerFault):
    """This file of evidence does not hold.

    Codes: ``bad_dispute`` (its shape), ``bad_maker`` (the signature over all of it),
    ``foreign_entry`` (of another market, lease or order), ``unordered_entries``,
    ``wrong_manifest``.
    """

    code = "bad_dispute"


class Held(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the log, and the proof that it is there."""

    index: Annotated[int, Meta(ge=0, le=1 << 48)]
    entry: Annotated[str, Meta(max_length=ENTRY_BYTES_MAX)]  # its canonical bytes
    proof: Annotated[
        tuple[Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")], ...],
        Meta(max_length=PROOF_HASHES_MAX),
    ]
    void: Annotated[str, Meta(pattern=r"\A[a-z_]{0,64}\Z")] = ""


class Dispute(Struct, frozen=True, forbid_unknown_fields=True):
    """The file. Its first entry founds the market."""

    v: int
    type: Annotated[str, Meta(pattern=r"\Asublet-dispute\Z")]
    made_at_s: Seconds
    maker: Address
    market: Digest
    lease: Digest
    order: Digest
    told: Told
    records_left_out: Annotated[int, Meta(ge=0, le=1 << 48)]
    vouchers_left_out: Annotated[int, Meta(ge=0, le=1 << 48)]
    checkpoint: Annotated[str, Meta(max_length=NOTE_BYTES_MAX)]
    entries: Annotated[tuple[Held, ...], Meta(min_length=1, max_length=ENTRIES_MAX)]
    others: Annotated[tuple[str, ...], Meta(max_length=OTHERS_MAX)]
    manifest: str  # private, with its salt; "" where it was left out
    signature: Annotated[str, Meta(pattern=r"\A0x[0-9a-f]{130}\Z")] = _NO_SIGNATURE


class Opened(Struct, frozen=True):
    """A file whose every byte was checked; ``judge`` says what it shows."""

    dispute: Dispute
    market: Market
    operator: Address
    checkpoint: Checkpoint
    note: bytes
    heard: tuple[Heard, ...]
    others: tuple[Said, ...]
    manifest: Manifest | None


class Judgement(Struct, frozen=True):
    """What a file shows."""

    retold: Retold
    contradictions: tuple[Contradiction, ...]
    cosigned: dict[str, int]  # of the witnesses that were named, and when


def sign_dispute(dispute: Dispute, *, key: Key) -> bytes:
    """Write the file, signed by whoever made it.

    Raises:
        Refused: ``dispute_too_large``, or ``bad_key`` where the maker is another.
    """
    if key.address != dispute.maker:
        raise Refused("the maker of the file signs it", code="bad_key")
    blank = msgspec.structs.replace(dispute, signature=_NO_SIGNATURE)
    signature = "0x" + key.sign(_digest(blank)).hex()
    raw = encode(msgspec.structs.replace(blank, signature=signature))
    is_too_long = max(len(dispute.entries) - ENTRIES_MAX, len(raw) - FILE_BYTES_MAX) > 0
    if is_too_long or len(dispute.others) > OTHERS_MAX:
        raise Refused(
            f"the evidence has {len(dispute.entries)} entries and {len(raw)} bytes; at "
            f"most {ENTRIES_MAX} and {FILE_BYTES_MAX} are read",
            code="dispute_too_large",
        )
    return raw


def hash_dispute(raw: bytes) -> Digest:
    """Give the SHA-256 of a file: what an arbiter's proposal carries."""
    return "0x" + sha256(raw).hexdigest()


def open_dispute(raw: bytes) -> Opened:
    """Check every byte of a file of evidence.

    Raises:
        PeerFault: something in it does not hold; the ``code`` says what:
            ``BadDispute``, ``Undecodable``, ``WrongEntry``, ``BadSignature``,
            ``BadNote`` or ``BadProof``.
        UnsupportedVersion: of another version.
    """
    dispute = decode(raw, Dispute, size_max=FILE_BYTES_MAX)
    _check_maker(dispute)
    founding = DocumentCodec().read_entry(dispute.entries[0].entry.encode())
    market = founding.fact.document
    if dispute.entries[0].index != 0 or not isinstance(market, Market):
        raise BadDispute("its first entry does not found a market: entry 0 is missing")
    if market_id(market) != dispute.market:
        raise BadDispute(
            f"it is about market {dispute.market} and its entry 0 founds another",
            code="foreign_entry",
        )
    note = dispute.checkpoint.encode()
    checkpoint = read_checkpoint(note, verifier_key=market.note_key)
    if checkpoint.origin != origin_of(dispute.market):
        raise BadDispute(
            f"its checkpoint is of the log {checkpoint.origin}", code="foreign_entry"
        )
    domain = Domain.of(market, dispute.market)
    heard = _check_entries(dispute, checkpoint, DocumentCodec(domain))
    others = _check_others(dispute, domain)
    return Opened(
        dispute=dispute,
        market=market,
        operator=heard[0].fact.signer,
        checkpoint=checkpoint,
        note=note,
        heard=sort_out(dispute, checkpoint, heard, others),
        others=others,
        manifest=_read_manifest(dispute, heard),
    )


def judge(opened: Opened, *, witnesses: Sequence[str] = ()) -> Judgement:
    """Tell the lease again, look for contradictions, count the witnesses.

    Raises:
        BadRetelling: the entries do not make the life of this lease.
    """
    dispute = opened.dispute
    retold = retell(
        opened.heard,
        market=opened.market,
        lease_id=dispute.lease,
        order_id=dispute.order,
        told=dispute.told,
    )
    said = [
        Said(f"entry {each.index}", each.fact.id, each.fact.signer, each.fact.document)
        for each in opened.heard
    ]
    return Judgement(
        retold=retold,
        contradictions=find_contradictions([*said, *opened.others]),
        cosigned=find_cosigners(opened.note, witnesses),
    )


# ---- each byte --------------------------------------------------------------------


def _digest(blank: Dispute) -> Digest:
    return "0x" + sha256(_SIGNED_AS + encode(blank)).hexdigest()


def _check_maker(dispute: Dispute) -> None:
    blank = msgspec.structs.replace(dispute, signature=_NO_SIGNATURE)
    try:
        signer = recover(_digest(blank), bytes.fromhex(dispute.signature[2:]))
    except BadSignature as exc:
        raise BadDispute(
            f"the signature over the file: {exc.message}", code="bad_maker"
        ) from exc
    if signer != dispute.maker:
        raise BadDispute(
            f"{dispute.maker} did not sign this file as it is: it was changed since",
            code="bad_maker",
        )


def _check_entries(
    dispute: Dispute, checkpoint: Checkpoint, codec: DocumentCodec
) -> tuple[Heard, ...]:
    heard: list[Heard] = []
    for held in dispute.entries:
        body = held.entry.encode()
        fact = codec.verify_entry(body, market=dispute.market).fact
        verify_inclusion(
            leaf_hash(body),
            index=held.index,
            size=checkpoint.size,
            root=checkpoint.root,
            proof=[bytes.fromhex(node) for node in held.proof],
        )
        if heard and (held.index <= heard[-1].index or fact.at_s < heard[-1].fact.at_s):
            raise BadDispute(
                f"entry {held.index} comes after entry {heard[-1].index}",
                code="unordered_entries",
            )
        heard.append(Heard(held.index, fact, held.void))
    return tuple(heard)


def _check_others(dispute: Dispute, domain: Domain) -> tuple[Said, ...]:
    said: list[Said] = []
    for number, text in enumerate(dispute.others):
        signed, id_, signer = decode_signed(text.encode(), domain=domain)
        said.append(Said(f"other {number}", id_, signer, signed.document))
    return tuple(said)


def _read_manifest(dispute: Dispute, heard: Sequence[Heard]) -> Manifest | None:
    if not dispute.manifest:
        return None
    raw = dispute.manifest.encode()
    manifest: Manifest = decode(raw, Manifest, size_max=FILE_BYTES_MAX)
    known = {
        each.fact.document.manifest
        for each in heard
        if isinstance(each.fact.document, Order | Replacement)
    }
    if commitment(manifest) not in known:
        raise BadDispute(
            "the manifest is not one that the tenant committed to",
            code="wrong_manifest",
        )
    return manifest


# ---- what belongs in it -------------------------------------------------------------


def sort_out(
    dispute: Dispute,
    checkpoint: Checkpoint,
    heard: Sequence[Heard],
    others: Sequence[Said],
) -> tuple[Heard, ...]:
    """Tell what speaks of the lease from what only tells the time; refuse the rest.

    A file is no place to hide things in.
    """
    about, told = _About(dispute, [each.fact for each in heard], others), dispute.told
    marked = {told.matched_at, told.displaced_at, told.funded_at, told.unfunded_at}
    resumes = {each.index for each in heard if isinstance(each.fact.document, Resume)}
    sorted_out = []
    for each in heard:
        is_clock = each.index != 0 and not about.is_about(each.fact)
        is_needed = each.index in marked or (
            each.index + 1 in {*resumes, checkpoint.size}
        )
        if is_clock and not is_needed:
            raise BadDispute(
                f"entry {each.index}, {type(each.fact.document).__name__}, does not "
                f"speak of lease {dispute.lease}, or its signer may not say it",
                code="foreign_entry",
            )
        sorted_out.append(msgspec.structs.replace(each, is_clock=is_clock))
    for said in others:
        if not about.is_about(Fact(0, said.id, said.signer, said.document)):
            raise BadDispute(
                f"{said.where}, {type(said.document).__name__}, does not speak of "
                f"lease {dispute.lease}, or its signer may not say it",
                code="foreign_entry",
            )
    return tuple(sorted_out)


class _About:
    """Knows who and what one lease concerns."""

    def __init__(
        self, dispute: Dispute, facts: Sequence[Fact], others: Sequence[Said]
    ) -> None:
        terms = [fact.document for fact in facts]
        terms += [said.document for said in others]
        self._dispute, self._operator = dispute, facts[0].signer
        order = next((f.document for f in facts if f.id == dispute.order), None)
        self._order = order if isinstance(order, Order) else None
        self._offers = {
            document.offer_id
            for document in terms
            if isinstance(document, LeaseTerms) and document.lease_id == dispute.lease
        }
        self._providers = {fact.signer for fact in facts if fact.id in self._offers}
        self._delegation = NO_DIGEST if self._order is None else self._order.delegation
        self._channels = {
            fact.id: fact.document
            for fact in facts
            if isinstance(fact.document, Channel) and self._is_ours(fact.document)
        }

    def is_about(self, fact: Fact) -> bool:
        """Say whether this speaks of the lease, by someone who may."""
        document, dispute = fact.document, self._dispute
        if fact.id in {dispute.order, dispute.told.displaced_by, *self._offers}:
            return isinstance(document, Order | Offer)
        if getattr(document, "lease_id", None) == dispute.lease:
            return True
        if isinstance(document, Bid | Choice | Cancellation):
            return document.order_id == dispute.order
        if isinstance(document, Voucher):
            channel = self._channels.get(document.channel_id)
            return channel is not None and fact.signer == channel.payer_authorizer
        return self._is_around(fact, document)

    def _is_around(self, fact: Fact, document: AnyDocument) -> bool:
        if isinstance(document, Channel):
            return fact.id in self._channels and fact.signer == document.payer
        if isinstance(document, Mirror):
            is_ours = document.channel_id in self._channels
            return is_ours and fact.signer == self._operator
        if isinstance(document, Resume):
            return fact.signer == self._operator
        if isinstance(document, ProviderLost):
            is_ours = document.provider in self._providers
            return is_ours and fact.signer == self._operator
        is_tenant = self._order is not None and fact.signer == self._order.tenant
        if isinstance(document, Delegation):
            return fact.id == self._delegation and is_tenant
        if isinstance(document, Revocation):
            return document.delegation_id == self._delegation and is_tenant
        return False

    def _is_ours(self, channel: Channel) -> bool:
        return (
            self._order is not None
            and channel.payer == self._order.tenant
            and channel.receiver in self._providers
        )
