"""A maker's word: so many of a token against so many dollars in one channel.

The quote is EIP-712 typed data of the contract ``Converter``. It names its payer, and
counts once and until its deadline; nobody needs to believe anybody.

Not here: whether a quote is good (``core.pricing.exchange``), where the contract is
(``adapter.converter_chain``).
"""

from typing import Annotated

from msgspec import Meta, Struct

from sublet.base.errors import PeerFault
from sublet.base.ids import Address, Digest
from sublet.core.document import Channel
from sublet.core.member import Amount, Seconds
from sublet.core.rail.transaction import Call
from sublet.wire.abi import encode_call
from sublet.wire.escrow_call import CONFIG, write_channel
from sublet.wire.signature import Key, recover
from sublet.wire.typed_data import compile_struct, digest_of, domain_separator

_QUOTE = "(address,address,bytes32,address,uint256,uint128,uint256,bytes32)"
_MEMBERS = (
    ("maker", "address"),
    ("payer", "address"),
    ("channelId", "bytes32"),
    ("token", "address"),
    ("amount", "uint256"),
    ("dollars", "uint128"),
    ("deadline", "uint256"),
    ("salt", "bytes32"),
)
_hash_quote = compile_struct("Quote", {"Quote": _MEMBERS})

# Of a token's smallest units: more than JSON's numbers hold, so a text.
Units = Annotated[str, Meta(pattern=r"\A[1-9][0-9]{0,37}\Z")]


class BadQuote(PeerFault):
    """A maker's quote is not what was asked for, or not its maker's."""

    code = "bad_quote"


class TokenQuote(Struct, frozen=True, forbid_unknown_fields=True):
    """What a maker signs."""

    maker: Address
    payer: Address
    channel_id: Digest
    token: Address
    units: Units
    dollars: Amount
    deadline_s: Seconds  # by the chain's time
    salt: Digest

    @property
    def values(self) -> tuple[Address, Address, Digest, Address, int, int, int, Digest]:
        """In the contract's order."""
        return (
            self.maker,
            self.payer,
            self.channel_id,
            self.token,
            int(self.units),
            self.dollars,
            self.deadline_s,
            self.salt,
        )


class QuoteWish(Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/convert/quote (signed, by the payer): what a maker would give."""

    provider: Address  # to whom the channel is
    token: Address
    units: Units


class SignedQuote(Struct, frozen=True, forbid_unknown_fields=True):
    """The answer to a ``QuoteWish``."""

    quote: TokenQuote
    signature: Annotated[str, Meta(pattern=r"\A0x[0-9a-f]{130}\Z")]


def digest_quote(quote: TokenQuote, *, chain_id: int, converter: Address) -> Digest:
    """Compute what a maker signs."""
    separator = domain_separator(
        {
            "name": "Sublet Converter",
            "version": "1",
            "chainId": chain_id,
            "verifyingContract": converter,
        }
    )
    names = [name for name, _ in _MEMBERS]
    hashed = _hash_quote(dict(zip(names, quote.values, strict=True)))
    return digest_of(separator=separator, struct_hash=hashed)


def sign_quote(
    quote: TokenQuote, *, chain_id: int, converter: Address, key: Key
) -> SignedQuote:
    """Sign as the maker that the quote names."""
    hashed = digest_quote(quote, chain_id=chain_id, converter=converter)
    return SignedQuote(quote, "0x" + key.sign(hashed).hex())


def check_quote(
    said: SignedQuote,
    *,
    payer: Address,
    channel_id: Digest,
    token: Address,
    units: int,
    chain_id: int,
    converter: Address,
) -> None:
    """Check that a maker signed what was asked for.

    Raises:
        BadQuote: something else, or somebody else.
        PeerFault: the signature is none.
    """
    quote = said.quote
    asked = (payer, channel_id, token, units)
    if (quote.payer, quote.channel_id, quote.token, int(quote.units)) != asked:
        raise BadQuote(
            "the maker's quote names another payer, channel, token or amount than was "
            "asked for; nothing was sent. Ask again, or ask the operator"
        )
    hashed = digest_quote(quote, chain_id=chain_id, converter=converter)
    signer = recover(hashed, bytes.fromhex(said.signature[2:]))
    if signer != quote.maker:
        raise BadQuote(
            f"the quote names {quote.maker} as its maker and was signed by {signer}; "
            "nothing was sent"
        )


def exchange(converter: Address, channel: Channel, said: SignedQuote) -> Call:
    """Take a quote, as its payer, who has approved the token."""
    name = f"exchange({CONFIG},{_QUOTE},bytes)"
    signature = bytes.fromhex(said.signature[2:])
    config, values = write_channel(channel), said.quote.values
    return Call(converter, encode_call(name, config, values, signature))


def exchange_with_permit(
    converter: Address,
    channel: Channel,
    said: SignedQuote,
    *,
    deadline_s: int,
    permit: bytes,
) -> Call:
    """Take a quote, as its payer, with its EIP-2612 permit over the token."""
    name = f"exchangeWithPermit({CONFIG},{_QUOTE},bytes,uint256,uint8,bytes32,bytes32)"
    data = encode_call(
        name,
        write_channel(channel),
        said.quote.values,
        bytes.fromhex(said.signature[2:]),
        deadline_s,
        permit[64],
        "0x" + permit[:32].hex(),
        "0x" + permit[32:64].hex(),
    )
    return Call(converter, data)


def ask_used(converter: Address, hashed: Digest) -> Call:
    """Ask whether a quote was taken; read with ``(bool)``."""
    return Call(converter, encode_call("isUsed(bytes32)", hashed))
