"""A witness's decisions: the statuses of C2SP, and never two histories."""

from http import HTTPStatus
from pathlib import Path

import pytest

from sublet.adapter.checkpoint_folder import CheckpointFolder
from sublet.base.errors import Unavailable
from sublet.core.merkle import consistency_proof, leaf_hash, root_of
from sublet.wire.codec import origin_of
from sublet.wire.cosignature import (
    AddCheckpoint,
    WitnessKey,
    add_signatures,
    read_cosignature,
    write_request,
)
from sublet.wire.note import NoteKey
from sublet.wire.split_view import check_split_view, read_split_view
from sublet.witness.config import Pin
from sublet.witness.cosigner import Cosigner, Declined
from tests.fakes.world import HandClock

MARKET = "0x" + "ab" * 32
LOG = NoteKey.generate(b"\x07" * 32, "lab")
WITNESS = WitnessKey.generate(b"\x08" * 32, "w")
PIN = Pin("http://127.0.0.1:1", MARKET, LOG.verifier_key, "lab")
ONE = [leaf_hash(b"one %d" % number) for number in range(20)]
TWO = ONE[:5] + [leaf_hash(b"two %d" % number) for number in range(15)]


def make(path: Path, memory: CheckpointFolder | None = None) -> Cosigner:
    memory = memory or CheckpointFolder(path)
    return Cosigner(WITNESS, memory, clock=HandClock(), pins=[PIN])


def note(leaves: list[bytes], key: NoteKey = LOG, market: str = MARKET) -> bytes:
    origin = origin_of(market)
    return key.sign_checkpoint(origin=origin, size=len(leaves), root=root_of(leaves))


def ask(leaves: list[bytes], *, old: int) -> bytes:
    proof = consistency_proof(leaves, old=old) if old <= len(leaves) else []
    return write_request(AddCheckpoint(old, tuple(proof), note(leaves)))


def status_of(cosigner: Cosigner, body: bytes) -> tuple[int, str]:
    with pytest.raises(Declined) as caught:
        cosigner.add(body)
    return caught.value.status, caught.value.message


def test_growing_log_is_cosigned(tmp_path: Path) -> None:
    cosigner = make(tmp_path)
    for old, size in ((0, 3), (3, 3), (3, 8), (8, 20)):
        line = cosigner.add(ask(ONE[:size], old=old))
        signed = add_signatures(note(ONE[:size]), [line])
        assert read_cosignature(signed, verifier_key=WITNESS.verifier_key)
        assert cosigner.find(MARKET) == signed


def test_every_refusal_has_its_status(tmp_path: Path) -> None:
    cosigner = make(tmp_path)
    cosigner.add(ask(ONE[:8], old=0))
    stranger = NoteKey.generate(b"\x09" * 32, "lab")
    forged = write_request(AddCheckpoint(8, (), note(ONE[:9], stranger)))
    foreign = write_request(AddCheckpoint(0, (), note(ONE, market="0x" + "cd" * 32)))
    bare = write_request(AddCheckpoint(8, (), note(ONE)))
    assert status_of(cosigner, b"nonsense")[0] == HTTPStatus.BAD_REQUEST
    assert status_of(cosigner, foreign)[0] == HTTPStatus.NOT_FOUND
    assert status_of(cosigner, forged)[0] == HTTPStatus.FORBIDDEN
    assert status_of(cosigner, ask(ONE[:4], old=8))[0] == HTTPStatus.BAD_REQUEST
    assert status_of(cosigner, ask(ONE, old=3)) == (HTTPStatus.CONFLICT, "8\n")
    assert status_of(cosigner, bare)[0] == HTTPStatus.UNPROCESSABLE_ENTITY
    fork = ask(TWO, old=8)
    assert status_of(cosigner, fork)[0] == HTTPStatus.UNPROCESSABLE_ENTITY
    assert cosigner.find(MARKET) is not None
    assert not CheckpointFolder(tmp_path).read_evidence()


@pytest.mark.parametrize("old", [0, 8])  # claims not to know us, or to go on
def test_two_roots_of_one_size_are_evidence(tmp_path: Path, old: int) -> None:
    cosigner = make(tmp_path)
    cosigner.add(ask(ONE[:8], old=0))
    assert status_of(cosigner, ask(TWO[:8], old=old)) == (HTTPStatus.CONFLICT, "8\n")
    [kept] = CheckpointFolder(tmp_path).read_evidence().values()
    older, newer = check_split_view(read_split_view(kept))
    assert older.root != newer.root
    assert cosigner.split == {MARKET}


def test_restarted_witness_signs_no_second_history(tmp_path: Path) -> None:
    make(tmp_path).add(ask(ONE[:8], old=0))
    again = make(tmp_path)
    assert status_of(again, ask(TWO[:12], old=0)) == (HTTPStatus.CONFLICT, "8\n")
    assert status_of(again, ask(TWO[:12], old=8))[0] == HTTPStatus.UNPROCESSABLE_ENTITY


class FullDisk(CheckpointFolder):
    """Takes nothing: the rename of the draft never happens."""

    def _write(self, place: Path, content: bytes) -> None:
        raise Unavailable("the disk is full", code="disk_failed")


def test_nothing_is_signed_that_is_not_kept(tmp_path: Path) -> None:
    """Persist, then answer: where the disk fails, nobody hears a cosignature."""
    with pytest.raises(Unavailable):
        make(tmp_path, FullDisk(tmp_path)).add(ask(ONE[:8], old=0))
    assert make(tmp_path).find(MARKET) is None
