"""EIP-1559 transactions: RLP, the digest that is signed, the bytes that are sent.

Only type 2 with an empty access list: no chain that Sublet settles on is without it.
Not here: which nonce and which fees (``core.rail.sending``).
"""

from collections.abc import Sequence
from typing import TypeAlias

from sublet.base.ids import Address, Digest
from sublet.core.rail.transaction import SignedTransaction, Transaction
from sublet.wire.signature import Key
from sublet.wire.typed_data import keccak

Item: TypeAlias = bytes | int | Sequence["Item"]  # what RLP writes

_TYPE = b"\x02"
_V_OFFSET = 27
_SHORT_MAX = 55  # bytes whose length fits into the first byte


def encode_rlp(item: Item) -> bytes:
    """Write an item in RLP; integers without leading zeros, as transactions have them.

    >>> encode_rlp([b"cat", 1_024, []]).hex()
    'c883636174820400c0'
    """
    if isinstance(item, int):
        return encode_rlp(item.to_bytes((item.bit_length() + 7) // 8, "big"))
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _prefix(len(item), 0x80) + item
    content = b"".join([encode_rlp(part) for part in item])
    return _prefix(len(content), 0xC0) + content


def _prefix(length: int, offset: int) -> bytes:
    if length <= _SHORT_MAX:
        return bytes((offset + length,))
    written = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((offset + _SHORT_MAX + len(written),)) + written


def sign_transaction(transaction: Transaction, key: Key) -> SignedTransaction:
    """Sign a transaction. Deterministic: the same one gives the same bytes."""
    call = transaction.call
    members: list[Item] = [
        transaction.chain_id,
        transaction.nonce,
        transaction.fees.tip_wei,
        transaction.fees.max_wei,
        transaction.gas,
        bytes.fromhex(call.to[2:]) if call.to else b"",
        call.value_wei,
        call.data,
        [],
    ]
    digest = "0x" + keccak(_TYPE + encode_rlp(members)).hex()
    signature = key.sign(digest)
    r, s = (int.from_bytes(signature[at : at + 32], "big") for at in (0, 32))
    raw = _TYPE + encode_rlp([*members, signature[-1] - _V_OFFSET, r, s])
    return SignedTransaction(raw, "0x" + keccak(raw).hex(), transaction.fees)


def compute_contract(sender: Address, nonce: int) -> Address:
    """Name the contract that this sender makes with this nonce.

    >>> compute_contract("0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0", 0)
    '0xcd234a471b72ba2f1ccf0a70fcaba648a5eecd8d'
    """
    return "0x" + keccak(encode_rlp([bytes.fromhex(sender[2:]), nonce]))[12:].hex()


def compute_fixed_contract(maker: Address, code: bytes, *, salt: Digest) -> Address:
    """Name the contract that EIP-1014 (CREATE2) makes: by its code alone, of no nonce.

    Args:
        maker: the contract that makes it.
        code: what deploys it, the constructor's arguments included.
        salt: for several of the same code.

    >>> compute_fixed_contract("0x" + "0" * 40, bytes(1), salt="0x" + "0" * 64)
    '0x4d1a2e2bb4f88f0250f26ffff098b0b30b26bf38'
    """
    named = bytes.fromhex(maker[2:] + salt[2:]) + keccak(code)
    return "0x" + keccak(b"\xff" + named)[12:].hex()
