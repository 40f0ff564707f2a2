"""From a file of evidence to a provider's stake: what is taken, and what is left alone."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from sublet.adapter.chain_place import ChainPlace
from sublet.adapter.devchain import CHAIN_ID, DevChain
from sublet.adapter.escrow_chain import find_balance
from sublet.adapter.json_rpc import JsonRpc
from sublet.base.errors import Refused
from sublet.cli.dispute import app, write_dispute
from sublet.core.document import AnyDocument, LeaseTerms
from sublet.core.lease.phase import Lease
from sublet.provider.staking import Staking
from sublet.wire.codec import encode, sign
from sublet.wire.dispute import judge, open_dispute
from sublet.wire.signature import Key
from sublet.wire.slash import Slash, find_slash
from sublet.wire.typed_data import digest
from tests.fakes.log_memory import FakeLog
from tests.fakes.world import World, make_key
from tests.integration.dispute_house import (
    LEASE,
    MADE_S,
    WORLD,
    changed,
    collect,
    play,
    two_leases,
)
from tests.rig.anvil import need_anvil

DOLLAR = 1_000_000
DAY_S = 86_400

# ---- which documents count ---------------------------------------------------------

PROVIDER = WORLD.key_of(LEASE.provider)


def _add(document: AnyDocument, key: Key = PROVIDER, *, world: World = WORLD) -> str:
    return encode(sign(document, key=key, domain=world.domain)).decode()


def _find(*others: str) -> Slash:
    opened = open_dispute(changed(others=others))
    return find_slash(opened, judge(opened))


def _terms(**changes: object) -> LeaseTerms:
    document = WORLD.terms(LEASE).document
    assert isinstance(document, LeaseTerms)
    return replace(document, **changes)


def test_two_terms_are_found() -> None:
    other = _terms(price_hour=LEASE.price_hour + 1)
    found = _find(_add(other))
    assert (found.provider, found.lease_id) == (LEASE.provider, LEASE.id)
    assert found.second == digest(other, WORLD.domain)
    assert len(found.proof) == 2


def test_two_readings_come_with_the_terms_of_their_lease() -> None:
    other = WORLD.usage(LEASE, ran_ms=5_000, sequence=1).document
    found = _find(_add(other))
    assert len(found.proof) == 3
    terms = found.proof[-1].document
    assert (terms.lease_id, terms.provider) == (LEASE.id, LEASE.provider)


@pytest.mark.parametrize(
    ("others", "code", "why"),
    [
        (lambda: (), "no_contradiction", "nothing to slash"),
        (
            lambda: (_add(_terms(price_hour=1, signed_at_s=WORLD.clock.at_s + 900)),),
            "not_slashable",
            "more than 300 s apart",
        ),
        (
            lambda: (_add(_terms(provider="0x" + "77" * 20)),),
            "not_slashable",
            "do not contradict",  # the contract looks at other members alone
        ),
        (
            lambda: (_add(_terms(price_hour=1, provider="0x" + "77" * 20)),),
            "not_slashable",
            "not the provider that it names",
        ),
        (
            lambda: (_add(WORLD.receipt(LEASE, ran_ms=9).document),),
            "not_slashable",
            "for arbiters to judge",
        ),
        (
            lambda: (_add(_terms(price_hour=1), make_key("nobody")),),
            "no_contradiction",
            "nothing to slash",
        ),
    ],
)
def test_what_the_contract_would_not_take_is_not_sent(
    others: Callable[[], tuple[str, ...]], code: str, why: str
) -> None:
    with pytest.raises(Refused, match=why) as refused:
        _find(*others())
    assert refused.value.code == code


# ---- on a chain --------------------------------------------------------------------


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


class Stage:
    """A chain, a provider with a stake, and the evidence of one of its leases."""

    def __init__(self, chain: DevChain, folder: Path) -> None:
        self.chain = chain
        self.folder = folder
        self.world = World(chain_id=CHAIN_ID, contract=chain.escrow)
        self.options = ("--rpc", chain.rpc_url)
        self.stake = ("--stake", chain.stake)

    async def set_up(self) -> None:
        log = FakeLog()
        self.lease: Lease = await play(two_leases, self.world, log)
        self.gathered = collect(log, self.lease.id)
        self.provider = self.world.key_of(self.lease.provider)
        await self.chain.fund(self.provider.address, usdc=100 * DOLLAR)
        home = self.folder / "provider"
        home.mkdir()
        self.staking = Staking(
            home,
            ChainPlace(rpc=(self.chain.rpc_url,), confirmations=0),
            self.chain.chain,
            key=self.provider,
            at=self.chain.stake,
        )
        await self.staking.put(100 * DOLLAR)

    def write_evidence(self, *others: str) -> Path:
        raw = write_dispute(
            self.gathered, key=self.world.tenant, made_at_s=MADE_S, others=others
        )
        place = self.folder / "evidence.json"
        place.write_bytes(raw)
        return place

    async def make_key(self, key: Key, name: str) -> tuple[str, Path]:
        """Lay a key with money for gas; give the option that names it."""
        await self.chain.fund(key.address, usdc=0)
        place = self.folder / name / "key"
        place.parent.mkdir()
        place.write_text(key.to_hex())
        place.chmod(0o600)
        return "--key", place

    async def pass_s(self, seconds: int) -> None:
        async with JsonRpc([self.chain.rpc_url]) as rpc:
            for method, given in (("evm_increaseTime", (seconds,)), ("evm_mine", ())):
                await rpc.ask(method, given, lambda _: None, examine=lambda _: None)

    async def balance(self, key: Key) -> int:
        return await find_balance(self.chain.chain, self.chain.token, key.address)


@pytest.mark.timeout(300)
async def test_stranger_slashes_who_contradicts_itself(tmp_path: Path) -> None:
    need_anvil()
    async with DevChain(tmp_path / "chain") as chain:
        stage = Stage(chain, tmp_path)
        await stage.set_up()
        await stage.staking.unbond(40 * DOLLAR)
        view = await stage.staking.read()
        assert (view.bonded, view.unbonding, view.wallet) == (
            60 * DOLLAR,
            40 * DOLLAR,
            0,
        )
        with pytest.raises(Refused, match="at risk"):
            await stage.staking.withdraw()

        terms = stage.world.terms(stage.lease).document
        assert isinstance(terms, LeaseTerms)
        dearer = replace(terms, price_hour=terms.price_hour + 1)
        file = stage.write_evidence(_add(dearer, stage.provider, world=stage.world))
        key = await stage.make_key(make_key("stranger"), "stranger")
        where = (*stage.options, *stage.stake, *key)
        said = json.loads(await asyncio.to_thread(run, "slash", file, *where, "--json"))
        # What was asked back was at risk to the last.
        assert (said["awarded"], said["burnt"]) == (50 * DOLLAR, 50 * DOLLAR)
        assert said["tenant"] == stage.lease.tenant
        with pytest.raises(Refused) as refused:
            await asyncio.to_thread(run, "slash", file, *where)
        assert refused.value.code == "nothing_left"
        await _check_award(stage, said["award"], where)


async def _check_award(stage: Stage, award: int, where: tuple[object, ...]) -> None:
    pay = ("collect", award, *where, "--chain-id", CHAIN_ID)
    with pytest.raises(Refused) as refused:
        await asyncio.to_thread(run, *pay)
    assert refused.value.code == "too_early"
    await stage.pass_s(7 * DAY_S)
    assert "$50.00" in await asyncio.to_thread(run, *pay)
    assert await stage.balance(stage.world.tenant) == 50 * DOLLAR
    with pytest.raises(Refused) as refused:
        await stage.staking.withdraw()
    assert refused.value.code == "not_unbonding"
    view = await stage.staking.read()
    assert (view.bonded, view.unbonding, view.awarded) == (0, 0, 0)


@pytest.mark.timeout(300)
async def test_arbiters_take_a_part_after_an_appeal(tmp_path: Path) -> None:
    need_anvil()
    async with DevChain(tmp_path / "chain") as chain:
        stage = Stage(chain, tmp_path)
        await stage.set_up()
        file = stage.write_evidence()
        tenant = await stage.make_key(stage.world.tenant, "tenant")
        case = tmp_path / "case.json"
        propose = ("propose", file, "--amount", "30.00", "-o", case)
        await asyncio.to_thread(run, *propose, *tenant, *stage.options, *stage.stake)
        keys = [tmp_path / "chain" / f"arbiter-{number}" for number in (1, 2, 3)]
        copies = [tmp_path / f"case-{number}.json" for number in (1, 2, 3)]
        for key, copy in zip(keys, copies, strict=True):
            shutil.copy(case, copy)
            await asyncio.to_thread(run, "sign", copy, file, "--key", key)
        other = tmp_path / "other.json"
        other.write_bytes(file.read_bytes() + b" ")
        with pytest.raises(Refused, match="is not the evidence"):
            await asyncio.to_thread(run, "sign", copies[0], other, "--key", keys[0])

        send = (*tenant, *stage.options)
        with pytest.raises(Refused, match="1 arbiters"):
            await asyncio.to_thread(run, "open", copies[0], *send)
        await asyncio.to_thread(run, "open", *copies[:2], *send)
        [found] = (await stage.staking.read()).cases
        assert (found.amount, found.tenant) == (30 * DOLLAR, stage.lease.tenant)
        await stage.staking.appeal(found.id)
        await stage.pass_s(3 * DAY_S)
        with pytest.raises(Refused) as refused:
            await asyncio.to_thread(run, "execute", *copies, *send)
        assert refused.value.code == "no_quorum"
        for key, copy in zip(keys, copies, strict=True):
            await asyncio.to_thread(run, "sign", copy, file, "--key", key, "--confirm")
        await asyncio.to_thread(run, "execute", *copies, *send)
        pay = ("collect", *send, *stage.stake, "--chain-id", CHAIN_ID)
        assert "$30.00" in await asyncio.to_thread(run, *pay)
        assert await stage.balance(stage.world.tenant) == 30 * DOLLAR
        view = await stage.staking.read()
        assert (view.bonded, view.reserved, view.cases) == (70 * DOLLAR, 0, ())
