"""A converter beside an escrow: a payer with tokens, a maker with dollars.

Quotes are the project's own, signed and sent by its own code.
"""

from typing import Any

from sublet.base.ids import Address
from sublet.core.document import Channel
from sublet.core.rail.transaction import Call
from sublet.wire import exchange
from sublet.wire.exchange import SignedQuote, TokenQuote, sign_quote
from sublet.wire.signature import Key
from sublet.wire.token_message import TokenDomain, permit
from tests.contracts.escrow_house import DOLLAR, FOR_EVER, USDC, EscrowHouse, key
from tests.contracts.evm import Done

RENDER = "test/Render.vy"
WHOLE = 10**18
GIVEN, PRICE = 10 * WHOLE, 50 * DOLLAR  # what a quote is over
NO_LIMIT = 2**256 - 1


class ConverterHouse:
    """Whoever is asked to has approved everything."""

    def __init__(
        self, token: str = RENDER, *, dollars: str = USDC, has_approved: bool = True
    ) -> None:
        self.house = EscrowHouse(dollars)
        self.evm = self.house.evm
        self.escrow = self.house.escrow
        self.converter = self.evm.deploy("Converter.vy", self.escrow)
        self.token = self.evm.deploy(token)
        self.payer, self.maker = self.house.tenant, key(7)
        self.channel = self.house.channel()
        self.give(self.token, self.payer.address, GIVEN, approve=has_approved)
        self.give(self.house.token, self.maker.address, PRICE)

    def give(
        self, token: Address, party: Address, amount: int, *, approve: bool = True
    ) -> None:
        """Mint somebody tokens, who lets the converter take them all."""
        self.do(token, "mint(address,uint256)", party, amount)
        if approve:
            allow = ("approve(address,uint256)", self.converter, NO_LIMIT)
            self.do(token, *allow, by=party)

    def do(self, target: Address, *call: Any, by: Address = "0x" + "99" * 20) -> Done:
        done = self.evm.call(target, *call, sender=by)
        assert done.ok, done.fault
        return done

    def balance(self, token: Address, party: Address) -> int:
        return int(self.do(token, "balanceOf(address)", party).give("uint256"))

    def quote(self, **changes: Any) -> TokenQuote:
        said = {
            "maker": self.maker.address,
            "payer": self.payer.address,
            "channel_id": self.house.channel_id(self.channel),
            "token": self.token,
            "units": str(GIVEN),
            "dollars": PRICE,
            "deadline_s": self.evm.now_s + 60,
            "salt": "0x" + "5a" * 32,
        }
        return TokenQuote(**{**said, **changes})

    def sign(
        self,
        quote: TokenQuote | None = None,
        *,
        signer: Key | None = None,
        **place: Any,
    ) -> SignedQuote:
        where: dict[str, Any] = {
            "chain_id": self.evm.chain_id,
            "converter": self.converter,
            **place,
        }
        return sign_quote(quote or self.quote(), key=signer or self.maker, **where)

    def take(
        self,
        said: SignedQuote | None = None,
        *,
        channel: Channel | None = None,
        by: Address = "",
    ) -> Done:
        call = exchange.exchange(
            self.converter, channel or self.channel, said or self.sign()
        )
        return self.send(call, by=by)

    def take_with_permit(self, permitted: bytes, *, by: Address = "") -> Done:
        call = exchange.exchange_with_permit(
            self.converter,
            self.channel,
            self.sign(),
            deadline_s=FOR_EVER,
            permit=permitted,
        )
        return self.send(call, by=by)

    def send(self, call: Call, *, by: Address = "") -> Done:
        assert call.to is not None
        return self.evm.send(call.to, call.data, sender=by or self.payer.address)

    def permit(self, *, signer: Key | None = None) -> bytes:
        domain = TokenDomain("Test Render", "1", self.evm.chain_id, self.token)
        message = permit(
            domain,
            owner=self.payer.address,
            spender=self.converter,
            amount=GIVEN,
            nonce=0,
            deadline_s=FOR_EVER,
        )
        return (signer or self.payer).sign(message.digest)

    # ---- what is ----------------------------------------------------------------

    def where(self) -> tuple[int, int, int, int]:
        """Tokens of payer and maker, dollars of the maker and in the channel."""
        return (
            self.balance(self.token, self.payer.address),
            self.balance(self.token, self.maker.address),
            self.balance(self.house.token, self.maker.address),
            self.house.books(self.channel)[0],
        )

    def check_moved(self) -> None:
        """Everything went where the quote says, and nothing stayed."""
        assert self.where() == (0, GIVEN, 0, PRICE)
        self.check_empty()

    def check_unmoved(self, done: Done, fault: str) -> None:
        """The call was refused with this word, and nothing went anywhere."""
        assert (done.ok, done.fault) == (False, fault)
        assert self.where() == (GIVEN, 0, PRICE, 0)
        self.check_empty()

    def check_empty(self) -> None:
        for token in (self.token, self.house.token):
            assert self.balance(token, self.converter) == 0
        allowed = ("allowance(address,address)", self.converter, self.escrow)
        done = self.evm.call(self.house.token, *allowed)
        assert not done.ok or done.give("uint256") == 0
        assert self.balance(self.house.token, self.escrow) == self.where()[3]
