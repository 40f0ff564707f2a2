"""Keys and signatures: secp256k1, 65 bytes, strict.

One key is a party's identity, signs its documents and is its address on a chain.
Here: signing a digest and finding the signer of one. Not here: what is signed
(``typed_data``), where keys are kept (``adapter.key_file``), randomness (the caller's).
"""

import re
from typing import NoReturn

from coincurve import PrivateKey
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT
from coincurve.flags import EC_UNCOMPRESSED
from sha3 import keccak_256

from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import Address, Digest

SIGNATURE_BYTES = 65  # r (32), s (32), v (1)
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HALF_ORDER = CURVE_ORDER // 2
_SECRET_BYTES = 32
_DIGEST_BYTES = 32
_POINT_BYTES = 65  # 0x04, x (32), y (32)
_V_OFFSET = 27
_SECRET = re.compile(r"\A(0x)?[0-9a-fA-F]{64}\Z")


class BadSignature(PeerFault):
    """A signature is not one that Sublet accepts; the ``code`` says which rule fell.

    ``signature_length``, ``signature_v``, ``signature_range``, ``signature_high_s``
    and ``signature_unrecoverable`` (no key can have made it: where ``ecrecover`` on a
    chain would answer the zero address).
    """

    code = "bad_signature"


class Key:
    """A secret key. It shows its address and nothing else, and refuses to be pickled."""

    __slots__ = ("_private", "address")

    address: Address

    def __init__(self, private: PrivateKey) -> None:
        """Take the key; use ``from_hex`` or ``generate``."""
        self._private = private
        self.address = _address_of(private.public_key.format(compressed=False))

    @classmethod
    def from_hex(cls, text: str) -> "Key":
        """Read 64 hex digits, with or without ``0x``.

        Raises:
            Refused: something else, or not a key of this curve. The text is not shown.
        """
        if _SECRET.match(text) is None:
            raise Refused(
                "a secret key is 64 hex digits, with or without 0x in front",
                code="bad_key",
            )
        return cls.generate(bytes.fromhex(text.removeprefix("0x")))

    @classmethod
    def generate(cls, entropy: bytes) -> "Key":
        """Make a key of 32 bytes that the caller drew from the system's generator.

        Raises:
            Refused: not 32 bytes, or (once in 2^127) not a key of this curve.
        """
        if len(entropy) != _SECRET_BYTES:
            raise Refused("a key is made of exactly 32 random bytes", code="bad_key")
        if not 0 < int.from_bytes(entropy, "big") < CURVE_ORDER:
            raise Refused(
                "these 32 bytes are no key of the curve; draw others", code="bad_key"
            )
        return cls(PrivateKey(entropy))

    def sign(self, digest: Digest) -> bytes:
        """Sign a digest: 65 bytes r, s, v. Deterministic (RFC 6979), low s."""
        raw = self._private.sign_recoverable(bytes.fromhex(digest[2:]), hasher=None)
        return raw[:-1] + bytes((raw[-1] + _V_OFFSET,))

    def to_hex(self) -> str:
        """Give the secret, for the key file and nobody else."""
        return "0x" + self._private.secret.hex()

    def __repr__(self) -> str:
        return f"Key({self.address})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret key is not pickled or copied")


def recover(digest: Digest, signature: bytes) -> Address:
    """Find who signed this digest.

    Strict, so that one document has one signature: 65 bytes, v 27 or 28, r and s in
    range, s at most n/2 (EIP-2).

    Raises:
        BadSignature: the signature is malformed, malleable or impossible.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise BadSignature(
            f"a signature has 65 bytes, not {len(signature)}", code="signature_length"
        )
    v = signature[-1]
    if v not in (27, 28):
        raise BadSignature(f"v is 27 or 28, not {v}", code="signature_v")
    r = int.from_bytes(signature[:32], "big")
    s = int.from_bytes(signature[32:64], "big")
    if not (0 < r < CURVE_ORDER and 0 < s < CURVE_ORDER):
        raise BadSignature(
            "r and s lie between 0 and the order of the curve", code="signature_range"
        )
    if s > HALF_ORDER:
        raise BadSignature(
            "s lies above half the order of the curve; sign with low s (EIP-2)",
            code="signature_high_s",
        )
    point = _recover_point(bytes.fromhex(digest[2:]), signature, odd=v - _V_OFFSET)
    if point is None:
        raise BadSignature(
            "no key can have made this signature", code="signature_unrecoverable"
        )
    return _address_of(point)


def _recover_point(digest: bytes, signature: bytes, *, odd: int) -> bytes | None:
    """Find the key's point, as 65 bytes, or None where there is none.

    The library itself, not coincurve's classes around it: this is most of what an
    append and an audit cost. The lengths are checked here, the library trusts them.
    """
    if len(digest) != _DIGEST_BYTES or len(signature) != SIGNATURE_BYTES:
        return None
    context = GLOBAL_CONTEXT.ctx
    parsed = ffi.new("secp256k1_ecdsa_recoverable_signature *")
    public = ffi.new("secp256k1_pubkey *")
    if not (
        lib.secp256k1_ecdsa_recoverable_signature_parse_compact(
            context, parsed, signature, odd
        )
        and lib.secp256k1_ecdsa_recover(context, public, parsed, digest)
    ):
        return None
    point = ffi.new("unsigned char[]", _POINT_BYTES)
    length = ffi.new("size_t *", _POINT_BYTES)
    lib.secp256k1_ec_pubkey_serialize(context, point, length, public, EC_UNCOMPRESSED)
    return bytes(ffi.buffer(point))


def _address_of(point: bytes) -> Address:
    """The last 20 bytes of the Keccak-256 of the point, as every EVM chain has it."""
    return "0x" + str(keccak_256(point[1:]).hexdigest()[24:])
