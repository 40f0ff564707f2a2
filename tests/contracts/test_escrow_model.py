"""The contract and its model do the same, whatever is asked of them.

10,000 random operations from four seeds, a third of them bad on purpose: after each one
the answer (or the reason of the refusal), the logs, the books of what was touched and
the tokens held are compared, and the model's own double entry is counted anew.
"""

import random
from typing import Any

import pytest

from sublet.base.errors import Refused
from sublet.base.ids import NO_ADDRESS, Address
from sublet.core.document import Channel
from sublet.core.escrow import event as ev
from sublet.core.escrow import operation as op
from sublet.core.escrow.state import EscrowState, check_escrow
from sublet.core.escrow.step import step
from sublet.wire.signature import Key
from tests.contracts.escrow_house import (
    DEPOSIT_3009,
    DEPOSIT_PERMIT,
    DOLLAR,
    FOR_EVER,
    USDC,
    Claimed,
    EscrowHouse,
    encode_channel,
    key,
    read_logs,
)
from tests.contracts.evm import Done, find_slot

OPERATIONS = 2_500
LOOK_AT_ALL = 250  # operations between two comparisons of everything
ISSUER_SAYS = {"over_funds", "over_allowance", "blacklisted"}
NO_SIGNATURE = bytes(65)


class Both:
    """The contract and the model, side by side, and what a seed does to them."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.house = EscrowHouse(USDC, USDC)
        self.state = EscrowState(frozenset(self.house.tokens))
        self.tenants = [key(number) for number in (1, 2, 3)]
        self.hot = key(4)
        self.providers = [key(number) for number in (5, 6)]
        self.agent = key(7)
        self.stranger = key(8)
        self.keys = {
            one.address: one
            for one in (*self.tenants, self.hot, *self.providers, self.agent)
        }
        foreign = self.house.evm.deploy(USDC)
        self.channels = [self._make_channel(number) for number in range(14)]
        self.channels += [
            self.house.channel(token=foreign),
            self.house.channel(receiver=NO_ADDRESS),
            self.house.channel(withdraw_delay=899),
        ]
        names = ("_channels", "_withdrawals", "_receivers", "refundNonce")
        self.slots = {name: find_slot("Escrow.vy", name) for name in names}
        self.slots["balanceOf"] = find_slot(USDC, "balanceOf")
        self.compared = 0  # operations
        self.refusals: set[str] = set()
        self.reasons: set[str] = set()
        for tenant in (*self.tenants, self.stranger):
            self._mint(tenant.address, 40 * DOLLAR)

    def _make_channel(self, number: int) -> Channel:
        tenant = self.tenants[number % 3]
        return self.house.channel(
            payer=tenant.address,
            payer_authorizer=(tenant.address, self.hot.address, NO_ADDRESS)[number % 3],
            receiver=self.providers[number % 2].address,
            receiver_authorizer=self.draw.choice((self.agent.address, NO_ADDRESS)),
            token=self.house.tokens[number // 7],
            withdraw_delay=self.draw.choice((900, 3_600, 2_592_000)),
            salt="0x" + number.to_bytes(32, "big").hex(),
        )

    def _mint(self, party: Address, amount: int) -> None:
        self.house.mint(party, amount)
        for token in self.house.tokens:
            asked = op.Mint(token, party, amount)
            self.state = step(self.state, asked, at_s=self.house.evm.now_s).state

    # ---- one step -------------------------------------------------------------

    def go(self) -> None:
        """Do one thing to both."""
        moves = (
            (self.deposit, 5),
            (self.claim, 8),
            (self.settle, 3),
            (self.refund, 3),
            (self.initiate, 3),
            (self.finalize, 3),
            (self.block, 1),
            (self.wait, 2),
        )
        names, weights = zip(*moves, strict=True)
        self.draw.choices(names, weights)[0]()

    def _amount(self, about: int) -> int:
        return self.draw.choice(
            (0, 1, self.draw.randrange(2 * DOLLAR), about, about + 1, about // 2)
        )

    def deposit(self) -> None:
        channel = self.draw.choice(self.channels)
        amount = self._amount(DOLLAR)
        way = self.draw.choice((self._plain, self._by_permit, self._by_authorization))
        source, done = way(channel, amount)
        asked = op.Deposit(self.house.channel_id(channel), channel, amount, source)
        self.compare(asked, done, channel)

    def _plain(self, channel: Channel, amount: int) -> tuple[Address, Done]:
        by = self.draw.choice((channel.payer, self.stranger.address))
        return by, self.house.deposit(channel, amount, by=by)

    def _by_permit(self, channel: Channel, amount: int) -> tuple[Address, Done]:
        # The permit is void; what was approved before decides.
        by = self.draw.choice((channel.payer, self.stranger.address))
        args = (encode_channel(channel), amount, FOR_EVER, NO_SIGNATURE)
        return by, self.house.call(DEPOSIT_PERMIT, *args, by=by)

    def _by_authorization(self, channel: Channel, amount: int) -> tuple[Address, Done]:
        house, salt = self.house, self.draw.getrandbits(256)
        house.token, was = channel.token, house.token
        signature = house.sign_authorization(
            channel,
            amount,
            salt=salt,
            target=house.escrow,
            signer=self.keys[channel.payer],
        )
        house.token = was
        args = (encode_channel(channel), amount, 0, FOR_EVER, salt, signature)
        return channel.payer, house.call(DEPOSIT_3009, *args, by=NO_ADDRESS)

    def claim(self) -> None:
        claimant = self.draw.choice((*self.providers, *self.providers, self.agent))
        batch = [self._voucher() for _ in range(self.draw.randrange(1, 6))]
        claims = [claim for claim, _ in batch]
        if self.draw.random() < 0.3:
            signature = self.house.sign_batch(claims, claimant)
            done = self.house.claim_signed(*claims, signature=signature, by=NO_ADDRESS)
        else:
            done = self.house.claim(*claims, by=claimant.address)
        asked = op.Claim(claimant.address, tuple(voucher for _, voucher in batch))
        self.compare(asked, done, *(claim.channel for claim in claims))

    def _voucher(self) -> tuple[Claimed, op.Voucher]:
        channel = self.draw.choice(self.channels[:14])
        channel_id = self.house.channel_id(channel)
        was = self.state.channel(channel_id)
        most = max(0, was.claimed + self.draw.randrange(-9, DOLLAR // 2))
        most = self.draw.choice((most, most, most, was.balance, was.balance + 1))
        total = self.draw.choice((most, most, most, most // 2, most + 1))
        signer: Key | None = self.keys.get(channel.payer_authorizer)
        signer = signer or self.keys[channel.payer]
        if self.draw.random() < 0.1:
            signer = self.stranger
        claim = self.house.voucher(channel, most, total=total, signer=signer)
        said: Address | None = signer.address
        if self.draw.random() < 0.05:
            claim = Claimed(
                channel, most, NO_SIGNATURE[: self.draw.choice((0, 65))], total
            )
            said = None
        return claim, op.Voucher(channel_id, channel, most, total, said)

    def settle(self) -> None:
        receiver = self.draw.choice(self.providers).address
        token = self.draw.choice(self.house.tokens)
        done = self.house.settle(receiver, token=token)
        self.compare(op.Settle(receiver, token), done)

    def refund(self) -> None:
        channel = self.draw.choice(self.channels[:14])
        channel_id = self.house.channel_id(channel)
        was = self.state.channel(channel_id)
        amount = self._amount(was.free)
        claimant = self.draw.choice((*self.providers, self.agent, self.stranger))
        nonce = None
        said: Address | None = claimant.address
        if self.draw.random() < 0.5:
            nonce = was.refund_nonce + (self.draw.random() < 0.1)
            signature = self.house.sign_refund(channel, amount, nonce, claimant)
            if self.draw.random() < 0.1:
                signature, said = NO_SIGNATURE, None
            done = self.house.refund_signed(
                channel, amount, nonce=nonce, signature=signature
            )
        else:
            done = self.house.refund(channel, amount, by=claimant.address)
        asked = op.Refund(channel_id, channel, amount, said, nonce)
        self.compare(asked, done, channel)

    def initiate(self) -> None:
        channel = self.draw.choice(self.channels[:14])
        channel_id = self.house.channel_id(channel)
        amount = self._amount(self.state.channel(channel_id).free)
        by = self.draw.choice((channel.payer, channel.payer, channel.receiver))
        done = self.house.initiate(channel, amount, by=by)
        asked = op.InitiateWithdraw(channel_id, channel, amount, by)
        self.compare(asked, done, channel)

    def finalize(self) -> None:
        channel = self.draw.choice(self.channels[:14])
        done = self.house.finalize(channel)
        asked = op.FinalizeWithdraw(self.house.channel_id(channel), channel)
        self.compare(asked, done, channel)

    def block(self) -> None:
        token = self.draw.choice(self.house.tokens)
        party = self.draw.choice((*self.tenants, *self.providers)).address
        is_blocked = self.draw.random() < 0.3
        name = "blacklist" if is_blocked else "unBlacklist"
        done = self.house.evm.call(token, f"{name}(address)", party)
        self.compare(op.Block(token, party, is_blocked), done)

    def wait(self) -> None:
        self.house.evm.pass_s(self.draw.choice((12, 450, 900, 3_600, 2_592_000)))

    # ---- the comparison -------------------------------------------------------

    def compare(self, asked: op.Operation, done: Done, *channels: Channel) -> None:
        """Do the same to the model, and hold the two against each other."""
        now_s = self.house.evm.now_s
        try:
            outcome = step(self.state, asked, at_s=now_s)
        except Refused as fault:
            reason = "transfer_failed" if done.fault in ISSUER_SAYS else done.fault
            assert reason == fault.code, asked
            self.refusals.add(fault.code)
        else:
            assert done.ok, (done.fault, asked)
            self.state = outcome.state
            logs = read_logs(done, self.house.escrow)
            assert logs == [_as_log(said) for said in outcome.events], asked
            self.reasons |= {log[-1] for log in logs if log[0] == "Skipped"}
        for channel in channels:
            self.compare_stored(channel)
        self.compare_money()
        check_escrow(self.state)
        self.compared += 1

    def compare_stored(self, channel: Channel) -> None:
        """Compare a channel with what lies in storage: quicker than asking for it."""
        house, channel_id = self.house, self.house.channel_id(channel)
        model = self.state.channel(channel_id)
        earned = self.state.earned(channel.receiver, channel.token)
        raw = bytes.fromhex(channel_id[2:])
        receiver, token = (
            bytes.fromhex(party[2:]) for party in (channel.receiver, channel.token)
        )
        stored = [
            house.evm.read(house.escrow, self.slots["_channels"], raw),
            house.evm.read(house.escrow, self.slots["_withdrawals"], raw),
            house.evm.read(house.escrow, self.slots["_receivers"], receiver, token),
            house.evm.read(house.escrow, self.slots["refundNonce"], raw),
        ]
        assert stored == [
            model.balance | model.claimed << 128,
            model.withdrawing | model.initiated_at_s << 128,
            earned.claimed | earned.settled << 128,
            model.refund_nonce,
        ]

    def compare_channel(self, channel: Channel) -> None:
        model = self.state.channel(self.house.channel_id(channel))
        earned = self.state.earned(channel.receiver, channel.token)
        assert self.house.books(channel) == (model.balance, model.claimed)
        assert self.house.pending(channel) == (model.withdrawing, model.initiated_at_s)
        assert self.house.refund_nonce(channel) == model.refund_nonce
        said = self.house.earned(channel.receiver, channel.token)
        assert said == (earned.claimed, earned.settled)

    def compare_money(self) -> None:
        escrow = bytes.fromhex(self.house.escrow[2:])
        for token in self.house.tokens:
            held = self.house.evm.read(token, self.slots["balanceOf"], escrow)
            assert held == self.state.held(token)

    def compare_all(self) -> None:
        for channel in self.channels:
            self.compare_channel(channel)
        for token in self.house.tokens:
            for party in (*self.keys, self.stranger.address):
                said = self.house.balance(party, token)
                assert said == self.state.wallet(party, token)


def _as_log(said: ev.Event) -> tuple[Any, ...]:
    """Write a model's event as ``read_logs`` reads the contract's."""

    def topic(party: Address) -> str:
        return "0x" + "00" * 12 + party[2:]

    match said:
        case ev.Deposited(channel_id, payer, receiver, amount, balance):
            body = (channel_id, topic(payer), topic(receiver), amount, balance)
        case ev.Settled(receiver, token, amount):
            body = (topic(receiver), topic(token), topic(NO_ADDRESS), amount)
        case _:
            body = tuple(getattr(said, name) for name in said.__struct_fields__)
    return (type(said).__name__, *body)


@pytest.mark.timeout(900)  # half a minute of processor time each, on a crowded machine
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_contract_does_what_model_does(seed: int) -> None:
    both = Both(seed)
    while both.compared < OPERATIONS:
        both.go()
        if both.compared % LOOK_AT_ALL == 0:
            both.compare_all()
    both.compare_all()
    # A walk that meets no wall has proved little.
    assert both.reasons == set(ev.SKIP_REASONS)
    assert both.refusals == {
        "zero_amount",
        "bad_token",
        "bad_party",
        "bad_delay",
        "transfer_failed",
        "not_payee",
        "not_payer",
        "nothing_left",
        "bad_nonce",
        "bad_signature",
        "over_balance",
        "withdrawing",
        "not_withdrawing",
        "too_early",
    }
