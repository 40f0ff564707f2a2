"""Key files: private, whole, never overwritten."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sublet.adapter.key_file import (
    create_key,
    create_note_key,
    load_key,
    load_note_key,
    load_or_create_key,
    load_or_create_note_key,
)
from sublet.base.errors import Refused, Unavailable
from sublet.wire.note import NoteKey
from sublet.wire.signature import Key

SECRET = "0x" + "11" * 32


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def _write(path: Path, text: str, *, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def _refusal(call: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as error:
        call()
    return error.value


def test_key_is_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "home" / "sublet" / "key"
    old_mask = os.umask(0)
    try:
        key = create_key(path)
    finally:
        os.umask(old_mask)
    assert load_key(path).address == key.address
    assert load_key(path).to_hex() == key.to_hex()
    assert _mode(path) == 0o600
    assert _mode(path.parent) == _mode(path.parent.parent) == 0o700
    assert list(path.parent.iterdir()) == [path]  # nothing half-written stays


def test_two_keys_are_never_equal(tmp_path: Path) -> None:
    first, second = create_key(tmp_path / "a"), create_key(tmp_path / "b")
    assert first.address != second.address


def test_note_key_is_kept_private(tmp_path: Path) -> None:
    key = create_note_key(tmp_path / "note_key", name="lab")
    assert load_note_key(tmp_path / "note_key").verifier_key == key.verifier_key
    assert _mode(tmp_path / "note_key") == 0o600


def test_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = create_key(path)
    for create in (lambda: create_key(path), lambda: create_note_key(path, name="x")):
        assert _refusal(create).code == "key_exists"
    assert load_key(path).address == key.address
    assert list(tmp_path.iterdir()) == [path]


def test_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.symlink_to(tmp_path / "elsewhere")
    assert _refusal(lambda: create_key(path)).code == "key_exists"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620, 0o601])
def test_exposed_key_is_refused(tmp_path: Path, mode: int) -> None:
    path = _write(tmp_path / "key", SECRET, mode=mode)
    refused = _refusal(lambda: load_key(path))
    assert refused.code == "key_exposed"
    assert f"chmod 600 {path}" in refused.message
    # Nor is it silently replaced by another.
    assert _refusal(lambda: load_or_create_key(path)).code == "key_exposed"


@pytest.mark.parametrize(
    "text", ["", "hello", SECRET[:-1], SECRET + "0", SECRET * 20, "ä" * 64, "x" * 9_999]
)
def test_damaged_key_is_refused(tmp_path: Path, text: str) -> None:
    path = _write(tmp_path / "key", text)
    for load in (load_key, load_note_key, load_or_create_key):
        refused = _refusal(lambda load=load: load(path))  # type: ignore[misc]  # bound
        assert refused.code == "bad_key"
        assert not text or text not in str(refused)
        assert refused.__cause__ is None
    assert path.read_text() == text


def test_one_kind_of_key_is_not_the_other(tmp_path: Path) -> None:
    create_key(tmp_path / "key")
    create_note_key(tmp_path / "note_key", name="lab")
    assert _refusal(lambda: load_note_key(tmp_path / "key")).code == "bad_key"
    assert _refusal(lambda: load_key(tmp_path / "note_key")).code == "bad_key"


def test_missing_key_is_refused(tmp_path: Path) -> None:
    refused = _refusal(lambda: load_key(tmp_path / "key"))
    assert refused.code == "no_key"
    assert str(tmp_path / "key") in refused.message


def test_key_is_drawn_only_once(tmp_path: Path) -> None:
    path = tmp_path / "home" / "key"
    assert load_or_create_key(path).address == load_or_create_key(path).address
    note = tmp_path / "home" / "note_key"
    first = load_or_create_note_key(note, name="lab")
    assert load_or_create_note_key(note, name="x").verifier_key == first.verifier_key


def test_all_racers_get_one_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: load_or_create_key(path), range(64)))
    assert {key.address for key in keys} == {load_key(path).address}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_key_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "key", SECRET, mode=0o000)
    assert _refusal(lambda: load_key(path)).code == "key_unreadable"


def test_folder_is_no_key(tmp_path: Path) -> None:
    for load in (load_key, load_note_key):
        with pytest.raises((Refused, Unavailable)):
            load(tmp_path)


def test_pipe_is_no_key(tmp_path: Path) -> None:
    # A pipe would wait for a writer for ever, and is no file that stays.
    os.mkfifo(tmp_path / "key", 0o600)
    assert _refusal(lambda: load_key(tmp_path / "key")).code == "bad_key"


def test_unwritable_home_is_unavailable(tmp_path: Path) -> None:
    _write(tmp_path / "home", "a file where a folder should be")
    with pytest.raises(Unavailable) as error:
        create_key(tmp_path / "home" / "key")
    assert error.value.code == "disk"


@pytest.mark.parametrize("kind", [Key.from_hex(SECRET), NoteKey(b"\x11" * 32, "lab")])
def test_file_content_reads_back(tmp_path: Path, kind: Any) -> None:
    text = kind.to_hex() if isinstance(kind, Key) else kind.to_text()
    path = _write(tmp_path / "key", text + "\n")
    load = load_key if isinstance(kind, Key) else load_note_key
    assert repr(load(path)) == repr(kind)
