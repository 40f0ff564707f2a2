"""What a provider says of its machines: Offer, OfferWithdrawal."""

from functools import partial

from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.base.limits import (
    CLOCK_SKEW_S_MAX,
    GPU_SHARE_WHOLE,
    OFFERS_PER_PROVIDER_MAX,
)
from sublet.core.book.book import Book
from sublet.core.book.change import Change
from sublet.core.book.outcome import Outcome
from sublet.core.book.record import OfferRecord
from sublet.core.document import Fact, Offer, OfferWithdrawal
from sublet.core.wording import check_wording


def decide_offer(book: Book, fact: Fact, offer: Offer, now_s: int) -> Change:
    """Put a machine on offer, or replace what was offered of it.

    Leases keep what they use of the machine, even where the new offer is smaller.

    Raises:
        Refused: ``bad_offer``, ``bad_wording``, ``offer_expired``, ``unmet_provider``,
            ``stale_offer``, ``gpu_offered_twice`` or ``too_many_offers``.
    """
    _check_whole(offer)
    if offer.expires_at_s <= now_s:
        raise Refused(
            f"the offer expired at {offer.expires_at_s} and it is {now_s}; sign one "
            "that expires later",
            code="offer_expired",
            field="offer.expires_at_s",
        )
    if fact.signer not in book.providers:
        # Keys cost nothing: who fills the book with offers has to have been met at least.
        raise Refused(
            f"no node of this market has met {fact.signer}; link to one first, as the "
            "agent does, then offer",
            code="unmet_provider",
        )
    _check_newer(book, fact, offer, now_s)
    _check_others(book, fact, offer, now_s)
    return partial(_put, book, fact, offer, now_s)


def _check_whole(offer: Offer) -> None:
    if not offer.machine:
        raise Refused(
            "the offer names no machine; give it a name",
            code="bad_offer",
            field="offer.machine",
        )
    for field in ("cpus_milli", "memory_bytes"):
        if getattr(offer, field) < 1:
            raise Refused(
                f"offer.{field} is 0; nothing runs without",
                code="bad_offer",
                field=f"offer.{field}",
            )
    check_wording(offer, whose="offer")
    if len(set(offer.gpu_uuids)) != len(offer.gpu_uuids) or "" in offer.gpu_uuids:
        raise Refused(
            "the offer names one GPU twice, or one without a UUID; list each once",
            code="bad_offer",
            field="offer.gpu_uuids",
        )
    if bool(offer.gpu_model) != bool(offer.gpu_uuids):
        raise Refused(
            "the offer has a GPU model without GPUs, or GPUs without a model",
            code="bad_offer",
            field="offer.gpu_model",
        )
    if bool(offer.gpu_sharing) == (offer.gpu_share_milli == GPU_SHARE_WHOLE):
        raise Refused(
            f"the offer sells {offer.gpu_share_milli} thousandths of each GPU, shared by "
            f"{offer.gpu_sharing!r}; name a way of sharing where it sells less than "
            f"{GPU_SHARE_WHOLE}, and none where it sells whole ones",
            code="bad_offer",
            field="offer.gpu_sharing",
        )


def _check_newer(book: Book, fact: Fact, offer: Offer, now_s: int) -> None:
    """Nobody brings an owner's old price back by holding a document up for a while."""
    was = book.offers.find_machine(fact.signer, offer.machine)
    since_s = book.find_provider(fact.signer).withdrew_s
    if was is not None and was.is_live(now_s):
        since_s = max(since_s, was.offer.signed_at_s)
    if offer.signed_at_s < since_s - CLOCK_SKEW_S_MAX:
        raise Refused(
            f"the offer was signed at {offer.signed_at_s}, and what you offered or took "
            f"back since was signed at {since_s}; sign a new one",
            code="stale_offer",
            field="offer.signed_at_s",
        )


def _check_others(book: Book, fact: Fact, offer: Offer, now_s: int) -> None:
    """Look at the provider's other machines: their number, and whose the GPUs are."""
    wanted = set(offer.gpu_uuids)
    live_count = 0
    for other in book.offers.of_provider(fact.signer):
        if other.offer.machine == offer.machine:
            continue
        is_live = other.is_live(now_s)
        live_count += is_live
        if not wanted:
            continue
        taken = wanted & other.gpus_used
        if is_live:
            taken |= wanted & set(other.offer.gpu_uuids)
        if taken:
            raise Refused(
                f"GPU {min(taken)} belongs to the machine {other.offer.machine!r}; "
                "withdraw that offer, or leave the GPU out of this one",
                code="gpu_offered_twice",
                field="offer.gpu_uuids",
            )
    if live_count >= OFFERS_PER_PROVIDER_MAX:
        raise Refused(
            f"a provider may offer {OFFERS_PER_PROVIDER_MAX} machines at one time; "
            "withdraw one first",
            code="too_many_offers",
        )


def _put(book: Book, fact: Fact, offer: Offer, now_s: int) -> tuple[Outcome, ...]:
    provider = fact.signer
    was = book.offers.find_machine(provider, offer.machine)
    record = OfferRecord(id=fact.id, number=book.size, provider=provider, offer=offer)
    if was is not None:
        record = OfferRecord(
            id=fact.id,
            number=book.size,
            provider=provider,
            offer=offer,
            cpus_milli_used=was.cpus_milli_used,
            memory_bytes_used=was.memory_bytes_used,
            disk_bytes_used=was.disk_bytes_used,
            gpus_used=was.gpus_used,
            leases_used=was.leases_used,
        )
    book.offers.put(
        record,
        is_up=book.may_match(provider),
        now_s=now_s,
        lasts_s=book.find_provider(provider).lasts_s,
    )
    book.fresh[provider] = None
    return ()


def decide_withdrawal(
    book: Book, fact: Fact, withdrawal: OfferWithdrawal, now_s: int
) -> Change:
    """Take an offer back; leases go on.

    Raises:
        Refused: ``unknown_offer`` (never made, replaced, expired or withdrawn) or
            ``wrong_signer``.
    """
    record = book.offers.find(withdrawal.offer_id)
    if record is None or not record.is_live(now_s):
        raise Refused(
            f"no offer {withdrawal.offer_id} stands; it was replaced, withdrawn, has "
            "expired or was never made",
            code="unknown_offer",
            field="withdrawal.offer_id",
        )
    if record.provider != fact.signer:
        raise Refused(
            f"the offer is of {record.provider}, who alone may withdraw it",
            code="wrong_signer",
        )
    return partial(_withdraw, book, record)


def _withdraw(book: Book, record: OfferRecord) -> tuple[Outcome, ...]:
    provider = book.find_provider(record.provider)
    withdrew_s = max(provider.withdrew_s, record.offer.signed_at_s)
    book.providers[record.provider] = replace(provider, withdrew_s=withdrew_s)
    book.offers.withdraw(record.id)
    return ()
