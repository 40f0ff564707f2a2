"""Encrypted key files: Web3 Secret Storage, version 3, as geth and wallets keep them.

For a cold key: the one that owns money, and is needed only to put it into channels and
to take it back. What signs vouchers all day is another, hot one (``key_file``).
Written with scrypt; PBKDF2 is read, too. A password comes in as text, and neither it
nor the secret is ever part of an error.
"""

import hashlib
import hmac
import json
import secrets
import uuid
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from msgspec import Meta, Struct

from sublet.adapter.key_file import create_private, load_private
from sublet.base.errors import Refused
from sublet.base.ids import Address
from sublet.wire.signature import Key
from sublet.wire.typed_data import keccak

FILE_BYTES_MAX = 16_384
SCRYPT_N = 1 << 18  # 256 MiB and two seconds for a guess, as geth has it
_SCRYPT_R = 8
_SCRYPT_BYTES_MAX = 1 << 29  # of memory that a stranger's file may have us use
_ROUNDS_MAX = 10_000_000  # of a stranger's PBKDF2
_KEY_BYTES = 32

_Hex = Annotated[str, Meta(pattern=r"\A(0x)?([0-9a-fA-F]{2}){1,64}\Z")]
_Number = Annotated[int, Meta(ge=1, le=1 << 30)]


class _Scrypt(Struct):
    n: _Number
    r: _Number
    p: _Number
    dklen: Literal[32]
    salt: _Hex


class _Pbkdf2(Struct):
    c: _Number
    prf: Literal["hmac-sha256"]
    dklen: Literal[32]
    salt: _Hex


class _CipherParams(Struct):
    iv: _Hex


class _Crypto(Struct):
    cipher: Literal["aes-128-ctr"]
    cipherparams: _CipherParams
    ciphertext: _Hex
    kdf: Literal["scrypt", "pbkdf2"]
    kdfparams: msgspec.Raw
    mac: _Hex


class _Keystore(Struct):
    version: Literal[3]
    crypto: _Crypto
    address: str = ""


def encrypt(key: Key, password: str, *, scrypt_n: int = SCRYPT_N) -> str:
    """Write a key as a keystore, JSON in one line.

    Args:
        key: which.
        password: any text; its UTF-8 counts.
        scrypt_n: the work of one guess, a power of two.
    """
    salt, iv = secrets.token_bytes(32), secrets.token_bytes(16)
    asked = _Scrypt(n=scrypt_n, r=_SCRYPT_R, p=1, dklen=32, salt=salt.hex())
    derived = _scrypt(asked, password)
    content = _cipher(derived, iv, bytes.fromhex(key.to_hex()[2:]))
    return json.dumps(
        {
            "version": 3,
            "id": str(uuid.uuid4()),
            "address": key.address[2:],
            "crypto": {
                "cipher": "aes-128-ctr",
                "cipherparams": {"iv": iv.hex()},
                "ciphertext": content.hex(),
                "kdf": "scrypt",
                "kdfparams": msgspec.to_builtins(asked),
                "mac": keccak(derived[16:] + content).hex(),
            },
        }
    )


def decrypt(text: str, password: str) -> Key:
    """Read a key out of a keystore.

    Raises:
        Refused: ``bad_keystore``, ``keystore_kdf`` (of a kind that is not read here)
            or ``wrong_password``.
    """
    keystore = _parse(text)
    crypto = keystore.crypto
    derived = _derive(crypto, password)
    content = _unhex(crypto.ciphertext)
    mac = keccak(derived[16:] + content)
    if not hmac.compare_digest(mac, _unhex(crypto.mac)):
        raise Refused(
            "this password does not open the key; try again", code="wrong_password"
        )
    secret = _cipher(derived, _unhex(crypto.cipherparams.iv), content)
    try:
        key = Key.generate(secret)
    except Refused:
        raise _bad("what is in it is no key of this curve") from None
    if keystore.address and read_address(text) != key.address:
        raise _bad("its address is not that of its key")
    return key


def read_address(text: str) -> Address | None:
    """Give the address that a keystore names; nobody has checked it. None: it has none.

    Raises:
        Refused: ``bad_keystore``.
    """
    address = _parse(text).address.lower().removeprefix("0x")
    return "0x" + address if address else None


def load_keystore(path: Path) -> str:
    """Read a keystore's text; raises as ``key_file.load_key``."""
    return load_private(path, str, size_max=FILE_BYTES_MAX)


def create_keystore(path: Path, text: str) -> None:
    """Keep a keystore, never over another one; raises as ``key_file.create_key``."""
    create_private(path, text)


def _parse(text: str) -> _Keystore:
    # Some write "Crypto"; the second words of both are the same.
    try:
        if len(text) > FILE_BYTES_MAX:
            raise _bad("it is too long")
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        lowered = {name.lower(): part for name, part in raw.items()}
        return msgspec.json.decode(msgspec.json.encode(lowered), type=_Keystore)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise _bad("it is no JSON of version 3") from None


def _derive(crypto: _Crypto, password: str) -> bytes:
    try:
        if crypto.kdf == "scrypt":
            return _scrypt(
                msgspec.json.decode(crypto.kdfparams, type=_Scrypt), password
            )
        asked = msgspec.json.decode(crypto.kdfparams, type=_Pbkdf2)
    except msgspec.DecodeError:
        raise _bad("nobody knows how its password is stretched") from None
    if asked.c > _ROUNDS_MAX:
        raise _strange_kdf()
    return hashlib.pbkdf2_hmac(
        "sha256", password.encode(), _unhex(asked.salt), asked.c, _KEY_BYTES
    )


def _scrypt(asked: _Scrypt, password: str) -> bytes:
    memory = 128 * asked.r * (asked.n + asked.p)
    if memory > _SCRYPT_BYTES_MAX or asked.p > 16:
        raise _strange_kdf()
    try:
        return hashlib.scrypt(
            password.encode(),
            salt=_unhex(asked.salt),
            n=asked.n,
            r=asked.r,
            p=asked.p,
            maxmem=2 * _SCRYPT_BYTES_MAX,
            dklen=_KEY_BYTES,
        )
    except ValueError:  # OpenSSL keeps to RFC 7914: n below 2^(16 r), a power of two
        raise _strange_kdf() from None


def _cipher(derived: bytes, iv: bytes, content: bytes) -> bytes:
    if len(iv) != 16:
        raise _bad("its iv is not of 16 bytes")
    worker = Cipher(AES(derived[:16]), CTR(iv)).encryptor()
    return worker.update(content) + worker.finalize()


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _bad(why: str) -> Refused:
    return Refused(
        f"this is no key file that Sublet reads: {why}; give a Web3 Secret Storage file "
        "(version 3), as geth, Foundry and wallets write it",
        code="bad_keystore",
    )


def _strange_kdf() -> Refused:
    return Refused(
        "this key file stretches its password in a way that is not read here (scrypt "
        "with r = 1, or work without measure); open it with the wallet that wrote it, "
        "and save it anew",
        code="keystore_kdf",
    )
