"""The stake contract and its model do the same, whatever is asked of them.

3,000 random operations from two seeds, many of them bad on purpose: after each one the
answer (or the reason of the refusal), the logs, what is held of each provider and the
tokens held are compared, and every unit is counted anew.
"""

import random
from typing import Any

import pytest
from msgspec.structs import replace

from sublet.base.errors import Refused
from sublet.base.ids import NO_ADDRESS, Address, Digest
from sublet.core.document import LeaseTerms, UsageRecord
from sublet.core.rail.transaction import Call
from sublet.core.stake import operation as op
from sublet.core.stake.state import StakeState, check_stake
from sublet.core.stake.step import step
from sublet.wire import stake_call
from sublet.wire.signature import Key
from sublet.wire.stake_call import SignedTerms, SignedUsage
from sublet.wire.typed_data import digest
from tests.contracts.escrow_house import DOLLAR, key
from tests.contracts.evm import Done
from tests.contracts.stake_house import DAY_S, MARKET, NOW_S, StakeHouse

OPERATIONS = 1_500
LOOK_AT_ALL = 150  # operations between two comparisons of everything
ISSUER_SAYS = {"over_funds", "over_allowance", "blacklisted"}
NO_SIGNATURE = bytes(65)


class Sides:
    """The contract and the model, side by side, and held against each other."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.house = StakeHouse()
        self.arbiters = self.house.arbiters
        addresses = frozenset(one.address for one in self.arbiters)
        self.state = StakeState(addresses, quorum=3, appeal_quorum=4)
        self.providers = [key(2), key(3)]
        self.tenants = [key(1), key(6)]
        self.stranger = key(8)
        self.parties = [
            one.address for one in (*self.providers, *self.tenants, self.stranger)
        ]
        self.cases: list[Digest] = []
        self.compared = 0
        self.refusals: set[str] = set()
        for party in self.parties:
            approve = ("approve(address,uint256)", self.house.stake, 2**256 - 1)
            assert self.house.evm.call(self.house.token, *approve, sender=party).ok

    def _send(self, call: Call, by: Address) -> Done:
        assert call.to is not None
        return self.house.evm.send(call.to, call.data, sender=by)

    def compare(self, asked: op.Operation, done: Done) -> None:
        """Do the same to the model, and hold the two against each other."""
        try:
            outcome = step(self.state, asked, at_s=self.house.evm.now_s)
        except Refused as fault:
            reason = "transfer_failed" if done.fault in ISSUER_SAYS else done.fault
            assert reason == fault.code, asked
            self.refusals.add(fault.code)
        else:
            assert done.ok, (done.fault, asked)
            self.state = outcome.state
            logs = tuple(
                stake_call.read_event(
                    ["0x" + topic.hex() for topic in log.topics], log.data
                )
                for log in done.logs
                if log.address == self.house.stake
            )
            assert logs == outcome.events, asked
        for provider in self.providers:
            call = stake_call.ask_holding(self.house.stake, provider.address)
            said = stake_call.read_holding(self._read(call))
            assert said == self.state.holding(provider.address), asked
        assert self.house.balance(self.house.stake) == self.state.held
        check_stake(self.state)
        self.compared += 1

    def compare_all(self) -> None:
        stake = self.house.stake
        for number, award in enumerate(self.state.awards):
            call = stake_call.ask_award(stake, number)
            assert stake_call.read_award(self._read(call)) == award
        for case_id, case in self.state.cases.items():
            call = stake_call.ask_case(stake, case_id)
            assert stake_call.read_case(self._read(call)) == case
        for tenant in self.tenants:
            said = self._read(stake_call.ask_owed(stake, tenant.address))
            owed = self.state.owed.get(tenant.address, 0)
            assert int.from_bytes(said, "big") == owed
        for party in self.parties:
            assert self.house.balance(party) == self.state.wallets.get(party, 0)
        assert self.house.call("burnt()").give("uint256") == self.state.burnt

    def _read(self, call: Call) -> bytes:
        done = self._send(call, self.stranger.address)
        assert done.ok, done.fault
        return done.output


class Both(Sides):
    """What a seed does to both sides."""

    def go(self) -> None:
        """Do one thing to both."""
        moves = (
            (self.mint, 2),
            (self.stake, 8),
            (self.unbond, 4),
            (self.withdraw, 4),
            (self.slash_terms, 4),
            (self.slash_usage, 3),
            (self.pay_award, 4),
            (self.open_case, 6),
            (self.appeal, 4),
            (self.execute, 6),
            (self.drop, 2),
            (self.pay, 3),
            (self.block, 1),
            (self.wait, 5),
        )
        names, weights = zip(*moves, strict=True)
        self.draw.choices(names, weights)[0]()

    def _amount(self, about: int) -> int:
        return self.draw.choice(
            (0, 1, self.draw.randrange(20 * DOLLAR), about, about + 1, about // 2)
        )

    def mint(self) -> None:
        party = self.draw.choice(self.parties)
        mint = ("mint(address,uint256)", party, 30 * DOLLAR)
        done = self.house.evm.call(self.house.token, *mint)
        self.compare(op.Mint(party, 30 * DOLLAR), done)

    def stake(self) -> None:
        provider = self.draw.choice(self.providers).address
        by = self.draw.choice((provider, provider, self.stranger.address))
        amount = self._amount(self.state.wallets.get(by, 0))
        call = stake_call.put(self.house.stake, provider, amount)
        self.compare(op.Stake(provider, amount, by), self._send(call, by))

    def unbond(self) -> None:
        by = self.draw.choice((*self.providers, self.stranger)).address
        amount = self._amount(self.state.holding(by).bonded)
        call = stake_call.unbond(self.house.stake, amount)
        self.compare(op.Unbond(amount, by), self._send(call, by))

    def withdraw(self) -> None:
        provider = self.draw.choice(self.providers).address
        call = stake_call.withdraw(self.house.stake, provider)
        done = self._send(call, self.stranger.address)
        self.compare(op.Withdraw(provider), done)

    def _sign(self, document: Any, signer: Key) -> tuple[bytes, Address | None]:
        if self.draw.random() < 0.05:
            return NO_SIGNATURE[: self.draw.choice((0, 64, 65))], None
        if self.draw.random() < 0.05:
            signer = self.stranger
        return signer.sign(digest(document, self.house.domain)), signer.address

    def _terms(self, provider: Key) -> LeaseTerms:
        tenant = self.draw.choice(self.tenants).address
        return self.house.terms(provider=provider.address, tenant=tenant)

    def slash_terms(self) -> None:
        provider = self.draw.choice(self.providers)
        one = self._terms(provider)
        changes: dict[str, Any] = self.draw.choice(
            (
                {"price_hour": 1},
                {"price_hour": 1},
                {"duration_s": 1, "signed_at_s": NOW_S + 300},
                {"offer_id": "0x" + "77" * 32, "signed_at_s": NOW_S - 300},
                {"tenant": self.stranger.address},
                {"salt": 3, "signed_at_s": NOW_S + 1},
                {"lease_id": "0x" + "2e" * 32, "price_hour": 1},
                {"price_hour": 1, "signed_at_s": NOW_S + 301},
                {"price_hour": 1, "provider": self.stranger.address},
            )
        )
        two = replace(one, **changes)
        if self.draw.random() < 0.5:
            one, two = two, one
        (first, first_by), (second, second_by) = (
            self._sign(each, provider) for each in (one, two)
        )
        call = stake_call.slash_terms(
            self.house.stake, MARKET, SignedTerms(one, first), SignedTerms(two, second)
        )
        asked = op.SlashTerms(
            op.SignedTerms(one, first_by),
            op.SignedTerms(two, second_by),
            self._evidence(one, two),
        )
        self.compare(asked, self._send(call, self.stranger.address))

    def slash_usage(self) -> None:
        provider = self.draw.choice(self.providers)
        one = self.house.usage()
        changes: dict[str, Any] = self.draw.choice(
            (
                {"ran_ms": 1},
                {"cpu_ms": 2},
                {"memory_bytes_max": 3},
                {"salt": 4, "signed_at_s": NOW_S + 9},
                {"sequence": 5, "ran_ms": 1},
                {"lease_id": "0x" + "2e" * 32, "ran_ms": 1},
            )
        )
        two, terms = replace(one, **changes), self._terms(provider)
        if self.draw.random() < 0.1:
            terms = replace(terms, lease_id="0x" + "2e" * 32)
        if self.draw.random() < 0.1:
            terms = replace(terms, provider=self.stranger.address)
        signed = [self._sign(each, provider) for each in (one, two, terms)]
        call = stake_call.slash_usage(
            self.house.stake,
            MARKET,
            SignedUsage(one, signed[0][0]),
            SignedUsage(two, signed[1][0]),
            SignedTerms(terms, signed[2][0]),
        )
        asked = op.SlashUsage(
            op.SignedUsage(one, signed[0][1]),
            op.SignedUsage(two, signed[1][1]),
            op.SignedTerms(terms, signed[2][1]),
            self._evidence(one, two),
        )
        self.compare(asked, self._send(call, self.stranger.address))

    def _evidence(self, one: LeaseTerms | UsageRecord, two: Any) -> Digest:
        domain = self.house.domain
        return stake_call.hash_evidence(digest(one, domain), digest(two, domain))

    def pay_award(self) -> None:
        award_id = self.draw.randrange(len(self.state.awards) + 1)
        call = stake_call.pay_award(self.house.stake, award_id)
        self.compare(op.PayAward(award_id), self._send(call, self.stranger.address))

    # ---- cases ----------------------------------------------------------------

    def _sign_all(
        self, said: Digest, quorum: int
    ) -> tuple[list[bytes], tuple[Address | None, ...]]:
        """Have arbiters sign: mostly enough of them, and in their order."""
        count = quorum - (self.draw.random() < 0.1)
        signers = sorted(
            self.draw.sample(self.arbiters, count), key=lambda one: one.address
        )
        if self.draw.random() < 0.1:
            signers[0] = self.draw.choice((self.stranger, signers[-1]))
        if self.draw.random() < 0.05:
            signers.reverse()
        signatures = [one.sign(said) for one in signers]
        by: list[Address | None] = [one.address for one in signers]
        if self.draw.random() < 0.05:
            signatures[-1], by[-1] = NO_SIGNATURE, None
        return signatures, tuple(by)

    def open_case(self) -> None:
        provider = self.draw.choice(self.providers).address
        odd = self.draw.random() < 0.1
        tenant = self.draw.choice(self.tenants).address
        if odd:
            tenant = self.draw.choice((NO_ADDRESS, provider))
        said = {
            "provider": provider,
            "tenant": tenant,
            "amount": self._amount(self.state.holding(provider).free // 3),
            "evidence": "0x" + "77" * 32,
            "salt": self.draw.randrange(6),
        }
        case_id = stake_call.case_digest(
            self.house.stake, chain_id=self.house.evm.chain_id, **said
        )
        signatures, by = self._sign_all(case_id, 3)
        call = stake_call.open_case(self.house.stake, **said, signatures=signatures)
        salt = said.pop("salt")
        assert isinstance(salt, int)
        asked = op.OpenCase(case_id=case_id, **said, signers=by)
        self.compare(asked, self._send(call, self.stranger.address))
        self.cases = list(self.state.cases)

    def _pick_case(self) -> Digest:
        unknown = "0x" + "99" * 32
        is_recent = self.draw.random() < 0.7
        return self.draw.choice(
            self.cases[-4:] if is_recent else self.cases or [unknown]
        )

    def appeal(self) -> None:
        if not self.cases:
            return
        case_id = self._pick_case()
        provider = self.state.cases[case_id].provider
        by = self.draw.choice((provider, provider, self.stranger.address))
        call = stake_call.appeal(self.house.stake, case_id)
        self.compare(op.Appeal(case_id, by), self._send(call, by))

    def execute(self) -> None:
        if not self.cases:
            return
        case_id = self._pick_case()
        confirmed = stake_call.confirm_digest(
            self.house.stake, chain_id=self.house.evm.chain_id, case_id=case_id
        )
        signatures, by = self._sign_all(confirmed, 4)
        if self.draw.random() < 0.2:
            signatures, by = [], ()
        call = stake_call.execute_case(self.house.stake, case_id, signatures)
        done = self._send(call, self.stranger.address)
        self.compare(op.ExecuteCase(case_id, by), done)

    def drop(self) -> None:
        if not self.cases:
            return
        case_id = self._pick_case()
        call = stake_call.drop_case(self.house.stake, case_id)
        self.compare(op.DropCase(case_id), self._send(call, self.stranger.address))

    def pay(self) -> None:
        tenant = self.draw.choice(self.tenants).address
        call = stake_call.pay(self.house.stake, tenant)
        self.compare(op.Pay(tenant), self._send(call, self.stranger.address))

    def block(self) -> None:
        party = self.draw.choice(self.parties)
        is_blocked = self.draw.random() < 0.3
        name = "blacklist" if is_blocked else "unBlacklist"
        done = self.house.evm.call(self.house.token, f"{name}(address)", party)
        self.compare(op.Block(party, is_blocked), done)

    def wait(self) -> None:
        days = (0.01, 1, 2, 3, 4, 17)
        self.house.evm.pass_s(int(DAY_S * self.draw.choice(days)))


@pytest.mark.timeout(600)  # half a minute of processor time each
@pytest.mark.parametrize("seed", [1, 2])
def test_stake_does_what_model_does(seed: int) -> None:
    both = Both(seed)
    while both.compared < OPERATIONS:
        both.go()
        if both.compared % LOOK_AT_ALL == 0:
            both.compare_all()
    both.compare_all()
    # A walk that meets no wall has proved little.
    assert both.refusals == {
        "zero_amount",
        "transfer_failed",
        "over_balance",
        "not_unbonding",
        "too_early",
        "case_open",
        "no_contradiction",
        "too_far_apart",
        "bad_signature",
        "bad_terms",
        "nothing_left",
        "case_known",
        "bad_tenant",
        "no_quorum",
        "bad_order",
        "not_arbiter",
        "no_case",
        "not_provider",
        "too_late",
    }
    assert both.state.awards and both.state.burnt
    assert any(
        case.is_appealed and not case.is_open for case in both.state.cases.values()
    )
