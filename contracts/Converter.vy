# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# SPDX-License-Identifier: Apache-2.0
"""
@title Converter of tokens into dollars of a channel
@license Apache-2.0
@notice A maker, whoever that is, signs a quote: so many of a token against so many
        dollars in one channel of the escrow. The payer brings it here: its tokens go to
        the maker, the maker's dollars into the channel, or nothing moves. There is no
        price here and no oracle; whether a quote is good, both have decided before.

        Nobody controls this contract: no owner, no fee, no pause. It holds nothing
        between calls. An allowance says nothing of a quote, so only who gives the tokens
        may call: what others were allowed to take here, no stranger can spend.
"""

from ethereum.ercs import IERC20


struct ChannelConfig:
    payer: address
    payerAuthorizer: address
    receiver: address
    receiverAuthorizer: address
    token: address
    withdrawDelay: uint40
    salt: bytes32

# What a maker signs, as EIP-712 typed data.
struct Quote:
    maker: address
    payer: address
    channelId: bytes32
    token: address
    amount: uint256  # of the token, from payer to maker
    dollars: uint128  # of the channel's token, from maker into the channel
    deadline: uint256
    salt: bytes32


interface Escrow:
    def getChannelId(config: ChannelConfig) -> bytes32: view
    def deposit(
        config: ChannelConfig,
        amount: uint128,
        collector: address,
        collectorData: Bytes[1024],
    ): nonpayable


event Exchanged:
    channelId: indexed(bytes32)
    maker: indexed(address)
    payer: indexed(address)
    token: address
    amount: uint256
    dollars: uint128


# Of secp256k1; written in decimal, since Vyper takes 32 bytes in hex for bytes32.
HALF_ORDER: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)
DOMAIN_TYPEHASH: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
NAME_HASH: constant(bytes32) = keccak256("Sublet Converter")
VERSION_HASH: constant(bytes32) = keccak256("1")
QUOTE_TYPEHASH: constant(bytes32) = keccak256(
    "Quote(address maker,address payer,bytes32 channelId,address token,uint256 amount,uint128 dollars,uint256 deadline,bytes32 salt)"
)

ESCROW: public(immutable(address))

# By digest: each quote counts once.
isUsed: public(HashMap[bytes32, bool])


@deploy
def __init__(escrow: address):
    ESCROW = escrow


@external
@view
def getQuoteDigest(quote: Quote) -> bytes32:
    return self._digest(quote)


@external
@nonreentrant
def exchange(config: ChannelConfig, quote: Quote, signature: Bytes[96]):
    """
    @notice Take a maker's quote, as the payer that it names, who has approved the token
            here; the maker has approved the dollars.
    @param config The channel's terms; the quote has their id.
    """
    self._exchange(config, quote, signature)


@external
@nonreentrant
def exchangeWithPermit(
    config: ChannelConfig,
    quote: Quote,
    signature: Bytes[96],
    deadline: uint256,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    """
    @notice As `exchange`, with the payer's EIP-2612 permit for the token. Where somebody
            has used it up before, the allowance stands, and that decides.
    """
    is_permitted: bool = raw_call(
        quote.token,
        abi_encode(
            msg.sender,
            self,
            quote.amount,
            deadline,
            v,
            r,
            s,
            method_id=method_id(
                "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"
            ),
        ),
        revert_on_failure=False,
    )
    self._exchange(config, quote, signature)


@internal
def _exchange(config: ChannelConfig, quote: Quote, signature: Bytes[96]):
    assert msg.sender == quote.payer, "not_payer"
    assert block.timestamp <= quote.deadline, "expired"
    assert quote.amount > 0 and quote.dollars > 0, "zero_amount"
    # By the escrow's own word, so that dollars go where the quote says and the channel's
    # token is the one that the maker meant.
    assert staticcall Escrow(ESCROW).getChannelId(config) == quote.channelId, "wrong_channel"
    digest: bytes32 = self._digest(quote)
    assert not self.isUsed[digest], "used"
    signer: address = self._recover(digest, signature)
    assert signer != empty(address) and signer == quote.maker, "bad_signature"
    self.isUsed[digest] = True
    # The payer's token is a stranger's program: it runs while nothing lies here.
    self._move(quote.token, quote.payer, quote.maker, quote.amount)
    dollars: uint256 = convert(quote.dollars, uint256)
    self._move(config.token, quote.maker, self, dollars)
    assert extcall IERC20(config.token).approve(
        ESCROW, dollars, default_return_value=True
    ), "approve_failed"
    extcall Escrow(ESCROW).deposit(config, quote.dollars, empty(address), b"")
    log Exchanged(
        channelId=quote.channelId,
        maker=quote.maker,
        payer=quote.payer,
        token=quote.token,
        amount=quote.amount,
        dollars=quote.dollars,
    )


@internal
def _move(token: address, source: address, target: address, amount: uint256):
    """Move tokens by an allowance; what arrives has to be all of it."""
    before: uint256 = staticcall IERC20(token).balanceOf(target)
    assert extcall IERC20(token).transferFrom(
        source, target, amount, default_return_value=True
    ), "transfer_failed"
    after: uint256 = staticcall IERC20(token).balanceOf(target)
    assert after >= before and after - before >= amount, "short_transfer"


@internal
@view
def _digest(quote: Quote) -> bytes32:
    # The domain is computed anew each time: after a fork of the chain a quote must not
    # count on both sides.
    return keccak256(
        concat(
            b"\x19\x01",
            keccak256(
                abi_encode(DOMAIN_TYPEHASH, NAME_HASH, VERSION_HASH, chain.id, self)
            ),
            keccak256(abi_encode(QUOTE_TYPEHASH, quote)),
        )
    )


@internal
@pure
def _recover(digest: bytes32, signature: Bytes[96]) -> address:
    """Give who signed this, the zero address for what is no strict signature."""
    if len(signature) != 65:
        return empty(address)
    # The byte behind s: what lies before it in this word is most of s.
    v: uint256 = convert(extract32(signature, 33), uint256) & 255
    s: uint256 = convert(extract32(signature, 32), uint256)
    if (v != 27 and v != 28) or s > HALF_ORDER:
        return empty(address)
    return ecrecover(digest, v, convert(extract32(signature, 0), uint256), s)
