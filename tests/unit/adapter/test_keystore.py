"""Keystores of others, ours for others, and files that are none."""

import json
import traceback
from pathlib import Path
from typing import Any

import eth_account
import pytest

from sublet.adapter.keystore import (
    create_keystore,
    decrypt,
    encrypt,
    load_keystore,
    read_address,
)
from sublet.base.errors import Refused
from sublet.wire.signature import Key

KEY = Key.generate(b"\x21" * 32)
FAST = 1 << 12
# The test vector of the Web3 Secret Storage Definition.
SECRET = "0x7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
PBKDF2: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e1"
        "6f075ecae9f99c7a79a38af5f869aa46",
        "kdf": "pbkdf2",
        "kdfparams": {
            "c": 262_144,
            "dklen": 32,
            "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
        },
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}
# Its other vector: r = 1 breaks RFC 7914, which OpenSSL keeps to.
SCRYPT_R1: dict[str, Any] = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext": "d172bf743a674da9cdad04534d56926e"
        "f8358534d458fffccd4e6ad2fbde479c",
        "kdf": "scrypt",
        "kdfparams": {
            "dklen": 32,
            "n": 262_144,
            "r": 1,
            "p": 8,
            "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
        },
        "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
    },
    "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
    "version": 3,
}


def changed(path: str, value: Any) -> str:
    """The known keystore with one member changed; None takes it away."""
    copy = json.loads(json.dumps(PBKDF2))
    *folders, name = path.split(".")
    part = copy
    for folder in folders:
        part = part[folder]
    if value is None:
        del part[name]
    else:
        part[name] = value
    return json.dumps(copy)


def test_opens_the_known_one() -> None:
    assert decrypt(json.dumps(PBKDF2), "testpassword").to_hex() == SECRET
    upper = json.dumps({"Crypto": PBKDF2["crypto"], "version": 3})
    assert decrypt(upper, "testpassword").to_hex() == SECRET
    assert read_address(upper) is None


def test_other_wallets_open_ours_and_we_theirs() -> None:
    password = "pässwörd 'n spaces"
    ours = encrypt(KEY, password, scrypt_n=FAST)
    opened = eth_account.Account.decrypt(json.loads(ours), password)
    assert "0x" + bytes(opened).hex() == KEY.to_hex()
    for kdf in ("scrypt", "pbkdf2"):
        theirs = eth_account.Account.encrypt(
            KEY.to_hex(), password, kdf=kdf, iterations=FAST
        )
        assert decrypt(json.dumps(theirs), password).to_hex() == KEY.to_hex()
        assert read_address(json.dumps(theirs)) == KEY.address


def test_work_of_a_guess_is_geths() -> None:
    written = json.loads(encrypt(KEY, "x"))["crypto"]["kdfparams"]
    assert {name: written[name] for name in "nrp"} == {"n": 262_144, "r": 8, "p": 1}


def test_two_files_of_one_key_share_nothing() -> None:
    one, two = (json.loads(encrypt(KEY, "x", scrypt_n=FAST)) for _ in range(2))
    for part in ("ciphertext", "mac"):
        assert one["crypto"][part] != two["crypto"][part]
    assert one["id"] != two["id"]


@pytest.mark.parametrize(
    ("text", "password", "code"),
    [
        (json.dumps(PBKDF2), "testpassworD", "wrong_password"),
        (json.dumps(PBKDF2), "", "wrong_password"),
        (changed("crypto.ciphertext", "00" * 32), "testpassword", "wrong_password"),
        (json.dumps(SCRYPT_R1), "testpassword", "keystore_kdf"),
        (changed("crypto.kdfparams.c", 1 << 29), "testpassword", "keystore_kdf"),
        (changed("crypto.kdfparams.c", 0), "testpassword", "bad_keystore"),
        (changed("crypto.kdfparams.c", "1"), "testpassword", "bad_keystore"),
        (changed("crypto.kdfparams.prf", "md5"), "testpassword", "bad_keystore"),
        (changed("crypto.cipher", "aes-128-cbc"), "testpassword", "bad_keystore"),
        (changed("crypto.cipherparams.iv", "00"), "testpassword", "bad_keystore"),
        (changed("crypto.mac", None), "testpassword", "bad_keystore"),
        (changed("address", "11" * 20), "testpassword", "bad_keystore"),
        (changed("version", 1), "testpassword", "bad_keystore"),
        ("{}", "x", "bad_keystore"),
        ("[" * 5_000, "x", "bad_keystore"),
        (" " * 20_000, "x", "bad_keystore"),
        ("\ud800", "x", "bad_keystore"),
        (SECRET, "x", "bad_keystore"),
    ],
)
def test_refuses_by_name_and_shows_no_secret(
    text: str, password: str, code: str
) -> None:
    with pytest.raises(Refused) as refused:
        decrypt(text, password)
    assert refused.value.code == code
    shown = "".join(traceback.format_exception(refused.value))
    assert SECRET[2:] not in shown
    assert not password or password == "x" or password not in shown


def test_huge_scrypt_is_not_begun() -> None:
    copy = json.loads(json.dumps(SCRYPT_R1))
    copy["crypto"]["kdfparams"] |= {"n": 1 << 28, "r": 8, "p": 1}
    with pytest.raises(Refused) as refused:
        decrypt(json.dumps(copy), "x")
    assert refused.value.code == "keystore_kdf"


def test_file_is_private_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "keystore" / "cold.json"
    create_keystore(path, json.dumps(PBKDF2))
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(Refused) as refused:
        create_keystore(path, "{}")
    assert refused.value.code == "key_exists"
    assert json.loads(load_keystore(path)) == PBKDF2
    path.chmod(0o644)
    with pytest.raises(Refused) as refused:
        load_keystore(path)
    assert refused.value.code == "key_exposed"
