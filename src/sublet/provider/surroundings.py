"""What every lease of one provider shares: keys, ports, the till, the outbox."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sublet.adapter.seal import SealKey
from sublet.base.ids import Address
from sublet.core.document import AnyDocument
from sublet.core.lease.phase import Lease
from sublet.provider import meter
from sublet.provider.cashier import Cashier
from sublet.provider.config import Config
from sublet.provider.journal import Journal
from sublet.provider.outbox import Outbox
from sublet.provider.record import LeaseFolder, LeaseRecord
from sublet.provider.sandboxes import Sandboxes
from sublet.provider.scratches import Scratches
from sublet.provider.till import Till
from sublet.service.image_port import Image
from sublet.service.ports import Bind, Clock, Probe
from sublet.wire import codec
from sublet.wire.message import Manifest, Signed
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain

SALT_BITS = 63


@dataclass(frozen=True)
class Program:
    """A job ready to be started: what to execute, with what around it."""

    argv: tuple[str, ...]
    env: dict[str, str]
    binds: tuple[Bind, ...] = ()
    environment: str = ""  # host folder of installed dependencies that it needs
    image: Image | None = None  # whose root it has, and whose user it is
    directory: str = ""  # where it starts; "" for its work folder


Say = Callable[[str], None]  # one line for the tenant, while it waits
Install = Callable[[Manifest, LeaseFolder, int, Say], Awaitable[Program]]  # uid: job's


@dataclass(frozen=True)
class Surroundings:
    """Given to each runner; nothing in it belongs to one lease."""

    home: Path
    key: Key
    domain: Domain
    config: Config
    report_s: int  # the market's: longest silence while a job runs
    sandboxes: Sandboxes
    scratches: Scratches
    clock: Clock
    journal: Journal
    outbox: Outbox
    till: Till
    seal_key: SealKey
    install: Install
    images: Probe  # whether jobs can run in images of their own here
    records: Callable[[], Sequence[LeaseRecord]]  # all leases, oldest first
    cashier: Cashier | None  # on the escrow rail
    paid: Callable[[Lease], int]  # what the lease's channel has paid, micro-USD

    @property
    def address(self) -> Address:
        """Who this provider is."""
        return self.key.address

    def sign(self, document: AnyDocument) -> Signed:
        """Sign a document in this market's domain."""
        return codec.sign(document, key=self.key, domain=self.domain)

    def channel_total(self, record: LeaseRecord) -> int:
        """What a voucher must say at least to cover this lease, in micro-USD."""
        return meter.total_of(
            record, records=self.records(), channel_paid=self.paid(record.lease)
        )

    def unpaid_s(self, record: LeaseRecord) -> int:
        """How many seconds of this lease no voucher covers."""
        return meter.unpaid_s(
            record,
            records=self.records(),
            channel_paid=self.paid(record.lease),
            vouched=self.till.total(record.lease),
        )

    def put(self, document: AnyDocument) -> Signed:
        """Sign a document and queue it for the log."""
        signed = self.sign(document)
        self.outbox.put(signed)
        return signed


def draw_salt() -> int:
    """Draw what makes two equal documents two."""
    return secrets.randbits(SALT_BITS)
