# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# SPDX-License-Identifier: Apache-2.0
"""
@title Test RENDER
@license Apache-2.0
@notice For development chains alone: anybody may `mint`. A token with a price, of 18
        decimals and with EIP-2612, as many are; no EIP-3009.
"""

from ethereum.ercs import IERC20

implements: IERC20


event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256


name: public(constant(String[11])) = "Test Render"
symbol: public(constant(String[6])) = "RENDER"
version: public(constant(String[1])) = "1"
decimals: public(constant(uint8)) = 18

DOMAIN_TYPEHASH: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
PERMIT_TYPEHASH: constant(bytes32) = keccak256(
    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
)

totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
nonces: public(HashMap[address, uint256])


@external
def mint(target: address, amount: uint256):
    """
    @notice The faucet: this money is worth nothing.
    """
    self.totalSupply += amount
    self.balanceOf[target] += amount
    log Transfer(sender=empty(address), receiver=target, value=amount)


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    return self._separator()


@external
def transfer(target: address, amount: uint256) -> bool:
    self._transfer(msg.sender, target, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    self._approve(msg.sender, spender, amount)
    return True


@external
def transferFrom(source: address, target: address, amount: uint256) -> bool:
    allowed: uint256 = self.allowance[source][msg.sender]
    assert allowed >= amount, "over_allowance"
    if allowed != max_value(uint256):
        self.allowance[source][msg.sender] = allowed - amount
    self._transfer(source, target, amount)
    return True


@external
def permit(
    owner: address,
    spender: address,
    amount: uint256,
    deadline: uint256,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    assert block.timestamp <= deadline, "expired"
    nonce: uint256 = self.nonces[owner]
    self.nonces[owner] = nonce + 1
    hashed: bytes32 = keccak256(
        abi_encode(PERMIT_TYPEHASH, owner, spender, amount, nonce, deadline)
    )
    digest: bytes32 = keccak256(concat(b"\x19\x01", self._separator(), hashed))
    signer: address = ecrecover(digest, v, r, s)
    assert signer != empty(address) and signer == owner, "bad_signature"
    self._approve(owner, spender, amount)


@internal
def _transfer(source: address, target: address, amount: uint256):
    assert target != empty(address), "zero_address"
    assert self.balanceOf[source] >= amount, "over_funds"
    self.balanceOf[source] -= amount
    self.balanceOf[target] += amount
    log Transfer(sender=source, receiver=target, value=amount)


@internal
def _approve(owner: address, spender: address, amount: uint256):
    self.allowance[owner][spender] = amount
    log Approval(owner=owner, spender=spender, value=amount)


@internal
@view
def _separator() -> bytes32:
    return keccak256(
        abi_encode(DOMAIN_TYPEHASH, keccak256(name), keccak256(version), chain.id, self)
    )
