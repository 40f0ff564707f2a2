"""Follow a market by its public log alone: fold the entries, take a picture.

It trusts the node that it reads from; who does not runs ``sublet audit``.
"""

from collections import deque

from sublet.base.ids import Address
from sublet.console.event import describe, short
from sublet.console.picture import EventLine, LeaseLine, Picture, ProviderLine
from sublet.core.book import view
from sublet.core.book.book import Book
from sublet.core.book.step import step
from sublet.core.document import Offer
from sublet.core.lease.phase import Lease, Phase
from sublet.wire.codec import DocumentCodec

EVENTS_KEPT = 200
LEASES_KEPT = 50


class Watch:
    """What a reader of the log knows so far."""

    def __init__(self, *, url: str) -> None:
        """Begin before the first entry; ``url`` is only shown."""
        self.url = url
        self.book = Book()  # as folded so far; for readers
        self._codec = DocumentCodec()
        self._machine_of: dict[Address, str] = {}
        self._events: deque[EventLine] = deque(maxlen=EVENTS_KEPT)

    @property
    def size(self) -> int:
        """Entries folded."""
        return self.book.size

    def take(self, body: bytes) -> list[EventLine]:
        """Fold the next entry; give what it is worth telling.

        Raises:
            PeerFault: the bytes are not an entry.
        """
        index = self.size
        fact = self._codec.read_entry(body).fact
        done = step(self.book, fact)
        if isinstance(fact.document, Offer) and done.refusal is None:
            self._machine_of[fact.signer] = fact.document.machine
        events = [
            EventLine(at_s=fact.at_s, index=index, text=text)
            for text in describe(fact, done, name_of=self._name_of)
        ]
        self._events.extend(events)
        return events

    def picture(self, *, now_s: int) -> Picture:
        """Give the market as it is after the last entry."""
        book = self.book
        over = (*book.settled.values(), *book.unerased.values())
        leases = [*over, *book.leases.values()][-LEASES_KEPT:]
        return Picture(
            name=book.market.name if book.market else "an empty market",
            url=self.url,
            now_s=now_s,
            size=book.size,
            providers=tuple(self._provider_line(offer) for offer in view.offers(book)),
            leases=tuple(_lease_line(lease, now_s=now_s) for lease in reversed(leases)),
            events=tuple(self._events),
        )

    def _name_of(self, party: Address) -> str:
        if party == self.book.operator:
            return "the operator"
        return self._machine_of.get(party) or short(party)

    def _provider_line(self, offer: view.OfferView) -> ProviderLine:
        leases = self.book.open_of_provider.get(offer.provider, {})
        return ProviderLine(
            machine=offer.machine,
            provider=offer.provider,
            is_up=offer.is_up,
            region=offer.region,
            cpus_milli_free=offer.cpus_milli_free,
            cpus_milli=offer.cpus_milli,
            memory_bytes_free=offer.memory_bytes_free,
            memory_bytes=offer.memory_bytes,
            gpu_model=offer.gpu_model,
            gpus_free=offer.gpus_free,
            gpus=offer.gpus,
            cpu_price_hour=offer.cpu_price_hour,
            memory_price_hour=offer.memory_price_hour,
            gpu_price_hour=offer.gpu_price_hour,
            leases_open=sum(
                self.book.leases[i].machine == offer.machine for i in leases
            ),
            earned=view.account(self.book, offer.provider).earned,
        )


def _lease_line(lease: Lease, *, now_s: int) -> LeaseLine:
    # Between two readings the clock shows what ran; the bill shows what was read.
    ran_ms = lease.ran_ms
    if lease.phase is Phase.RUNNING:
        ran_ms = max(ran_ms, (now_s - lease.started_at_s) * 1_000)
    return LeaseLine(
        id=lease.id,
        machine=lease.machine,
        phase=lease.phase.value,
        ran_ms=ran_ms,
        secured_ms=lease.secured_ms,
        price_hour=lease.price_hour,
        owed=lease.paid if lease.phase is Phase.SETTLED else lease.owed,
        reason=lease.reason,
        fault=lease.fault.value,
    )
