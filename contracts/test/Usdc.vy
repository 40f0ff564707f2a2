# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# SPDX-License-Identifier: Apache-2.0
"""
@title Test USDC
@license Apache-2.0
@notice For development chains alone: anybody may `mint` and `blacklist`. Otherwise it
        behaves as Circle's USDC does: 6 decimals, EIP-2612, EIP-3009, a blacklist.
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

event AuthorizationUsed:
    authorizer: indexed(address)
    nonce: indexed(bytes32)


name: public(constant(String[8])) = "Test USD"
symbol: public(constant(String[4])) = "USDC"
version: public(constant(String[1])) = "2"
decimals: public(constant(uint8)) = 6

HALF_ORDER: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)
DOMAIN_TYPEHASH: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
PERMIT_TYPEHASH: constant(bytes32) = keccak256(
    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
)
TRANSFER_TYPEHASH: constant(bytes32) = keccak256(
    "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
RECEIVE_TYPEHASH: constant(bytes32) = keccak256(
    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)

totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
nonces: public(HashMap[address, uint256])
authorizationState: public(HashMap[address, HashMap[bytes32, bool]])
isBlacklisted: public(HashMap[address, bool])


@external
def mint(target: address, amount: uint256):
    """
    @notice The faucet: this money is worth nothing.
    """
    self.totalSupply += amount
    self.balanceOf[target] += amount
    log Transfer(sender=empty(address), receiver=target, value=amount)


@external
def blacklist(target: address):
    self.isBlacklisted[target] = True


@external
def unBlacklist(target: address):
    self.isBlacklisted[target] = False


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
    assert not self.isBlacklisted[msg.sender], "blacklisted"
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
    self._check_signed(
        owner,
        keccak256(abi_encode(PERMIT_TYPEHASH, owner, spender, amount, nonce, deadline)),
        v,
        r,
        s,
    )
    self._approve(owner, spender, amount)


@external
def transferWithAuthorization(
    source: address,
    target: address,
    amount: uint256,
    validAfter: uint256,
    validBefore: uint256,
    nonce: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    self._use(
        TRANSFER_TYPEHASH, source, target, amount, validAfter, validBefore, nonce, v, r, s
    )


@external
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
):
    assert target == msg.sender, "not_the_payee"
    self._use(
        RECEIVE_TYPEHASH, source, target, amount, validAfter, validBefore, nonce, v, r, s
    )


@internal
def _use(
    typehash: bytes32,
    source: address,
    target: address,
    amount: uint256,
    validAfter: uint256,
    validBefore: uint256,
    nonce: bytes32,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    assert block.timestamp > validAfter, "not_yet_valid"
    assert block.timestamp < validBefore, "expired"
    assert not self.authorizationState[source][nonce], "used"
    self._check_signed(
        source,
        keccak256(
            abi_encode(typehash, source, target, amount, validAfter, validBefore, nonce)
        ),
        v,
        r,
        s,
    )
    self.authorizationState[source][nonce] = True
    log AuthorizationUsed(authorizer=source, nonce=nonce)
    self._transfer(source, target, amount)


@internal
def _transfer(source: address, target: address, amount: uint256):
    assert target != empty(address), "zero_address"
    assert not self.isBlacklisted[source], "blacklisted"
    assert not self.isBlacklisted[target], "blacklisted"
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


@internal
@view
def _check_signed(signer: address, struct_hash: bytes32, v: uint8, r: bytes32, s: bytes32):
    assert convert(s, uint256) <= HALF_ORDER and (v == 27 or v == 28), "bad_signature"
    digest: bytes32 = keccak256(concat(b"\x19\x01", self._separator(), struct_hash))
    found: address = ecrecover(digest, v, r, s)
    assert found != empty(address) and found == signer, "bad_signature"
