"""How fast one key may speak: nobody buries a market under documents that are each lawful.

Each (signer, kind) has a bucket: so many at once, and then so many a minute of the log's
own time. What the book takes counts, what it refuses changes nothing. The operator, who
admits the others, has none. Full buckets are forgotten: what is remembered is bounded by
what was taken in the last few minutes.

Not here: how fast one address may knock at a node (``node.rate``).
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.base.limits import (
    ATTESTATIONS_A_MINUTE,
    ATTESTATIONS_AT_ONCE,
    BIDS_A_MINUTE,
    BIDS_AT_ONCE,
    CHANNELS_A_MINUTE,
    CHANNELS_AT_ONCE,
    DELEGATIONS_A_MINUTE,
    DELEGATIONS_AT_ONCE,
    DOCUMENTS_A_MINUTE,
    DOCUMENTS_AT_ONCE,
    OFFERS_A_MINUTE,
    OFFERS_AT_ONCE,
    ORDERS_A_MINUTE,
    ORDERS_AT_ONCE,
)
from sublet.core.book.book import Book
from sublet.core.book.record import PaceRecord
from sublet.core.document import (
    Attestation,
    Bid,
    Channel,
    Delegation,
    Fact,
    Offer,
    Order,
)

_MINUTE_MS: Final = 60_000


class Pace(Struct, frozen=True):
    """How many documents of a kind one key may say."""

    at_once: int
    a_minute: int

    @property
    def apart_ms(self) -> int:
        """Milliseconds from one to the next, on average."""
        return _MINUTE_MS // self.a_minute


PACES: Mapping[type[Struct], Pace] = {
    Order: Pace(ORDERS_AT_ONCE, ORDERS_A_MINUTE),
    Bid: Pace(BIDS_AT_ONCE, BIDS_A_MINUTE),
    Offer: Pace(OFFERS_AT_ONCE, OFFERS_A_MINUTE),
    Attestation: Pace(ATTESTATIONS_AT_ONCE, ATTESTATIONS_A_MINUTE),
    Channel: Pace(CHANNELS_AT_ONCE, CHANNELS_A_MINUTE),
    Delegation: Pace(DELEGATIONS_AT_ONCE, DELEGATIONS_A_MINUTE),
}
ANY_KIND = Pace(DOCUMENTS_AT_ONCE, DOCUMENTS_A_MINUTE)


def check_pace(book: Book, fact: Fact, now_s: int) -> None:
    """Refuse one document too many of one key, before anything is sought for it.

    Raises:
        Refused: ``over_pace``, with the seconds to wait.
    """
    pace, now_ms = _pace_of(fact), now_s * 1_000
    ahead_ms = _full_at_ms(book, fact) - now_ms
    wait_ms = ahead_ms - (pace.at_once - 1) * pace.apart_ms
    if fact.signer == book.operator or wait_ms <= 0:
        return
    wait_s = -(-wait_ms // 1_000)
    raise Refused(
        f"one key may say {pace.at_once} {_kind_of(fact)} documents at once and "
        f"{pace.a_minute} a minute; wait {wait_s} s",
        code="over_pace",
        detail={"wait_s": wait_s},
    )


def note_pace(book: Book, fact: Fact) -> None:
    """Count a document that was taken; forget a bucket or two that are full again."""
    if fact.signer == book.operator:
        return
    now_ms, key = book.now_s * 1_000, (fact.signer, _kind_of(fact))
    full_at_ms = max(_full_at_ms(book, fact), now_ms) + _pace_of(fact).apart_ms
    book.paces.pop(key, None)
    book.paces[key] = PaceRecord(*key, full_at_ms)
    for _ in range(2):
        oldest = next(iter(book.paces.values()))
        if oldest.full_at_ms <= now_ms:
            del book.paces[oldest.signer, oldest.kind]


def _full_at_ms(book: Book, fact: Fact) -> int:
    record = book.paces.get((fact.signer, _kind_of(fact)))
    return 0 if record is None else record.full_at_ms


def _kind_of(fact: Fact) -> str:
    return type(fact.document).__name__


def _pace_of(fact: Fact) -> Pace:
    return PACES.get(type(fact.document), ANY_KIND)
