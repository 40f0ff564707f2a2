"""The till: vouchers that tenants signed, checked, kept, and handed in.

One drawer a channel, one file a drawer, so that an agent that is killed still knows
what it was paid. Only the highest voucher counts; it goes to the market together with
the usage records, behind the channel that it draws on.

Not here: what is owed (``account``), when a job is stopped for not paying (``meter``).
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sublet.base.errors import PeerFault, Unavailable
from sublet.base.ids import Address, Digest
from sublet.core.document import Channel, Market, Voucher
from sublet.core.lease.phase import Lease
from sublet.provider.account import Line
from sublet.provider.record import write_atomic
from sublet.service.claimer import BestVoucher
from sublet.wire import codec
from sublet.wire.channel import channel_of
from sublet.wire.message import Paid, Signed
from sublet.wire.typed_data import Domain, digest

PutDocument = Callable[[Signed], None]


class BadVoucher(PeerFault):
    """The tenant paid with something that nobody would redeem."""

    code = "bad_voucher"


class Drawer(Struct, frozen=True):
    """What a tenant, or its delegate, has signed. Amounts in micro-USD, for the whole channel."""

    total: int = 0  # of the highest voucher
    voucher: Signed | None = None
    channel: Signed | None = None
    handed_in: int = 0  # the highest total that the market was given


class Till:
    """All drawers of one provider in one market."""

    def __init__(
        self, folder: Path, *, market: Market, domain: Domain, provider: Address
    ) -> None:
        """Take the folder and the channel's ends; nothing is read yet."""
        self._folder = folder
        self._market = market
        self._domain = domain
        self._provider = provider
        self._drawers: dict[Line, Drawer] = {}

    def total(self, lease: Lease) -> int:
        """Say what the highest voucher of a lease's channel amounts to, micro-USD."""
        return self._open(lease.line).total

    def take(self, lease: Lease, paid: Paid) -> int:
        """Check a payment and keep it; give the channel's total after it.

        A voucher that is not higher than the last one is kept out, and harmless.

        Raises:
            BadVoucher: of another channel, or not signed by who signs for this lease.
            PeerFault: the signature is none.
            Unavailable: the disk is full or did not answer.
        """
        drawer = self._open(lease.line)
        if paid.channel is not None and drawer.channel is None:
            self.check_channel(lease, paid.channel)
            drawer = replace(drawer, channel=paid.channel)
        voucher = paid.voucher.document
        if not isinstance(voucher, Voucher) or voucher.channel_id != digest(
            self.channel(lease), self._domain
        ):
            raise BadVoucher("the voucher is not one of this pair's channel")
        self._check_signer(paid.voucher, lease.authorizer)
        if drawer.channel is None:
            raise BadVoucher("the first voucher comes with its signed channel")
        if voucher.max_claimable_amount > drawer.total:
            drawer = replace(
                drawer, total=voucher.max_claimable_amount, voucher=paid.voucher
            )
        self._close(lease.line, drawer)
        return drawer.total

    def check_channel(self, lease: Lease, signed: Signed) -> Channel:
        """Check that a lease's tenant signed the channel of this pair; give it.

        Raises:
            BadVoucher: it is another one, or another one's.
            PeerFault: the signature is none.
        """
        self._check_signer(signed, lease.tenant)
        channel = self.channel(lease)
        if signed.document != channel:
            raise BadVoucher("the channel is not the one of this pair")
        return channel

    def best_vouchers(self) -> dict[Digest, BestVoucher]:
        """Give the best voucher of each channel, by the channel's id; blocks.

        Raises:
            Unavailable: a drawer cannot be read.
        """
        best: dict[Digest, BestVoucher] = {}
        for path in sorted(self._folder.glob("0x*.json")):
            drawer = _read(path)
            if drawer.voucher is None or drawer.channel is None:
                continue
            channel = drawer.channel.document
            assert isinstance(channel, Channel)  # it was checked when it came
            signature = bytes.fromhex(drawer.voucher.signature[2:])
            best[digest(channel, self._domain)] = BestVoucher(
                channel, drawer.total, signature
            )
        return best

    def hand_in(self, lease: Lease, put: PutDocument) -> None:
        """Give the highest voucher to the market, where it has not had it yet.

        Raises:
            Unavailable: the disk is full or did not answer.
        """
        drawer = self._open(lease.line)
        if drawer.voucher is None or drawer.handed_in >= drawer.total:
            return
        if drawer.handed_in == 0 and drawer.channel is not None:
            put(drawer.channel)
        put(drawer.voucher)
        self._close(lease.line, replace(drawer, handed_in=drawer.total))

    def _check_signer(self, signed: Signed, expected: Address) -> None:
        _, signer = codec.verify(signed, domain=self._domain)
        if signer != expected:
            raise BadVoucher(
                f"signed by {signer}, not by {expected}", code="wrong_signer"
            )

    def channel(self, lease: Lease) -> Channel:
        """Name the channel that pays a lease."""
        return channel_of(
            self._market,
            self._domain.market,
            tenant=lease.tenant,
            provider=self._provider,
            authorizer=lease.authorizer,
        )

    def _open(self, line: Line) -> Drawer:
        if line not in self._drawers:
            self._drawers[line] = _read(self._path(line))
        return self._drawers[line]

    def _close(self, line: Line, drawer: Drawer) -> None:
        if drawer == self._drawers.get(line):
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(self._path(line), msgspec.json.encode(drawer))
        self._drawers[line] = drawer

    def _path(self, line: Line) -> Path:
        payer, _, authorizer = line
        name = payer if authorizer == payer else f"{payer}-{authorizer}"
        return self._folder / f"{name}.json"


def _read(path: Path) -> Drawer:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Drawer)
    except FileNotFoundError:
        return Drawer()
    except (OSError, msgspec.MsgspecError) as exc:
        raise Unavailable(f"cannot read {path}: {exc}", code="disk_failed") from exc
