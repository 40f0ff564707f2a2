"""The till: only vouchers that somebody would redeem are taken."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from sublet.base.errors import PeerFault
from sublet.core.document import AnyDocument, Voucher
from sublet.provider.till import Till
from sublet.wire.channel import channel_of
from sublet.wire.codec import sign
from sublet.wire.message import Paid, Signed
from sublet.wire.signature import Key
from sublet.wire.typed_data import digest
from tests.fakes.world import World, make_key
from tests.unit.provider.lease_maker import make_lease

WORLD = World()
TENANT = WORLD.tenant
PROVIDER = WORLD.providers[0]
LEASE = make_lease(tenant=TENANT.address, provider=PROVIDER.address)
DELEGATE = make_key("delegate")


def _till(folder: Path) -> Till:
    return Till(
        folder, market=WORLD.market, domain=WORLD.domain, provider=PROVIDER.address
    )


def _sign(document: AnyDocument, key: Key) -> Signed:
    return sign(document, key=key, domain=WORLD.domain)


def _pay(
    amount: int,
    *,
    key: Key = TENANT,
    provider: Key = PROVIDER,
    has_channel: bool = True,
    authorizer: Key | None = None,
) -> Paid:
    channel = channel_of(
        WORLD.market,
        WORLD.market_id,
        tenant=TENANT.address,
        provider=provider.address,
        authorizer=authorizer.address if authorizer else None,
    )
    voucher = Voucher(
        channel_id=digest(channel, WORLD.domain), max_claimable_amount=amount
    )
    return Paid(
        voucher=_sign(voucher, key),
        channel=_sign(channel, key) if has_channel else None,
    )


def test_keeps_the_highest_voucher(tmp_path: Path) -> None:
    till = _till(tmp_path)
    totals = [till.take(LEASE, _pay(amount)) for amount in (5, 9, 7, 9)]
    assert totals == [5, 9, 9, 9]
    assert _till(tmp_path).total(LEASE) == 9  # survives this process


def test_hands_in_each_voucher_once(tmp_path: Path) -> None:
    till, given = _till(tmp_path), list[Signed]()
    till.hand_in(LEASE, given.append)
    assert given == []
    till.take(LEASE, _pay(5))
    for _ in range(2):
        till.hand_in(LEASE, given.append)
    assert [type(each.document).__name__ for each in given] == ["Channel", "Voucher"]
    till.take(LEASE, _pay(6, has_channel=False))
    _till(tmp_path).hand_in(LEASE, given.append)  # after a restart, too
    assert [type(each.document).__name__ for each in given[2:]] == ["Voucher"]


@pytest.mark.parametrize(
    ("paid", "code"),
    [
        (_pay(5, key=make_key("somebody")), "wrong_signer"),
        (_pay(5, provider=make_key("another")), "bad_voucher"),
        (_pay(5, has_channel=False), "bad_voucher"),  # the first one needs it
        (Paid(voucher=_pay(5).channel), "bad_voucher"),  # type: ignore[arg-type]
    ],
)
def test_refuses_worthless_paper(tmp_path: Path, paid: Paid, code: str) -> None:
    till = _till(tmp_path)
    with pytest.raises(PeerFault) as error:
        till.take(LEASE, paid)
    assert error.value.code == code
    assert till.total(LEASE) == 0


def test_delegated_lease_has_a_drawer_of_its_own(tmp_path: Path) -> None:
    delegated = replace(LEASE, delegation="0x" + "d" * 64, delegate=DELEGATE.address)
    till = _till(tmp_path)
    own = _pay(5)
    till.take(LEASE, own)
    paid = Paid(
        voucher=_pay(3, key=DELEGATE, authorizer=DELEGATE).voucher,
        channel=_pay(3, authorizer=DELEGATE).channel,  # the tenant opens it
    )
    assert till.take(delegated, paid) == 3
    assert (till.total(LEASE), till.total(delegated)) == (5, 3)
    for wrong in (own, _pay(9, authorizer=DELEGATE)):  # the tenant signs none of these
        with pytest.raises(PeerFault):
            till.take(delegated, wrong)
    assert _till(tmp_path).total(delegated) == 3
