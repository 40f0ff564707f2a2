"""``sublet key`` as a user has it: encrypted, named, and silent about secrets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import eth_account
import pytest

PASSWORD = "correct horse battery"
SECRET = "0x" + "4b" * 32
ADDRESS = eth_account.Account.from_key(SECRET).address.lower()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\nnot this line\n")
    file.chmod(0o600)
    return file


def call(home: Path, *argv: object, stdin: str = "") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "sublet.cli.main", "key", *map(str, argv)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        env={**os.environ, "SUBLET_HOME": str(home)},
    )
    return done.returncode, done.stdout, done.stderr


def open_it(file: Path) -> str:
    """Open a key file as another wallet does."""
    opened = eth_account.Account.decrypt(json.loads(file.read_text()), PASSWORD)
    return "0x" + bytes(opened).hex()


def test_new_key_is_encrypted_and_listed(home: Path, password: Path) -> None:
    code, out, err = call(home, "new", "savings", "--password-file", password)
    assert code == 0, err
    file = home / "keystore" / "savings.json"
    assert file.stat().st_mode & 0o077 == 0
    secret = open_it(file)
    assert eth_account.Account.from_key(secret).address.lower() == out.strip()
    assert secret[2:] not in out + err
    code, listed, err = call(home, "list", "--json")
    row = {"name": "savings", "kind": "cold", "address": out.strip()}
    assert (code, json.loads(listed)) == (0, [row])
    code, _, err = call(home, "new", "savings", "--password-file", password)
    assert code == 2 and "not overwritten" in err
    assert open_it(file) == secret


def test_takes_keys_over_and_gives_them_away(
    home: Path, password: Path, tmp_path: Path
) -> None:
    code, out, err = call(
        home, "import", "bare", "-", "--password-file", password, stdin=SECRET + "\n"
    )
    assert (code, out.strip()) == (0, ADDRESS), err
    theirs = tmp_path / "wallet.json"
    theirs.write_text(
        json.dumps(eth_account.Account.encrypt(SECRET, PASSWORD, iterations=4_096))
    )
    code, out, err = call(home, "import", "w", theirs, "--password-file", password)
    assert (code, out.strip()) == (0, ADDRESS), err
    assert open_it(home / "keystore" / "w.json") == SECRET
    hot = home / "key"
    hot.write_text(SECRET + "\n")
    hot.chmod(0o600)
    copy = tmp_path / "copy.json"
    code, out, err = call(home, "export", copy, "--password-file", password)
    assert (code, open_it(copy)) == (0, SECRET), err
    code, out, _ = call(home, "list")
    assert [line.split()[0] for line in out.splitlines()] == ["hot", "cold", "cold"]


def test_password_comes_by_a_descriptor(home: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, PASSWORD.encode() + b"\n")
    os.close(writing)
    argv = ["new", "piped", "--password-fd", str(reading)]
    done = subprocess.run(
        [sys.executable, "-m", "sublet.cli.main", "key", *argv],
        pass_fds=[reading],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=90,
        env={**os.environ, "SUBLET_HOME": str(home)},
    )
    os.close(reading)
    assert done.returncode == 0, done.stderr
    assert open_it(home / "keystore" / "piped.json")


def test_refuses_and_says_what_to_do(
    home: Path, password: Path, tmp_path: Path
) -> None:
    short, open_file = tmp_path / "short", tmp_path / "open"
    for file, mode in ((short, 0o600), (open_file, 0o644)):
        file.write_text("1234567\n")
        file.chmod(mode)
    junk = tmp_path / "junk"
    junk.write_text(SECRET + "00")
    told = ("--password-file", password)
    for argv, words in (
        (("new", "a"), "--password-file"),
        (("new", "a", "--password-file", short), "at least 8"),
        (("new", "a", "--password-file", open_file), "chmod 600"),
        (("new", "a", "--password-fd", "99"), "descriptor 99"),
        (("new", "../a", *told), "no name for a key"),
        (("import", "a", junk, *told), "64 hex digits"),
        (("import", "a", tmp_path / "none", *told), "cannot be read"),
        (("export", tmp_path / "x.json", *told), "no key at"),
    ):
        code, out, err = call(home, *argv)
        assert (code, out) == (2, ""), (argv, err)
        assert words in err and SECRET[2:] not in err, (argv, err)
    assert not list(home.glob("keystore/*"))
