"""What an auditor says of others: Attestation. Anyone may; who is believed, orders say."""

from functools import partial

from sublet.base.errors import Refused
from sublet.base.limits import (
    ATTESTATIONS_PER_AUDITOR_MAX,
    CLOCK_SKEW_S_MAX,
    DOCUMENT_AGE_S_MAX,
)
from sublet.core.book.attestation import AttestationRecord
from sublet.core.book.book import Book
from sublet.core.book.change import Change
from sublet.core.book.outcome import Outcome
from sublet.core.document import Attestation, Fact
from sublet.core.wording import check_wording


def decide_attestation(
    book: Book, fact: Fact, attestation: Attestation, now_s: int
) -> Change:
    """Note what the signer vouches for; without attributes, take it back.

    Raises:
        Refused: ``self_attestation``, ``bad_wording``, ``attestation_expired``,
            ``stale_attestation``, ``unknown_attestation`` or ``too_many_attestations``.
    """
    if attestation.provider == fact.signer:
        raise Refused(
            "what a provider says of itself stands in its offer's attributes; an "
            "attestation is signed by somebody else",
            code="self_attestation",
            field="attestation.provider",
        )
    check_wording(attestation, whose="attestation")
    subject = (attestation.provider, attestation.machine)
    said = book.attestations.get(fact.signer, {})
    was = said.get(subject)
    if was is not None and attestation.signed_at_s < was.signed_at_s:
        raise Refused(
            "a later attestation of this signer stands already; sign a new one",
            code="stale_attestation",
            field="attestation.signed_at_s",
        )
    if not attestation.attributes:
        if was is None or not was.attributes:
            raise Refused(
                "there is nothing to revoke: this signer vouches for nothing of it",
                code="unknown_attestation",
                field="attestation.attributes",
            )
        return partial(_put, book, fact, attestation, now_s)
    if attestation.expires_at_s <= now_s:
        raise Refused(
            f"the attestation expired at {attestation.expires_at_s}; sign a later one",
            code="attestation_expired",
            field="attestation.expires_at_s",
        )
    standing = sum(record.expires_at_s > now_s for record in said.values())
    if was is None and standing >= ATTESTATIONS_PER_AUDITOR_MAX:
        raise Refused(
            f"an auditor may vouch for {ATTESTATIONS_PER_AUDITOR_MAX} providers or "
            "machines at one time; revoke one first",
            code="too_many_attestations",
        )
    return partial(_put, book, fact, attestation, now_s)


def _put(
    book: Book, fact: Fact, attestation: Attestation, now_s: int
) -> tuple[Outcome, ...]:
    subject = (attestation.provider, attestation.machine)
    said = {
        key: record
        for key, record in book.attestations.get(fact.signer, {}).items()
        if record.expires_at_s > now_s and key != subject
    }
    # One that is revoked is remembered for as long as an older one could still come.
    forget_at_s = now_s + DOCUMENT_AGE_S_MAX + CLOCK_SKEW_S_MAX
    said[subject] = AttestationRecord(
        auditor=fact.signer,
        provider=attestation.provider,
        machine=attestation.machine,
        attributes=attestation.attributes,
        expires_at_s=attestation.expires_at_s
        if attestation.attributes
        else forget_at_s,
        signed_at_s=attestation.signed_at_s,
    )
    book.attestations[fact.signer] = said
    book.fresh[attestation.provider] = None
    return ()
