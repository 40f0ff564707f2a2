"""What every chain must do: one suite for the fake and a real EVM."""

from collections.abc import AsyncIterator

import pytest

from sublet.base.errors import Unavailable
from sublet.core.rail.transaction import Call
from sublet.service.chain_port import NotTaken, Reverted
from sublet.wire.signature import Key
from sublet.wire.transaction import compute_contract
from tests.rig.chains import KINDS, Lent, lend_chain

KEY = Key.generate(b"\x01" * 32)
POOR = Key.generate(b"\x02" * 32)
WORD = "0x" + "07" * 32
OTHER = "0x" + "08" * 32
SAYING = b"\x07" * 40


@pytest.fixture(params=KINDS)
async def lent(request: pytest.FixtureRequest) -> AsyncIterator[Lent]:
    async with lend_chain(request.param) as lent:
        lent.hand.fund(KEY.address)
        yield lent


async def test_blocks_form_a_chain(lent: Lent) -> None:
    lent.hand.mine(2)
    newest = await lent.chain.block()
    assert newest is not None and newest.number >= 2
    before = await lent.chain.block(newest.number - 1)
    assert before is not None and before.hash == newest.parent
    assert before.time_s <= newest.time_s
    assert await lent.chain.block(newest.number + 5) is None


async def test_time_is_the_chains(lent: Lent) -> None:
    before = await lent.chain.block()
    lent.hand.pass_time(86_400)
    after = await lent.chain.block()
    assert before is not None and after is not None
    assert 86_400 <= after.time_s - before.time_s < 2 * 86_400


async def test_contract_comes_from_a_transaction(lent: Lent) -> None:
    address = await lent.deploy_echo(KEY)
    assert address == compute_contract(KEY.address, 0)
    assert await lent.chain.code(address)
    assert not await lent.chain.code(POOR.address)
    assert await lent.chain.call(Call(address, SAYING)) == SAYING
    assert await lent.chain.nonce(KEY.address) == 1


async def test_says_where_a_transaction_stands(lent: Lent) -> None:
    address = await lent.deploy_echo(KEY)
    had = await lent.chain.balance(KEY.address)
    signed = await lent.sign(KEY, Call(address, SAYING))
    receipt = await lent.send(signed)
    assert receipt.is_success and receipt.transaction == signed.hash
    block = await lent.chain.block(receipt.block_number)
    assert block is not None and block.hash == receipt.block_hash
    paid = receipt.gas_used * receipt.gas_price_wei
    assert await lent.chain.balance(KEY.address) == had - paid
    assert await lent.chain.receipt(WORD) is None


async def test_failed_transaction_is_mined_too(lent: Lent) -> None:
    address = await lent.deploy_echo(KEY)
    signed = await lent.sign(KEY, Call(address))
    receipt = await lent.send(signed)
    assert not receipt.is_success
    assert await lent.chain.nonce(KEY.address) == 2


async def test_gives_events_in_order(lent: Lent) -> None:
    address = await lent.deploy_echo(KEY)
    for saying in (SAYING, b"\x08" * 32, SAYING + b"2"):
        signed = await lent.sign(KEY, Call(address, saying))
        await lent.send(signed)
    newest = await lent.chain.block()
    assert newest is not None
    span = {"first": 0, "last": newest.number}
    logs = await lent.chain.logs(address, [], **span)
    assert [log.data[:1] for log in logs] == [b"\x07", b"\x08", b"\x07"]
    logs = await lent.chain.logs(address, [[WORD]], **span)
    assert [log.data for log in logs] == [SAYING, SAYING + b"2"]
    assert len(await lent.chain.logs(address, [[WORD, OTHER]], **span)) == 3
    assert await lent.chain.logs(POOR.address, [], **span) == ()
    last = await lent.chain.logs(address, [], first=newest.number, last=newest.number)
    assert [log.transaction for log in last] == [signed.hash]


async def test_refused_call_changes_nothing(lent: Lent) -> None:
    address = await lent.deploy_echo(KEY)
    with pytest.raises(Reverted):
        await lent.chain.call(Call(address))
    with pytest.raises(Reverted):
        await lent.chain.estimate(Call(address), sender=KEY.address)
    gas = await lent.chain.estimate(Call(address, SAYING), sender=KEY.address)
    assert 21_000 < gas < 100_000
    assert await lent.chain.nonce(KEY.address) == 1


async def test_same_transaction_twice_is_one(lent: Lent) -> None:
    address = await lent.deploy_echo(KEY)
    lent.hand.set_automine(on=False)
    signed = await lent.sign(KEY, Call(address, SAYING))
    assert await lent.chain.send(signed.raw) == signed.hash
    assert await lent.chain.send(signed.raw) == signed.hash
    assert await lent.chain.receipt(signed.hash) is None
    lent.hand.mine(2)
    newest = await lent.chain.block()
    assert newest is not None
    assert len(await lent.chain.logs(address, [], first=0, last=newest.number)) == 1


async def test_better_offer_replaces(lent: Lent) -> None:
    address = await lent.deploy_echo(KEY)
    lent.hand.set_automine(on=False)
    first = await lent.sign(KEY, Call(address, SAYING))
    await lent.chain.send(first.raw)
    little = await lent.sign(KEY, Call(address, SAYING + b"2"))
    with pytest.raises(NotTaken) as refused:
        await lent.chain.send(little.raw)
    assert refused.value.code == "underpriced"
    more = await lent.sign(KEY, Call(address, SAYING), percent=120)
    await lent.chain.send(more.raw)
    lent.hand.mine()
    assert await lent.chain.receipt(first.hash) is None
    assert await lent.chain.receipt(more.hash) is not None


async def test_says_why_it_does_not_take(lent: Lent) -> None:
    address = await lent.deploy_echo(KEY)
    used = await lent.sign(KEY, Call(address, SAYING), nonce=0)
    poor = await lent.sign(POOR, Call(address, SAYING))
    for signed, code in ((used, "nonce_used"), (poor, "no_gas_money")):
        with pytest.raises(NotTaken) as refused:
            await lent.chain.send(signed.raw)
        assert refused.value.code == code


async def test_what_happened_may_not_have(lent: Lent) -> None:
    address = await lent.deploy_echo(KEY)
    signed = await lent.sign(KEY, Call(address, SAYING))
    await lent.send(signed)
    gone = await lent.chain.block()
    assert gone is not None
    lent.hand.reorg(1)
    assert await lent.chain.receipt(signed.hash) is None
    assert await lent.chain.nonce(KEY.address) == 1
    newest = await lent.chain.block()
    assert newest is not None
    assert newest.number == gone.number and newest.hash != gone.hash
    assert await lent.chain.logs(address, [], first=0, last=newest.number) == ()
    with pytest.raises(Unavailable) as moved:
        await lent.chain.call(Call(address, SAYING), at=gone)
    assert moved.value.code == "chain_moved"


async def test_remembers_older_states(lent: Lent) -> None:
    before = await lent.chain.block()
    assert before is not None
    address = await lent.deploy_echo(KEY)
    lent.hand.mine()
    assert await lent.chain.call(Call(address, SAYING), at=before) == b""
    assert await lent.chain.nonce(KEY.address, at=before.number) == 0
    assert await lent.chain.nonce(KEY.address) == 1


async def test_fees_get_it_mined(lent: Lent) -> None:
    fees = await lent.chain.fees()
    block = await lent.chain.block()
    assert block is not None
    assert fees.max_wei >= block.base_fee_wei + fees.tip_wei > fees.tip_wei > 0
