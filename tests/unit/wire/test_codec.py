"""Bytes of documents: one way to write them, every other one refused by name."""

import json
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import NO_DIGEST
from sublet.core.document import (
    AnyDocument,
    Credit,
    Entry,
    Fact,
    Market,
    Order,
    Tick,
    Voucher,
)
from sublet.wire.codec import (
    ENTRY_BYTES_MAX,
    DocumentCodec,
    Undecodable,
    UnsupportedVersion,
    WrongEntry,
    decode,
    decode_signed,
    encode,
    origin_of,
    sign,
    verify,
)
from sublet.wire.message import Manifest, NodeSays, Signed, Submission, Welcome
from sublet.wire.note import NoteKey, read_checkpoint
from sublet.wire.signature import BadSignature, Key
from sublet.wire.typed_data import Domain, digest, market_id
from tests.unit.core.book.world import make_offer

ADDRESS = "0x" + "ab" * 20
DIGEST = "0x" + "cd" * 32
NOW_S = 1_790_000_000
MARKET = Market(
    "lab", 31337, ADDRESS, ADDRESS, "note+key", 1, 2, 3, 4, 5, 6, 900, NOW_S, 7
)
DOMAIN = Domain.of(MARKET, market_id(MARKET))
KEY = Key.generate(b"\x11" * 32)
ORDER = Order(
    tenant=KEY.address,
    cpus_milli=1_000,
    memory_bytes=1 << 30,
    disk_bytes=1 << 30,
    gpu_models=("h200",),
    gpu_count=1,
    gpu_memory_bytes=1 << 37,
    regions=("DE", "US-CA"),
    sandbox="bubblewrap",
    features=(),
    avoid=(ADDRESS,),
    price_hour_max=3_000_000,
    total_max=10_000_000,
    duration_s_max=3_600,
    manifest=DIGEST,
    ssh_key="ssh-ed25519 " + "A" * 68,
    delegation=NO_DIGEST,
    signed_at_s=NOW_S,
    salt=1,
)
OFFER = make_offer(gpu_model="h200", gpu_uuids=("GPU-0",))
SIGNED = sign(ORDER, key=KEY, domain=DOMAIN)
RAW = encode(SIGNED)
READ_MAX = limits.DOCUMENT_BYTES_MAX


def _read(raw: bytes) -> Signed:
    return decode(raw, Signed, size_max=READ_MAX)


# ---- what comes in ----------------------------------------------------------------


def test_documents_come_back_as_written() -> None:
    assert _read(RAW) == SIGNED
    assert encode(_read(RAW)) == RAW
    assert RAW.startswith(b'{"v":1,"document":{"type":"Order","tenant":"0x19e7')


def _swap(old: bytes, new: bytes) -> bytes:
    assert RAW.count(old) >= 1
    return RAW.replace(old, new, 1)


@pytest.mark.parametrize(
    ("raw", "code", "field"),
    [
        (b"", "malformed", ""),
        (b"null", "bad_field", ""),
        (b"\xff\xfe", "malformed", ""),
        (RAW[:-1], "malformed", ""),
        (RAW + b"x", "malformed", ""),
        (_swap(b'"salt":1', b'"salt":NaN'), "malformed", ""),
        (_swap(b'"salt":1', b'"salt":Infinity'), "malformed", ""),
        (_swap(b"h200", b"\xff"), "malformed", ""),  # not UTF-8
        (_swap(b"h200", b"\\ud800"), "malformed", ""),  # half a surrogate pair
        (_swap(b'"salt":1', b'"salt":1e3'), "bad_field", "document.salt"),
        (_swap(b'"salt":1', b'"salt":true'), "bad_field", "document.salt"),
        (_swap(b'"salt":1', b'"salt":"1"'), "bad_field", "document.salt"),
        (_swap(b'"salt":1', b'"salt":-1'), "bad_field", "document.salt"),
        (
            _swap(b'"salt":1', b'"salt":9223372036854775808'),
            "bad_field",
            "document.salt",
        ),
        (_swap(b'"salt":1', b'"salt":' + b"9" * 400), "bad_field", "document.salt"),
        (_swap(b'"salt":1', b'"salt":1e999'), "bad_field", "document.salt"),
        (_swap(b'"salt":1', b'"salt":1,"x":2'), "unknown_field", "document"),
        (_swap(b',"salt":1', b""), "missing_field", "document"),
        (_swap(b'"v":1,', b'"v":1,"w":1,'), "unknown_field", ""),
        (_swap(b"Order", b"Wish"), "unknown_type", "document.type"),
        (_swap(b'"type":"Order",', b""), "missing_field", "document"),
        (_swap(b"h200", b"x" * 129), "bad_field", "document.gpu_models[0]"),
        (_swap(b"h200", b"\\u001b[2J"), "bad_field", "document.gpu_models[0]"),
        (_swap(b"0x19e7", b"0x19E7"), "bad_field", "document.tenant"),  # EIP-55 case
        (_swap(b"0x19e7", b"19e7"), "bad_field", "document.tenant"),
        (_swap(b'["DE","US-CA"]', b'["DE"' + b',"DE"' * 16 + b"]"), "bad_field", None),
        (_swap(b'"salt":1', b'"salt": 1'), "not_canonical", ""),  # a space
        (RAW + b"\n", "not_canonical", ""),
        (_swap(b'"salt":1', b'"salt":2,"salt":1'), "not_canonical", ""),  # twice
        (_swap(b"h200", b"h20\\u0030"), "not_canonical", ""),  # needless escape
        (_swap(b'"salt":1', b'"salt":1.0'), "bad_field", "document.salt"),
        (b"[" * 10_000, "bad_field", ""),
    ],
)
def test_bad_bytes_are_refused_by_name(
    raw: bytes, code: str, field: str | None
) -> None:
    with pytest.raises(Undecodable) as error:
        _read(raw)
    assert error.value.code == code
    assert field is None or error.value.field == field
    assert isinstance(error.value, PeerFault)
    with pytest.raises(Undecodable) as signed_error:
        decode_signed(raw, domain=DOMAIN)
    assert str(signed_error.value) == str(error.value)


def test_fields_in_another_order_are_refused() -> None:
    document = json.loads(RAW)
    reordered = json.dumps(dict(reversed(document.items())), separators=(",", ":"))
    with pytest.raises(Undecodable) as error:
        _read(reordered.encode())
    assert error.value.code == "not_canonical"


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused(opening: bytes) -> None:
    # ``object`` lets the parser go down as far as it dares.
    raw = opening * 100_000
    with pytest.raises(Undecodable) as error:
        decode(raw, object, size_max=len(raw))
    assert error.value.code == "malformed"
    assert str(error.value) == "the JSON is nested too deeply"


def test_large_input_is_not_parsed() -> None:
    # Were it parsed, the complaint would be about JSON.
    raw = b"\xff" * 10_000_000
    with pytest.raises(Undecodable) as error:
        _read(raw)
    assert error.value.code == "too_large"
    at_the_limit = b"\xff" * READ_MAX
    with pytest.raises(Undecodable) as error:
        _read(at_the_limit)
    assert error.value.code == "malformed"


def test_complaints_repeat_no_terminal_escapes() -> None:
    for raw in (
        b'{"\\u001b[2J":1}',
        _swap(b'"Order"', b'"\\u001b[2J' + b"x" * 9_000 + b'"'),
    ):
        with pytest.raises(Undecodable) as error:
            _read(raw)
        assert error.value.message.isprintable()
        assert len(error.value.message) < 300


@given(st.binary(max_size=300))
def test_noise_never_raises_anything_else(raw: bytes) -> None:
    with pytest.raises(Undecodable):
        _read(raw)


@given(st.integers(0, len(RAW) - 1), st.integers(0, 7))
def test_any_flipped_bit_is_refused(place: int, bit: int) -> None:
    changed = bytearray(RAW)
    changed[place] ^= 1 << bit
    try:
        signed, id_, signer = decode_signed(bytes(changed), domain=DOMAIN)
        assert (id_, signer) != (digest(ORDER, DOMAIN), KEY.address)
        assert (id_, signer) == verify(signed, domain=DOMAIN)
    except (PeerFault, UnsupportedVersion):
        pass


# ---- versions ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        _swap(b'"v":1', b'"v":2'),  # else just as today
        b'{"v":2,"deed":{"kind":"Order","terms":[[["new"]]]}}',  # nothing is known of it
        b'{ "deed" : [], "v" : 3 }',
        _swap(b'"v":1', b'"v":0'),
        _swap(b'"v":1', b'"v":18446744073709551616'),
        b'{"v":2,' + b'"x":[' * 2_000,  # not even JSON of today
    ],
)
def test_other_versions_are_named_first(raw: bytes) -> None:
    with pytest.raises(UnsupportedVersion):
        decode_signed(raw, domain=DOMAIN)
    with pytest.raises(UnsupportedVersion) as error:
        _read(raw)
    assert error.value.code == "unsupported_version"
    assert isinstance(error.value, Refused)
    assert "update sublet" in str(error.value)


def test_newer_document_in_a_request_is_named() -> None:
    raw = b'{"documents":[' + RAW + b',{"v":2,"deed":{}}]}'
    with pytest.raises(UnsupportedVersion):
        decode(raw, Submission, size_max=limits.REQUEST_BYTES_MAX)


def test_version_inside_a_text_is_not_one() -> None:
    # A damaged document whose text only looks like a version is a damaged one.
    for text in (b'\\"v\\":2,', b'x\\"v":2,'):
        with pytest.raises(Undecodable):
            _read(_swap(b"h200", text)[:-1])


def test_verify_refuses_other_versions() -> None:
    newer = msgspec.structs.replace(SIGNED, v=2)
    with pytest.raises(UnsupportedVersion):
        verify(newer, domain=DOMAIN)


# ---- messages ---------------------------------------------------------------------


def test_unions_of_messages_are_read() -> None:
    welcome = Welcome(leases=(), ping_s=20)
    assert decode(encode(welcome), NodeSays, size_max=1_000) == welcome
    with pytest.raises(Undecodable) as error:
        decode(b'{"type":"gossip"}', NodeSays, size_max=1_000)
    assert error.value.code == "unknown_type"


def test_messages_with_a_version_are_checked() -> None:
    with pytest.raises(UnsupportedVersion):
        decode(b'{"v":9,"salt":""}', Manifest, size_max=1_000)


# ---- signatures -------------------------------------------------------------------


def test_signer_and_id_are_found() -> None:
    assert verify(SIGNED, domain=DOMAIN) == (digest(ORDER, DOMAIN), KEY.address)
    assert decode_signed(RAW, domain=DOMAIN) == (
        SIGNED,
        digest(ORDER, DOMAIN),
        KEY.address,
    )


def test_large_document_is_not_parsed() -> None:
    with pytest.raises(Undecodable) as error:
        decode_signed(b"\xff" * (READ_MAX + 1), domain=DOMAIN)
    assert error.value.code == "too_large"


def test_document_without_a_domain_is_refused() -> None:
    with pytest.raises(Refused) as error:
        decode_signed(RAW, domain=None)
    assert error.value.code == "no_market"


def test_market_is_signed_without_a_domain() -> None:
    signed = sign(MARKET, key=KEY, domain=None)
    assert verify(signed, domain=None) == (market_id(MARKET), KEY.address)
    assert verify(signed, domain=DOMAIN) == (market_id(MARKET), KEY.address)


@pytest.mark.parametrize(
    "document",
    [
        Tick(NOW_S, -1),
        Tick(limits.TIME_S_MAX + 1, 0),
        Credit(ADDRESS, limits.AMOUNT_MAX + 1, "", NOW_S, 0),
        Credit(ADDRESS, 1, "\x1b[2J", NOW_S, 0),
        Credit(ADDRESS, 1, "\ud800", NOW_S, 0),
        Credit(ADDRESS, 1, "x" * 129, NOW_S, 0),
        Credit(ADDRESS.upper().replace("X", "x"), 1, "", NOW_S, 0),
        Voucher(DIGEST[:-1], 1),
        msgspec.structs.replace(ORDER, avoid=(ADDRESS,) * 17),
    ],
    ids=repr,
)
def test_limits_hold_when_signing_and_verifying(document: AnyDocument) -> None:
    with pytest.raises((Undecodable, Refused)):
        sign(document, key=KEY, domain=DOMAIN)
    forged = Signed(v=1, document=document, signature=SIGNED.signature)
    with pytest.raises(Undecodable):
        verify(forged, domain=DOMAIN)


def test_document_of_too_many_bytes_is_refused() -> None:
    # Each field is within its limit, together they are not: 64 names of 4-byte letters.
    offer = replace(OFFER, gpu_uuids=("\N{CROWN}" * 128,) * 64)
    with pytest.raises(Undecodable) as error:
        sign(offer, key=KEY, domain=DOMAIN)
    assert error.value.code == "too_large"


@pytest.mark.parametrize("kind", get_args(AnyDocument), ids=lambda kind: kind.__name__)
def test_every_document_travels(kind: type[msgspec.Struct]) -> None:
    fields = msgspec.structs.fields(kind)
    schema = msgspec.json.schema_components([kind])[1][kind.__name__]["properties"]
    values = {field.name: _sample(schema[field.name]) for field in fields}
    document = kind(**values)
    signed = sign(document, key=KEY, domain=DOMAIN)  # type: ignore[arg-type]  # any
    again = _read(encode(signed))
    assert again == signed
    id_, signer = verify(again, domain=DOMAIN)
    assert signer == KEY.address
    codec = DocumentCodec(DOMAIN)
    entry = Entry(Fact(NOW_S, id_, signer, again.document), _bytes_of(signed))
    body = codec.write_entry(entry)
    assert codec.read_entry(body) == entry
    assert codec.verify_entry(body, market=DOMAIN.market) == entry


def _sample(schema: dict[str, object]) -> object:
    if schema["type"] == "integer":
        return min(200, int(str(schema["maximum"])))
    if schema["type"] == "array":
        return ()
    digits = {r"\A0x[0-9a-f]{40}\Z": 40, r"\A0x[0-9a-f]{64}\Z": 64}
    return "0x" + "5" * digits.get(str(schema.get("pattern")), 6)


def _bytes_of(signed: Signed) -> bytes:
    return bytes.fromhex(signed.signature[2:])


# ---- entries ----------------------------------------------------------------------


def _entry(document: AnyDocument = ORDER, *, signer: str = KEY.address) -> Entry:
    signed = sign(document, key=KEY, domain=DOMAIN)
    fact = Fact(NOW_S, digest(document, DOMAIN), signer, document)
    return Entry(fact, _bytes_of(signed))


BODY = DocumentCodec(DOMAIN).write_entry(_entry())


def test_entry_is_trusted_when_read() -> None:
    lying = DocumentCodec(DOMAIN).write_entry(_entry(signer=ADDRESS))
    assert DocumentCodec().read_entry(lying).fact.signer == ADDRESS


def test_lies_of_an_entry_are_named() -> None:
    codec = DocumentCodec(DOMAIN)
    true = _entry()
    other_id = msgspec.structs.replace(true.fact, id=DIGEST)
    dearer = msgspec.structs.replace(ORDER, price_hour_max=4_000_000)
    altered = msgspec.structs.replace(true.fact, document=dearer)
    for fact, code in ((other_id, "wrong_id"), (altered, "wrong_id")):
        body = codec.write_entry(Entry(fact, true.signature))
        with pytest.raises(WrongEntry) as error:
            codec.verify_entry(body, market=DOMAIN.market)
        assert error.value.code == code
    body = codec.write_entry(_entry(signer=ADDRESS))
    with pytest.raises(WrongEntry) as error:
        codec.verify_entry(body, market=DOMAIN.market)
    assert error.value.code == "wrong_signer"
    high_s = bytes([*true.signature[:32], 0xF0, *true.signature[33:]])
    with pytest.raises(BadSignature) as bad:
        codec.verify_entry(
            codec.write_entry(Entry(true.fact, high_s)), market=DOMAIN.market
        )
    assert bad.value.code == "signature_high_s"


# The one field that no signature covers is the log's own time stamp; the Merkle tree
# covers it.
AT_S = range(BODY.index(b'"at_s":') + 7, BODY.index(b',"id"'))


@given(
    st.integers(0, len(BODY) - 1).filter(lambda place: place not in AT_S),
    st.integers(0, 7),
)
def test_any_flipped_bit_of_an_entry_is_found(place: int, bit: int) -> None:
    changed = bytearray(BODY)
    changed[place] ^= 1 << bit
    with pytest.raises((PeerFault, UnsupportedVersion)):
        DocumentCodec(DOMAIN).verify_entry(bytes(changed), market=DOMAIN.market)


def test_entry_of_another_market_is_refused() -> None:
    with pytest.raises(WrongEntry) as error:
        DocumentCodec(DOMAIN).verify_entry(BODY, market=DIGEST)
    assert error.value.code == "wrong_market"


def test_market_is_learnt_from_its_entry() -> None:
    market_entry = _entry(MARKET)
    body = DocumentCodec().write_entry(market_entry)
    auditor = DocumentCodec()
    with pytest.raises(Refused) as error:
        auditor.verify_entry(BODY, market=DOMAIN.market)
    assert error.value.code == "no_market"
    assert auditor.verify_entry(body, market=DOMAIN.market) == market_entry
    assert auditor.verify_entry(BODY, market=DOMAIN.market) == _entry()


def test_forged_market_does_not_pass_for_another() -> None:
    forged = msgspec.structs.replace(MARKET, name="fake")
    body = DocumentCodec().write_entry(
        Entry(
            Fact(NOW_S, DOMAIN.market, KEY.address, forged),
            _bytes_of(sign(forged, key=KEY, domain=None)),
        )
    )
    with pytest.raises(WrongEntry) as error:
        DocumentCodec().verify_entry(body, market=DOMAIN.market)
    assert error.value.code == "wrong_market"


def test_largest_document_fits_an_entry() -> None:
    names = ("x" * 120,) * 64
    offer = replace(
        OFFER,
        gpu_uuids=names,
        sandboxes=("s" * 99,) * 16,
        features=("f",) * 16,
        ssh_host_key="k" * 256,
        seal_key="k" * 90,
        refuses=(ADDRESS,) * 16,
    )
    signed = sign(offer, key=KEY, domain=DOMAIN)
    room = limits.DOCUMENT_BYTES_MAX - len(encode(signed))
    assert room >= 0
    grown = len(DocumentCodec(DOMAIN).write_entry(_entry(offer))) - len(encode(signed))
    assert grown + limits.DOCUMENT_BYTES_MAX <= ENTRY_BYTES_MAX


# ---- notes ------------------------------------------------------------------------


def test_checkpoint_names_the_market() -> None:
    key = NoteKey.generate(b"\x07" * 32, "lab")
    note = DocumentCodec(DOMAIN, key).sign_note(size=3, root=b"\x01" * 32)
    checkpoint = read_checkpoint(note, verifier_key=key.verifier_key)
    assert checkpoint.origin == origin_of(DOMAIN.market)
    assert (checkpoint.size, checkpoint.root) == (3, b"\x01" * 32)


def test_checkpoints_need_key_and_market() -> None:
    key = NoteKey.generate(b"\x07" * 32, "lab")
    for codec in (DocumentCodec(DOMAIN), DocumentCodec(None, key)):
        with pytest.raises(Refused) as error:
            codec.sign_note(size=0, root=bytes(32))
        assert error.value.code == "no_note_key"
