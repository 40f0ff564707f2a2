"""A stream's copy, and whether it is what was hashed."""

from pathlib import Path

import pytest
from blake3 import blake3

from sublet.base.errors import PeerFault, Unavailable
from sublet.workload.run.log_copy import FileCopy, Log

WHOLE = "0x" + blake3(b"one two").hexdigest()
OTHER = "0x" + blake3(b"three").hexdigest()


def make_log(place: Path) -> Log:
    log = Log("stdout", copy=FileCopy(place))
    for content in (b"one", b" two"):
        log.keep(content)
    return log


def test_whole_stream_is_held_against_hash(tmp_path: Path) -> None:
    log = make_log(tmp_path / "stdout")
    log.done.set()
    log.check(WHOLE)
    with pytest.raises(PeerFault) as caught:
        log.check(OTHER)
    assert caught.value.code == "bad_output"


def test_part_of_stream_proves_nothing(tmp_path: Path) -> None:
    make_log(tmp_path / "stdout").check(OTHER)


def test_copy_that_fails_is_said_once(tmp_path: Path) -> None:
    log = Log("stdout", copy=FileCopy(tmp_path / "nowhere" / "stdout"))
    with pytest.raises(Unavailable, match="free some space"):
        log.keep(b"one")
    log.keep(b" two")
    assert (log.offset, log.digest) == (7, WHOLE)
