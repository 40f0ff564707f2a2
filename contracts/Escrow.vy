# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# SPDX-License-Identifier: Apache-2.0
"""
@title Escrow of payment channels, x402 batch-settlement
@license Apache-2.0
@notice One unidirectional channel per (payer, receiver, token, ...): the payer deposits,
        signs cumulative vouchers off chain, and the receiver claims the last one.
        Nobody controls this contract: no owner, no pause, no upgrade, no price.

        A channel's `balance` is what was ever deposited, less what went back to the
        payer; `totalClaimed` is never more. It is never forgotten either, so a channel
        that was emptied and is used again pays no old voucher twice.

        Claims, and all else that moves books, touch no token; only deposits, `settle`,
        refunds and the end of a withdrawal do, each for one party.
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

struct Voucher:
    channel: ChannelConfig
    maxClaimableAmount: uint128

struct VoucherClaim:
    voucher: Voucher
    signature: Bytes[96]  # of 65; what is a little longer is skipped, not fatal
    totalClaimed: uint128


# What a batch has claimed and not yet booked, for one receiver in one token.
struct Due:
    receiver: address
    token: address
    amount: uint256


# Moves the payer's tokens here by whatever the payer signed; what arrives is counted.
interface Collector:
    def collect(
        payer: address,
        token: address,
        amount: uint256,
        channelId: bytes32,
        caller: address,
        collectorData: Bytes[1024],
    ): nonpayable

interface Token:
    def permit(
        owner: address,
        spender: address,
        amount: uint256,
        deadline: uint256,
        v: uint8,
        r: bytes32,
        s: bytes32,
    ): nonpayable
    def receiveWithAuthorization(
        source: address,
        target: address,
        amount: uint256,
        validAfter: uint256,
        validBefore: uint256,
        nonce: bytes32,
        v: uint8,
        r: bytes32,
        s: bytes32,
    ): nonpayable


event Deposited:
    channelId: indexed(bytes32)
    payer: indexed(address)
    receiver: indexed(address)
    amount: uint128
    balance: uint128

# By how much, the one before it says; each byte here is paid a hundred times a batch.
event Claimed:
    channelId: indexed(bytes32)
    totalClaimed: uint128

# Why this voucher of a batch paid nothing; the others did not mind.
event VoucherSkipped:
    channelId: indexed(bytes32)
    reason: String[16]

event Settled:
    receiver: indexed(address)
    token: indexed(address)
    sender: indexed(address)
    amount: uint128

event WithdrawInitiated:
    channelId: indexed(bytes32)
    amount: uint128
    finalizableAt: uint256

event WithdrawFinalized:
    channelId: indexed(bytes32)
    amount: uint128
    balance: uint128

event Refunded:
    channelId: indexed(bytes32)
    amount: uint128
    balance: uint128


MIN_WITHDRAW_DELAY: constant(uint40) = 900
MAX_WITHDRAW_DELAY: constant(uint40) = 2_592_000
# Of secp256k1; written in decimal, since Vyper takes 32 bytes in hex for bytes32.
HALF_ORDER: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)
LOW: constant(uint256) = 2**128 - 1
PREFIX: constant(bytes2) = 0x1901

DOMAIN_TYPEHASH: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
NAME_HASH: constant(bytes32) = keccak256("x402 Batch Settlement")
VERSION_HASH: constant(bytes32) = keccak256("1")
CHANNEL_TYPEHASH: constant(bytes32) = keccak256(
    "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,uint40 withdrawDelay,bytes32 salt)"
)
VOUCHER_TYPEHASH: constant(bytes32) = keccak256(
    "Voucher(bytes32 channelId,uint128 maxClaimableAmount)"
)
REFUND_TYPEHASH: constant(bytes32) = keccak256(
    "Refund(bytes32 channelId,uint256 nonce,uint128 amount)"
)
BATCH_TYPEHASH: constant(bytes32) = keccak256(
    "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
)
ENTRY_TYPEHASH: constant(bytes32) = keccak256(
    "ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
)

# Deposits are taken in these alone; what is here already is never held back.
TOKENS: immutable(DynArray[address, 8])
CHAIN_ID: immutable(uint256)
SEPARATOR: immutable(bytes32)

# Two amounts of 128 bits in one slot, the second one above the first: a claim writes one.
_channels: HashMap[bytes32, uint256]  # balance, totalClaimed
_withdrawals: HashMap[bytes32, uint256]  # amount, initiatedAt
_receivers: HashMap[address, HashMap[address, uint256]]  # totalClaimed, totalSettled
refundNonce: public(HashMap[bytes32, uint256])


@deploy
def __init__(tokens: DynArray[address, 8]):
    """
    @param tokens What may be deposited, for ever: plain ERC-20, without a fee on
                  transfer and without balances that change by themselves.
    """
    assert len(tokens) > 0, "no_token"
    TOKENS = tokens
    CHAIN_ID = chain.id
    SEPARATOR = self._compute_separator()


# ---- what is ---------------------------------------------------------------------


@external
@view
def tokens() -> DynArray[address, 8]:
    return TOKENS


@external
@view
def domainSeparator() -> bytes32:
    return self._separator()


@external
@view
def channels(channelId: bytes32) -> (uint128, uint128):
    """
    @return balance, totalClaimed
    """
    return self._unpack(self._channels[channelId])


@external
@view
def pendingWithdrawals(channelId: bytes32) -> (uint128, uint40):
    """
    @return amount, initiatedAt; zeros where the payer wants nothing back
    """
    packed: uint256 = self._withdrawals[channelId]
    return convert(packed & LOW, uint128), convert(packed >> 128, uint40)


@external
@view
def receivers(receiver: address, token: address) -> (uint128, uint128):
    """
    @return totalClaimed, totalSettled
    """
    return self._unpack(self._receivers[receiver][token])


@external
@view
def getChannelId(config: ChannelConfig) -> bytes32:
    return self._channel_id(config, self._separator())


@external
@view
def getVoucherDigest(channelId: bytes32, maxClaimableAmount: uint128) -> bytes32:
    return self._voucher_digest(channelId, maxClaimableAmount, self._separator())


@external
@view
def getRefundDigest(channelId: bytes32, nonce: uint256, amount: uint128) -> bytes32:
    return self._refund_digest(channelId, nonce, amount)


@external
@view
def getClaimBatchDigest(voucherClaims: DynArray[VoucherClaim, 100]) -> bytes32:
    separator: bytes32 = self._separator()
    entries: DynArray[bytes32, 100] = []
    for item: VoucherClaim in voucherClaims:
        entries.append(self._entry(item, separator))
    return self._batch_digest(entries, separator)


# ---- money in --------------------------------------------------------------------


@external
@nonreentrant
def deposit(
    config: ChannelConfig, amount: uint128, collector: address, collectorData: Bytes[1024]
):
    """
    @notice Open a channel or top it up; anybody may, for anybody.
    @param collector What brings the tokens here by something that the payer signed; the
                     zero address takes them from the caller, who has approved that.
    """
    channel_id: bytes32 = self._check_deposit(config, amount)
    before: uint256 = self._holding(config.token)
    if collector == empty(address):
        self._pull(config.token, amount)
    else:
        extcall Collector(collector).collect(
            config.payer,
            config.token,
            convert(amount, uint256),
            channel_id,
            msg.sender,
            collectorData,
        )
    self._credit(config, channel_id, amount, before)


@external
@nonreentrant
def depositWithPermit(
    config: ChannelConfig, amount: uint128, deadline: uint256, signature: Bytes[65]
):
    """
    @notice Approve by EIP-2612 and deposit, in one transaction of the tokens' owner.
            A permit says nothing of a channel, so nobody else may bring it here. Where
            somebody has used it up before, the allowance stands, and that decides.
    """
    channel_id: bytes32 = self._check_deposit(config, amount)
    v: uint8 = 0
    r: bytes32 = empty(bytes32)
    s: bytes32 = empty(bytes32)
    v, r, s = self._split(signature)
    before: uint256 = self._holding(config.token)
    is_permitted: bool = raw_call(
        config.token,
        abi_encode(
            msg.sender,
            self,
            convert(amount, uint256),
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
    self._pull(config.token, amount)
    self._credit(config, channel_id, amount, before)


@external
@nonreentrant
def depositWithAuthorization(
    config: ChannelConfig,
    amount: uint128,
    validAfter: uint256,
    validBefore: uint256,
    salt: uint256,
    signature: Bytes[65],
):
    """
    @notice Deposit by an EIP-3009 authorization of the payer to this contract; anybody
            sends it, so that the payer needs no gas. Its nonce,
            keccak256(abi.encode(channelId, salt)), binds it to this one channel.
    """
    channel_id: bytes32 = self._check_deposit(config, amount)
    v: uint8 = 0
    r: bytes32 = empty(bytes32)
    s: bytes32 = empty(bytes32)
    v, r, s = self._split(signature)
    before: uint256 = self._holding(config.token)
    extcall Token(config.token).receiveWithAuthorization(
        config.payer,
        self,
        convert(amount, uint256),
        validAfter,
        validBefore,
        keccak256(abi_encode(channel_id, salt)),
        v,
        r,
        s,
    )
    self._credit(config, channel_id, amount, before)


# ---- claims: books only ----------------------------------------------------------


@external
@nonreentrant
def claim(voucherClaims: DynArray[VoucherClaim, 100]):
    """
    @notice Claim vouchers as their receiver, or as its authorizer. One that is bad or
            stale is skipped, and an event says why; one over the deposit pays the rest.
    """
    separator: bytes32 = self._separator()
    due: Due = empty(Due)
    for item: VoucherClaim in voucherClaims:
        if (
            due.receiver != item.voucher.channel.receiver
            or due.token != item.voucher.channel.token
        ):
            self._book(due)
            due = Due(
                receiver=item.voucher.channel.receiver,
                token=item.voucher.channel.token,
                amount=0,
            )
        due.amount = unsafe_add(due.amount, self._claim(item, msg.sender, separator))
    self._book(due)


@external
@nonreentrant
def claimWithSignature(
    voucherClaims: DynArray[VoucherClaim, 100], authorizerSignature: Bytes[96]
):
    """
    @notice Claim for a receiver whose authorizer signed this batch; anybody sends it.
            Again is harmless: all of it is stale then.
    """
    separator: bytes32 = self._separator()
    entries: DynArray[bytes32, 100] = []
    for item: VoucherClaim in voucherClaims:
        entries.append(self._entry(item, separator))
    signer: address = self._recover(
        self._batch_digest(entries, separator), authorizerSignature
    )
    assert signer != empty(address), "bad_signature"
    due: Due = empty(Due)
    for item: VoucherClaim in voucherClaims:
        if (
            due.receiver != item.voucher.channel.receiver
            or due.token != item.voucher.channel.token
        ):
            self._book(due)
            due = Due(
                receiver=item.voucher.channel.receiver,
                token=item.voucher.channel.token,
                amount=0,
            )
        due.amount = unsafe_add(due.amount, self._claim(item, signer, separator))
    self._book(due)


@internal
def _claim(item: VoucherClaim, claimant: address, separator: bytes32) -> uint256:
    """
    Claim one voucher; give what it brought, zero where it was skipped. It runs a hundred
    times a batch, so it does by hand what `_channel_id` and `_recover` do elsewhere.
    """
    if (
        claimant != item.voucher.channel.receiver
        and claimant != item.voucher.channel.receiverAuthorizer
    ):
        return self._skip(item.voucher.channel, separator, "not_payee")
    if item.totalClaimed > item.voucher.maxClaimableAmount:
        return self._skip(item.voucher.channel, separator, "over_voucher")
    channel_id: bytes32 = keccak256(
        concat(
            PREFIX,
            separator,
            keccak256(abi_encode(CHANNEL_TYPEHASH, item.voucher.channel)),
        )
    )
    packed: uint256 = self._channels[channel_id]
    balance: uint256 = packed & LOW
    claimed: uint256 = packed >> 128
    total: uint128 = item.totalClaimed
    if convert(total, uint256) <= claimed:
        return self._skip(item.voucher.channel, separator, "stale_voucher")
    if convert(total, uint256) > balance:
        if balance == claimed:
            return self._skip(item.voucher.channel, separator, "nothing_left")
        total = convert(balance, uint128)
    digest: bytes32 = keccak256(
        concat(
            PREFIX,
            separator,
            keccak256(
                abi_encode(VOUCHER_TYPEHASH, channel_id, item.voucher.maxClaimableAmount)
            ),
        )
    )
    if len(item.signature) != 65:
        return self._skip(item.voucher.channel, separator, "bad_signature")
    # The byte behind s: what lies before it in this word is most of s.
    v: uint256 = convert(extract32(item.signature, 33), uint256) & 255
    s: uint256 = convert(extract32(item.signature, 32), uint256)
    if (v != 27 and v != 28) or s > HALF_ORDER:
        return self._skip(item.voucher.channel, separator, "bad_signature")
    payer: address = item.voucher.channel.payerAuthorizer
    if payer == empty(address):
        payer = item.voucher.channel.payer
    # A payer is never the zero address, which is what no key recovers to.
    if payer != ecrecover(digest, v, convert(extract32(item.signature, 0), uint256), s):
        return self._skip(item.voucher.channel, separator, "bad_signature")
    self._channels[channel_id] = balance | (convert(total, uint256) << 128)
    log Claimed(channelId=channel_id, totalClaimed=total)
    return unsafe_sub(convert(total, uint256), claimed)


@internal
def _skip(config: ChannelConfig, separator: bytes32, reason: String[16]) -> uint256:
    log VoucherSkipped(channelId=self._channel_id(config, separator), reason=reason)
    return 0


@internal
def _book(due: Due):
    """Write what a batch has brought one receiver: once, not for each voucher."""
    # The low half cannot run over into the high one: it counts tokens that came in.
    if due.amount > 0:
        self._receivers[due.receiver][due.token] += due.amount


# ---- money out -------------------------------------------------------------------


@external
@nonreentrant
def settle(receiver: address, token: address):
    """
    @notice Pay a receiver all that it has claimed; anybody may ask. Where nothing is
            due, nothing happens.
    """
    packed: uint256 = self._receivers[receiver][token]
    claimed: uint256 = packed & LOW
    amount: uint256 = claimed - (packed >> 128)
    if amount == 0:
        return
    self._receivers[receiver][token] = claimed | (claimed << 128)
    log Settled(
        receiver=receiver,
        token=token,
        sender=msg.sender,
        amount=convert(amount, uint128),
    )
    self._push(token, receiver, amount)


@external
@nonreentrant
def refund(config: ChannelConfig, amount: uint128):
    """
    @notice The receiver, or its authorizer, gives back what is not claimed, up to this
            amount: to the payer, at once.
    """
    assert msg.sender == config.receiver or msg.sender == config.receiverAuthorizer, "not_payee"
    self._refund(config, self._channel_id(config, self._separator()), amount)


@external
@nonreentrant
def refundWithSignature(
    config: ChannelConfig,
    amount: uint128,
    nonce: uint256,
    receiverAuthorizerSignature: Bytes[96],
):
    """
    @notice As `refund`, by a signature of the receiver's authorizer that counts once.
    """
    channel_id: bytes32 = self._channel_id(config, self._separator())
    assert nonce == self.refundNonce[channel_id], "bad_nonce"
    signer: address = self._recover(
        self._refund_digest(channel_id, nonce, amount), receiverAuthorizerSignature
    )
    assert signer != empty(address), "bad_signature"
    assert signer == config.receiver or signer == config.receiverAuthorizer, "not_payee"
    self.refundNonce[channel_id] = nonce + 1
    self._refund(config, channel_id, amount)


@internal
def _refund(config: ChannelConfig, channel_id: bytes32, wanted: uint128):
    amount: uint128 = self._debit(channel_id, wanted)
    assert amount > 0, "nothing_left"
    pending: uint256 = self._withdrawals[channel_id]
    if pending != 0:
        # What came back need not be withdrawn any more.
        left: uint256 = pending & LOW
        left -= min(left, convert(amount, uint256))
        self._withdrawals[channel_id] = (
            0 if left == 0 else (pending >> 128 << 128) | left
        )
    log Refunded(
        channelId=channel_id,
        amount=amount,
        balance=convert(self._channels[channel_id] & LOW, uint128),
    )
    self._push(config.token, config.payer, convert(amount, uint256))


@external
@nonreentrant
def initiateWithdraw(config: ChannelConfig, amount: uint128):
    """
    @notice The payer wants this much back. From now on the receiver has the channel's
            `withdrawDelay` to claim what it holds vouchers for.
    """
    assert msg.sender == config.payer, "not_payer"
    channel_id: bytes32 = self._channel_id(config, self._separator())
    packed: uint256 = self._channels[channel_id]
    free: uint256 = (packed & LOW) - (packed >> 128)
    assert amount > 0, "zero_amount"
    assert convert(amount, uint256) <= free, "over_balance"
    assert self._withdrawals[channel_id] == 0, "withdrawing"
    self._withdrawals[channel_id] = convert(amount, uint256) | (block.timestamp << 128)
    log WithdrawInitiated(
        channelId=channel_id,
        amount=amount,
        finalizableAt=block.timestamp + convert(config.withdrawDelay, uint256),
    )


@external
@nonreentrant
def finalizeWithdraw(config: ChannelConfig):
    """
    @notice After the delay, pay the payer what it asked for, or what is left of that;
            anybody may ask. Nobody can put it off, not even by a deposit.
    """
    channel_id: bytes32 = self._channel_id(config, self._separator())
    pending: uint256 = self._withdrawals[channel_id]
    assert pending != 0, "not_withdrawing"
    assert block.timestamp >= (pending >> 128) + convert(config.withdrawDelay, uint256), "too_early"
    self._withdrawals[channel_id] = 0
    amount: uint128 = self._debit(channel_id, convert(pending & LOW, uint128))
    log WithdrawFinalized(
        channelId=channel_id,
        amount=amount,
        balance=convert(self._channels[channel_id] & LOW, uint128),
    )
    if amount > 0:
        self._push(config.token, config.payer, convert(amount, uint256))


@external
def multicall(data: DynArray[Bytes[8192], 4]) -> DynArray[Bytes[32], 4]:
    """
    @notice Several calls in one transaction, all or nothing, such as the last claim and
            the refund. Nothing here takes ether, so nothing can be counted twice; each
            call takes the lock for itself.
    """
    results: DynArray[Bytes[32], 4] = []
    for item: Bytes[8192] in data:
        results.append(raw_call(self, item, max_outsize=32, is_delegate_call=True))
    return results


# ---- within ----------------------------------------------------------------------


@internal
@view
def _check_deposit(config: ChannelConfig, amount: uint128) -> bytes32:
    assert amount > 0, "zero_amount"
    assert config.token in TOKENS, "bad_token"
    assert config.payer != empty(address) and config.receiver != empty(address), "bad_party"
    assert config.withdrawDelay >= MIN_WITHDRAW_DELAY, "bad_delay"
    assert config.withdrawDelay <= MAX_WITHDRAW_DELAY, "bad_delay"
    return self._channel_id(config, self._separator())


@internal
def _credit(config: ChannelConfig, channel_id: bytes32, amount: uint128, before: uint256):
    # A token that calls back finds every door locked, so this may come after.
    arrived: uint256 = self._holding(config.token) - before
    assert arrived >= convert(amount, uint256), "short_transfer"
    packed: uint256 = self._channels[channel_id]
    balance: uint128 = convert(packed & LOW, uint128) + amount
    self._channels[channel_id] = (packed >> 128 << 128) | convert(balance, uint256)
    log Deposited(
        channelId=channel_id,
        payer=config.payer,
        receiver=config.receiver,
        amount=amount,
        balance=balance,
    )


@internal
def _debit(channel_id: bytes32, wanted: uint128) -> uint128:
    """Take this much off a channel's balance, or all that is not claimed."""
    packed: uint256 = self._channels[channel_id]
    balance: uint256 = packed & LOW
    amount: uint256 = min(convert(wanted, uint256), balance - (packed >> 128))
    # The tombstone: what was claimed stays written, also of an empty channel.
    self._channels[channel_id] = packed - amount
    return convert(amount, uint128)


@internal
@view
def _holding(token: address) -> uint256:
    return staticcall IERC20(token).balanceOf(self)


@internal
def _pull(token: address, amount: uint128):
    assert extcall IERC20(token).transferFrom(
        msg.sender, self, convert(amount, uint256), default_return_value=True
    ), "transfer_failed"


@internal
def _push(token: address, target: address, amount: uint256):
    assert extcall IERC20(token).transfer(
        target, amount, default_return_value=True
    ), "transfer_failed"


@internal
@pure
def _unpack(packed: uint256) -> (uint128, uint128):
    return convert(packed & LOW, uint128), convert(packed >> 128, uint128)


@internal
@view
def _separator() -> bytes32:
    # After a fork of the chain the same vouchers must not pay on both sides.
    if chain.id == CHAIN_ID:
        return SEPARATOR
    return self._compute_separator()


@internal
@view
def _compute_separator() -> bytes32:
    return keccak256(
        abi_encode(DOMAIN_TYPEHASH, NAME_HASH, VERSION_HASH, chain.id, self)
    )


@internal
@pure
def _channel_id(config: ChannelConfig, separator: bytes32) -> bytes32:
    return keccak256(
        concat(
            PREFIX, separator, keccak256(abi_encode(CHANNEL_TYPEHASH, config))
        )
    )


@internal
@pure
def _voucher_digest(channel_id: bytes32, amount: uint128, separator: bytes32) -> bytes32:
    return keccak256(
        concat(
            PREFIX,
            separator,
            keccak256(abi_encode(VOUCHER_TYPEHASH, channel_id, amount)),
        )
    )


@internal
@view
def _refund_digest(channel_id: bytes32, nonce: uint256, amount: uint128) -> bytes32:
    return keccak256(
        concat(
            PREFIX,
            self._separator(),
            keccak256(abi_encode(REFUND_TYPEHASH, channel_id, nonce, amount)),
        )
    )


@internal
@pure
def _entry(item: VoucherClaim, separator: bytes32) -> bytes32:
    return keccak256(
        abi_encode(
            ENTRY_TYPEHASH,
            self._channel_id(item.voucher.channel, separator),
            item.voucher.maxClaimableAmount,
            item.totalClaimed,
        )
    )


@internal
@pure
def _batch_digest(entries: DynArray[bytes32, 100], separator: bytes32) -> bytes32:
    # Behind the offset and the length that ABI puts in front of a list.
    hashes: Bytes[3264] = abi_encode(entries)
    listed: bytes32 = keccak256(slice(hashes, 64, 32 * len(entries)))
    return keccak256(
        concat(
            PREFIX, separator, keccak256(abi_encode(BATCH_TYPEHASH, listed))
        )
    )


@internal
@pure
def _split(signature: Bytes[65]) -> (uint8, bytes32, bytes32):
    assert len(signature) == 65, "bad_signature"
    return (
        convert(slice(signature, 64, 1), uint8),
        extract32(signature, 0),
        extract32(signature, 32),
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
