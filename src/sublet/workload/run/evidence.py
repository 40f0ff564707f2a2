"""What a provider says, checked before it counts. Pure.

Signatures, whose lease it is, whether the files are those that were asked for and
those that were hashed. What fails here is the provider's fault, with its evidence.
"""

from collections.abc import Mapping
from typing import TypeVar

from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import NO_DIGEST, Digest
from sublet.core.document import (
    Delivery,
    LeaseTerms,
    Offer,
    Order,
    Receipt,
    UsageRecord,
)
from sublet.core.lease.phase import Lease
from sublet.core.lease.piece import is_lease_of
from sublet.core.promise import find_unmet
from sublet.wire import codec
from sublet.wire.manifest import check_tree, count_bytes, egress_digest, tree_id
from sublet.wire.message import Ended, Metered, Missing, Signed, Terms, Tree
from sublet.wire.typed_data import Domain

T = TypeVar("T", UsageRecord, Receipt, LeaseTerms, Delivery)


def check_lease(lease: Lease, *, order: Order, order_id: Digest) -> None:
    """Check that a market granted what was ordered, and no worse.

    Raises:
        PeerFault: another lease, dearer, smaller, or somebody else's.
    """
    facts = {
        "id": lease.order == order_id and is_lease_of(lease.id, order_id),
        "tenant": lease.tenant == order.tenant,
        "manifest": lease.manifest == order.manifest,
        "ssh_key": lease.ssh_key == order.ssh_key,
        "price": lease.price_hour <= order.price_hour_max,
        "hold": lease.hold <= order.total_max,
        "duration": lease.duration_s <= order.duration_s_max,
        "cpus": lease.cpus_milli >= order.cpus_milli,
        "memory": lease.memory_bytes >= order.memory_bytes,
        "disk": lease.disk_bytes >= order.disk_bytes,
        "gpus": len(lease.gpu_uuids) >= order.gpu_count,
        "provider": lease.provider not in order.avoid,
    }
    if wrong := sorted(name for name, holds in facts.items() if not holds):
        raise PeerFault(
            f"the market granted another lease than was ordered: {', '.join(wrong)}",
            code="wrong_lease",
            detail={"lease": lease.id},
        )


def check_terms(said: Terms, *, lease: Lease, order: Order, domain: Domain) -> None:
    """Check that the provider promised what the market says, with its own signature.

    Until then nothing of the job is told: whoever answers with another host key than
    is in the provider's signed offer is not the provider.

    Raises:
        PeerFault: the market told each side something else (``market_lied``), or these
            are not this provider's words.
    """
    terms = _check_signed(said.terms, LeaseTerms, lease=lease, domain=domain)
    offer = said.offer.document
    try:
        offer_id, signer = codec.verify(said.offer, domain=domain)
    except Refused as fault:
        raise PeerFault(fault.message, code=fault.code) from fault
    if not isinstance(offer, Offer) or signer != lease.provider:
        raise PeerFault("this is not the provider's offer", code="wrong_document")
    facts = {
        "tenant": terms.tenant == lease.tenant,
        "price": terms.price_hour == lease.price_hour,
        "duration": terms.duration_s == lease.duration_s,
        "offer": terms.offer_id == lease.offer_id == offer_id,
        "host key": offer.ssh_host_key == lease.ssh_host_key,
        "gpus": set(lease.gpu_uuids) <= set(offer.gpu_uuids),
    }
    wrong = sorted(name for name, holds in facts.items() if not holds)
    if wrong := [*wrong, *find_unmet(offer, order)]:
        raise PeerFault(
            "the market told another lease than its provider has signed: "
            f"{', '.join(wrong)}",
            code="market_lied",
            detail={"lease": lease.id},
        )


def check_metered(said: Metered, *, lease: Lease, domain: Domain) -> UsageRecord:
    """Check a usage record's signature and lease.

    Raises:
        PeerFault: it is not this provider's word on this lease.
    """
    return _check_signed(said.record, UsageRecord, lease=lease, domain=domain)


def check_delivery(signed: Signed | None, *, lease: Lease, domain: Domain) -> Delivery:
    """Check a delivery's signature and lease.

    Raises:
        PeerFault: it is not this provider's word on this lease.
    """
    if signed is None:
        raise PeerFault("the provider signed no delivery", code="bad_delivery")
    return _check_signed(signed, Delivery, lease=lease, domain=domain)


def check_ended(said: Ended, *, lease: Lease, domain: Domain) -> Receipt:
    """Check a receipt's signature and lease, and that it hashes the tree that came.

    Raises:
        PeerFault: it is not this provider's word on this lease, or on other files.
    """
    receipt = _check_signed(said.receipt, Receipt, lease=lease, domain=domain)
    told = tree_id(said.outputs)
    if receipt.outputs != told and (receipt.outputs != NO_DIGEST or said.outputs.files):
        raise PeerFault(
            "the provider's files are not those that its receipt hashed",
            code="bad_output",
            detail={"receipt": receipt.outputs, "told": told},
        )
    if receipt.egress != egress_digest(said.egress):
        raise PeerFault(
            "the provider's list of whom the job reached is not what its receipt hashed",
            code="bad_egress",
            detail={"receipt": receipt.egress},
        )
    return receipt


def check_missing(said: Missing, sizes: Mapping[Digest, int]) -> int:
    """Check that a provider asks for the job's own chunks; give their bytes.

    Raises:
        PeerFault: it asks for something else.
    """
    if not sizes.keys() >= set(said.chunks):
        raise PeerFault(
            "the provider asks for chunks that are no part of the job",
            code="foreign_chunk",
        )
    return sum(sizes[key] for key in set(said.chunks))


def check_files(tree: Tree, *, asked: tuple[str, ...], bytes_max: int) -> None:
    """Check a tree that a provider sends: lawful, asked for, no larger than the disk.

    Args:
        tree: as it came.
        asked: paths that may come, with all below them; empty for anything.
        bytes_max: the disk that was rented.

    Raises:
        PeerFault: something else.
    """
    try:
        check_tree(tree)
    except Refused as fault:
        raise PeerFault(
            f"the provider sent a tree that no job can have made: {fault.message}",
            code="bad_output",
        ) from fault
    if count_bytes(tree) > bytes_max:
        raise PeerFault("more bytes than the job's disk holds", code="bad_output")
    for file in tree.files:
        if asked and not any(_is_below(file.path, path) for path in asked):
            raise PeerFault(
                f"the provider sent {file.path!r}, which nobody asked for",
                code="bad_output",
            )


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _check_signed(signed: Signed, kind: type[T], *, lease: Lease, domain: Domain) -> T:
    document = signed.document
    if not isinstance(document, kind):
        raise PeerFault(
            f"the provider sent a {type(document).__name__} for a {kind.__name__}",
            code="wrong_document",
        )
    try:
        _, signer = codec.verify(signed, domain=domain)
    except Refused as fault:
        raise PeerFault(fault.message, code=fault.code) from fault
    if signer != lease.provider or document.lease_id != lease.id:
        raise PeerFault(
            f"a {kind.__name__} of somebody else, or of another lease",
            code="wrong_signer",
            detail={"signer": signer, "lease": document.lease_id},
        )
    return document


def printable(text: str) -> str:
    """A stranger's words on one short line, without anything for a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)[:500]
