"""Statements of erasure: what they say, who signed, which lies are named."""

import base64
import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sublet.base.errors import PeerFault
from sublet.base.ids import NO_DIGEST
from sublet.core.lease.phase import Lease, Phase
from sublet.wire.sanitization import (
    STEPS,
    BadStatement,
    GpuScrub,
    Medium,
    Sanitization,
    Step,
    encode_for_signing,
    find_faults,
    make_statement,
    open_envelope,
    seal,
)
from sublet.wire.signature import Key
from tests.unit.core.book.world import World

KEY = Key.from_hex("0x" + "11" * 32)
OTHER_KEY = Key.from_hex("0x" + "22" * 32)
REMAINS = "0x" + "ab" * 32
NONCE = "0123456789abcdef" * 2


def make_predicate(lease: Lease, /, **changes: object) -> Sanitization:
    now_s = lease.matched_at_s
    predicate = Sanitization(
        standard="NIST SP 800-88r2",
        category="clear",
        level="A1",
        lease=lease.id,
        tenant=lease.tenant,
        provider=lease.provider,
        machine=lease.machine,
        medium=Medium(
            "gocryptfs", "AES-256-GCM", "cd" * 16, now_s, now_s + 9, False, "off", 3, 99
        ),
        steps=tuple(Step(name, now_s + 5, True, "done") for name in STEPS),
        gpus=tuple(GpuScrub(uuid, 100, 90, 1, 0, True, "") for uuid in lease.gpu_uuids),
        nonce=NONCE,
        salt="00" * 16,
    )
    return replace(predicate, **changes)


@pytest.fixture
def lease() -> Lease:
    world = World()
    world.add_credit()
    world.add_provider(
        KEY.address,
        features=("erasure",),
        gpu_model="h200",
        gpu_memory_bytes=1 << 37,
        gpu_uuids=("gpu-a",),
    )
    return world.lease_in(Phase.SETTLED, features=("erasure",), gpu_count=1)


def find(lease: Lease, /, key: Key = KEY, **changes: object) -> tuple[str, ...]:
    """Sign a statement about the lease, log it, and name what is wrong."""
    made = make_statement(make_predicate(lease, **changes), remains=REMAINS)
    raw, digest = seal(made, key=key)
    logged = replace(lease, erasure=digest, erasure_level="A1", is_erasure_due=False)
    at_s = lease.matched_at_s + 20
    return find_faults(open_envelope(raw), logged, logged_at_s=at_s, nonce=NONCE)


def test_true_statement_has_no_faults(lease: Lease) -> None:
    assert find(lease) == ()


def test_is_plain_dsse_and_in_toto(lease: Lease) -> None:
    raw, digest = seal(make_statement(make_predicate(lease), remains=REMAINS), key=KEY)
    envelope = json.loads(raw)
    payload = base64.b64decode(envelope["payload"])
    assert "0x" + sha256(payload).hexdigest() == digest
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"][0]["digest"] == {"sha256": REMAINS[2:]}
    assert statement["predicate"]["medium"]["isKeyPersisted"] is False


def test_encodes_as_the_protocol_of_dsse_does() -> None:
    # The example of the specification.
    said = encode_for_signing("http://example.com/HelloWorld", b"hello world")
    assert said == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


# Each lie, and the word that must name it.
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"lease": NO_DIGEST}, "another lease"),
        ({"machine": "m9"}, "another tenant, provider or machine"),
        ({"tenant": OTHER_KEY.address}, "another tenant, provider or machine"),
        ({"level": "A4"}, "higher level"),
        ({"category": "purge"}, "claims no erasure"),
        ({"category": "none"}, "claims no erasure"),
        ({"steps": ()}, "not those of an erasure"),
        ({"gpus": ()}, "GPU of the lease"),
        ({"gpus": (GpuScrub("gpu-a", 9, 9, 1, 1, False, ""),)}, "GPU of the lease"),
        ({"gpus": (GpuScrub("gpu-a", 100, 89, 1, 0, True, ""),)}, "by its figures"),
        ({"gpus": (GpuScrub("gpu-a", 100, 99, 0, 0, True, ""),)}, "by its figures"),
        ({"gpus": (GpuScrub("gpu-a", 100, 99, 1, 1, True, ""),)}, "by its figures"),
        ({"gpus": (GpuScrub("gpu-a", 0, 0, 1, 0, True, ""),)}, "by its figures"),
        ({"nonce": "ff" * 16}, "another nonce"),
    ],
)
def test_names_what_is_wrong(
    lease: Lease, changes: dict[str, object], word: str
) -> None:
    assert any(word in fault for fault in find(lease, **changes))


def test_steps_have_an_order_and_a_time(lease: Lease) -> None:
    steps = make_predicate(lease).steps
    assert find(lease, steps=tuple(reversed(steps)))
    back = (*steps[:-1], replace(steps[-1], at_s=1))
    assert find(lease, steps=back) == ("its steps go back in time",)
    failed = (*steps[:-1], replace(steps[-1], is_ok=False))
    assert any("a step failed" in fault for fault in find(lease, steps=failed))


def test_key_has_a_life_within_the_lease(lease: Lease) -> None:
    medium = make_predicate(lease).medium
    wrong = [
        replace(medium, is_key_persisted=True),
        replace(medium, created_at_s=1),
        replace(medium, destroyed_at_s=medium.created_at_s - 1),
        replace(medium, destroyed_at_s=lease.matched_at_s + 900),
    ]
    for each in wrong:
        assert find(lease, medium=each)


def test_signer_must_be_the_provider(lease: Lease) -> None:
    assert find(lease, key=OTHER_KEY) == ("it is not signed by the lease's provider",)


def test_log_must_hold_this_very_statement(lease: Lease) -> None:
    raw, digest = seal(make_statement(make_predicate(lease), remains=REMAINS), key=KEY)
    read = open_envelope(raw)
    assert find_faults(read, lease, logged_at_s=0) == (
        "the log holds no Erasure of this lease",
    )
    other = replace(lease, erasure=REMAINS, erasure_level="A1")
    assert find_faults(read, other, logged_at_s=0) == (
        "the log holds the digest of another statement",
    )
    other = replace(lease, erasure=digest, erasure_level="A3")
    assert find_faults(read, other, logged_at_s=0) == ("the log names another level",)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_gets_through(place: int, flip: int) -> None:
    raw = bytearray(_sealed())
    raw[place % len(raw)] ^= flip
    try:
        read = open_envelope(bytes(raw))
    except PeerFault:
        return
    # A change that is none: in the spelling of a name or of base64 alone.
    assert read == open_envelope(_sealed())


def _sealed() -> bytes:
    medium = Medium("", "", "", 0, 1, False, "off", 0, 0)
    predicate = Sanitization(
        "s",
        "clear",
        "A1",
        NO_DIGEST,
        KEY.address,
        KEY.address,
        "m",
        medium,
        (),
        (),
        "",
        "",
    )
    return seal(make_statement(predicate, remains=REMAINS), key=KEY)[0]


def test_refuses_what_is_no_statement() -> None:
    for raw in (b"", b"{}", b"\xff" * 9, b"x" * 100_000):
        with pytest.raises(BadStatement):
            open_envelope(raw)
    other = base64.b64encode(b"{}").decode()
    envelope = json.loads(_sealed())
    for field, value in (
        ("payloadType", "text/plain"),
        ("payload", other),
        ("signatures", []),
    ):
        with pytest.raises(PeerFault):
            open_envelope(json.dumps({**envelope, field: value}).encode())
