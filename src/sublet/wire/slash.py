"""From a file of evidence to the call that takes a stake.

Documents and signatures stand in the file; which pairs the contract takes is said by
``core.stake.slashable``. Pure. Not here: sending (``workload.slashing``).
"""

from collections.abc import Mapping

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.base.ids import Address, Digest
from sublet.core.document import LeaseTerms, UsageRecord
from sublet.core.lease.contradiction import Contradiction
from sublet.core.rail.transaction import Call
from sublet.core.stake.slashable import StakeRefused, check_terms, check_usage
from sublet.wire import stake_call
from sublet.wire.codec import DocumentCodec, decode_signed
from sublet.wire.dispute import Judgement, Opened
from sublet.wire.stake_call import SignedTerms, SignedUsage
from sublet.wire.typed_data import Domain

# Two terms; or two readings, and the terms of their lease.
Proof = tuple[SignedTerms, SignedTerms] | tuple[SignedUsage, SignedUsage, SignedTerms]


class Slash(Struct, frozen=True):
    """Two documents that cost a stake."""

    market: Digest
    provider: Address
    lease_id: Digest
    first: Digest
    second: Digest
    proof: Proof

    def write(self, stake: Address) -> Call:
        """Write the call to a stake contract."""
        if len(self.proof) == 2:
            return stake_call.slash_terms(stake, self.market, *self.proof)
        return stake_call.slash_usage(stake, self.market, *self.proof)


def find_slash(opened: Opened, judgement: Judgement) -> Slash:
    """Find two documents in a file that the stake contract takes.

    Raises:
        Refused: ``no_contradiction`` or ``not_slashable``; the message says of each
            contradiction why the contract does not take it.
    """
    signed, reasons = _read_signed(opened), []
    for each in judgement.contradictions:
        try:
            return _make(each, signed, opened)
        except StakeRefused as refused:
            reasons.append(
                f"{each.first_where}, {each.second_where}: {refused.message}"
            )
    if not reasons:
        raise Refused(
            "no key contradicts itself in this file: there is nothing to slash for; for "
            "everything else there are arbiters: sublet dispute propose",
            code="no_contradiction",
        )
    raise Refused(
        "the stake contract takes none of the contradictions here (sublet dispute "
        f"propose shows them to arbiters): {'; '.join(reasons)}",
        code="not_slashable",
    )


_Signed = Mapping[Digest, SignedTerms | SignedUsage]


def _read_signed(opened: Opened) -> _Signed:
    """Collect terms and readings with their signatures; all were checked before."""
    dispute = opened.dispute
    domain = Domain.of(opened.market, dispute.market)
    codec = DocumentCodec(domain)
    found: dict[Digest, SignedTerms | SignedUsage] = {}

    def keep(id_: Digest, document: object, signature: bytes) -> None:
        if isinstance(document, LeaseTerms):
            found[id_] = SignedTerms(document, signature)
        elif isinstance(document, UsageRecord):
            found[id_] = SignedUsage(document, signature)

    for held in dispute.entries:
        entry = codec.read_entry(held.entry.encode())
        keep(entry.fact.id, entry.fact.document, entry.signature)
    for text in dispute.others:
        signed, id_, _ = decode_signed(text.encode(), domain=domain)
        keep(id_, signed.document, bytes.fromhex(signed.signature[2:]))
    return found


def _make(each: Contradiction, signed: _Signed, opened: Opened) -> Slash:
    first, second = signed.get(each.first), signed.get(each.second)
    proof: Proof
    if isinstance(first, SignedTerms) and isinstance(second, SignedTerms):
        check_terms(first.document, second.document)
        if {first.document.provider, second.document.provider} != {each.signer}:
            raise StakeRefused("its signer is not the provider that it names")
        proof = (first, second)
    elif isinstance(first, SignedUsage) and isinstance(second, SignedUsage):
        check_usage(first.document, second.document)
        terms = _find_terms(first.document.lease_id, each.signer, signed, opened)
        proof = (first, second, terms)
    else:
        raise StakeRefused(f"two {each.kind} are for arbiters to judge")
    return Slash(
        market=opened.dispute.market,
        provider=each.signer,
        lease_id=first.document.lease_id,
        first=each.first,
        second=each.second,
        proof=proof,
    )


def _find_terms(
    lease_id: Digest, signer: Address, signed: _Signed, opened: Opened
) -> SignedTerms:
    """Find the terms that say whose the lease is, by the same key."""
    by = {each.fact.id: each.fact.signer for each in opened.heard}
    by |= {each.id: each.signer for each in opened.others}
    for id_, found in signed.items():
        if not isinstance(found, SignedTerms) or found.document.lease_id != lease_id:
            continue
        if found.document.provider == by[id_] == signer:
            return found
    raise StakeRefused("the terms of the lease by the same key are not here")
