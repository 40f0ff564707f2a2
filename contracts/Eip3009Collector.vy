# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# SPDX-License-Identifier: Apache-2.0
"""
@title Collector of EIP-3009 deposits for x402 clients
@license Apache-2.0
@notice x402's client signs its authorization to a collector, not to the escrow. This
        one pulls the tokens and hands them on; it keeps nothing and knows one escrow.
"""

from ethereum.ercs import IERC20


interface Token:
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


ESCROW: public(immutable(address))


@deploy
def __init__(escrow: address):
    ESCROW = escrow


@external
def collect(
    payer: address,
    token: address,
    amount: uint256,
    channelId: bytes32,
    caller: address,
    collectorData: Bytes[1024],
):
    """
    @param collectorData abi.encode(uint256 validAfter, uint256 validBefore,
                         uint256 salt, bytes signature), as x402 writes it.
    """
    # From anybody else the tokens would go into the escrow, and into nobody's channel.
    assert msg.sender == ESCROW, "not_escrow"
    valid_after: uint256 = 0
    valid_before: uint256 = 0
    salt: uint256 = 0
    signature: Bytes[65] = b""
    valid_after, valid_before, salt, signature = abi_decode(
        collectorData, (uint256, uint256, uint256, Bytes[65])
    )
    assert len(signature) == 65, "bad_signature"
    extcall Token(token).receiveWithAuthorization(
        payer,
        self,
        amount,
        valid_after,
        valid_before,
        keccak256(abi_encode(channelId, salt)),
        convert(slice(signature, 64, 1), uint8),
        extract32(signature, 0),
        extract32(signature, 32),
    )
    assert extcall IERC20(token).transfer(
        msg.sender, amount, default_return_value=True
    ), "transfer_failed"
