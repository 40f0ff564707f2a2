"""Documents and messages as bytes: canonical JSON, strict, signed.

What goes out is ``msgspec``'s JSON with fields in declaration order; what comes in is
refused by name unless it is exactly that. Sizes are looked at before anything is
parsed. Here too: signing and verifying documents, and the entries of the log.

Not here: what a document means (``core``), how its digest is made (``typed_data``).
"""

import re
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

import msgspec

from sublet.base import limits
from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import Address, Digest
from sublet.core.document import AnyDocument, Entry, Fact, Market
from sublet.wire.message import PROTOCOL_VERSION, LogEntry, Signed
from sublet.wire.signature import Key, recover
from sublet.wire.typed_data import Domain, digest, market_id

if TYPE_CHECKING:  # so that a tenant, who signs no notes, does not load OpenSSL
    from sublet.wire.note import NoteKey

T = TypeVar("T")

# A log entry is a signed document and four short fields around it.
ENTRY_BYTES_MAX = limits.DOCUMENT_BYTES_MAX + 512
_ECHO_LENGTH_MAX = 200  # characters of a hostile input that an error repeats

_ENCODER = msgspec.json.Encoder()
_ENTRY_DECODER = msgspec.json.Decoder(LogEntry)
_SIGNED_DECODER = msgspec.json.Decoder(Signed)
_VERSION = re.compile(rb'(?<!\\)"v"\s*:\s*(\d{1,20})\s*[,}]')
_PLACE = re.compile(r"\A(.*?)(?: - at `\$?\.?(.*)`)?\Z", re.DOTALL)
_CODES = (
    ("Object contains unknown field", "unknown_field"),
    ("Object missing required field", "missing_field"),
    ("Invalid value", "unknown_type"),
)


class Undecodable(PeerFault):
    """These bytes are not a document or message as this version writes it.

    Codes: ``malformed``, ``unknown_field``, ``missing_field``, ``unknown_type``,
    ``bad_field`` (a type, range or length), ``not_canonical``, ``too_large``.
    """

    code = "malformed"


class UnsupportedVersion(Refused):
    """This is written in a version of the protocol that this program does not read."""

    code = "unsupported_version"


class WrongEntry(PeerFault):
    """An entry of the log says of itself what its signature does not bear out.

    Codes: ``wrong_id``, ``wrong_signer``, ``wrong_market``.
    """

    code = "wrong_entry"


# ---- bytes ------------------------------------------------------------------------


def encode(value: msgspec.Struct) -> bytes:
    """Write the canonical JSON: fields in declaration order, no spaces."""
    return _ENCODER.encode(value)


@overload
def decode(raw: bytes, kind: type[T], *, size_max: int) -> T: ...
@overload
def decode(raw: bytes, kind: UnionType, *, size_max: int) -> Any: ...
def decode(raw: bytes, kind: Any, *, size_max: int) -> Any:
    """Read canonical JSON as ``kind``: a struct or a union of tagged structs.

    Raises:
        Undecodable: too large (then nothing was parsed), or not what ``kind`` says.
        UnsupportedVersion: it says of itself that it is of another version; this is
            found out even where the rest has a shape that nobody knows yet.
    """
    return _decode(raw, _decoder_of(kind), size_max)


@cache
def _decoder_of(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _parse(raw: bytes, decoder: msgspec.json.Decoder[T], size_max: int) -> T:
    if len(raw) > size_max:
        raise Undecodable(
            f"{len(raw)} bytes are too many; at most {size_max} are read",
            code="too_large",
        )
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        # A newer document may well look like a damaged one of today.
        _check_versions(raw)
        _refuse(exc)


def _decode(raw: bytes, decoder: msgspec.json.Decoder[T], size_max: int) -> T:
    value = _parse(raw, decoder, size_max)
    version = getattr(value, "v", PROTOCOL_VERSION)
    if version != PROTOCOL_VERSION:
        _refuse_version(version)
    if _ENCODER.encode(value) != raw:
        raise Undecodable(
            "the bytes are not canonical; write fields in the declared order, each "
            "once, without spaces",
            code="not_canonical",
        )
    return value


def _check_versions(raw: bytes) -> None:
    """Refuse the first version that is not ours, wherever it stands."""
    for match in _VERSION.finditer(raw):
        if int(match[1]) != PROTOCOL_VERSION:
            _refuse_version(int(match[1]))


def _refuse_version(version: object) -> NoReturn:
    raise UnsupportedVersion(
        f"this is version {version} of the protocol and this program reads version "
        f"{PROTOCOL_VERSION}; update sublet",
        detail={"version": str(version)},
    )


def _refuse(exc: Exception) -> NoReturn:
    """Put a foreign parser's complaint into our words, safe to show."""
    if isinstance(exc, RecursionError):
        raise Undecodable("the JSON is nested too deeply") from exc
    if isinstance(exc, UnicodeDecodeError):
        raise Undecodable("the JSON is not UTF-8") from exc
    match = _PLACE.match(str(exc))
    text, place = (match[1], match[2] or "") if match else (str(exc), "")
    code = "bad_field" if isinstance(exc, msgspec.ValidationError) else "malformed"
    for start, name in _CODES:
        if text.startswith(start):
            code = name
    field, text = _printable(place), _printable(text)
    raise Undecodable(
        f"{field}: {text}" if field else text, code=code, field=field
    ) from exc


def _printable(text: str) -> str:
    # The text may repeat what a stranger wrote: no escapes for somebody's terminal.
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown[:_ECHO_LENGTH_MAX]


# ---- signed documents -------------------------------------------------------------


def sign(document: AnyDocument, *, key: Key, domain: Domain | None) -> Signed:
    """Sign a document.

    Args:
        document: within the limits of its class.
        key: the signer's.
        domain: of the market; None only for a ``Market``.

    Raises:
        Undecodable: a field is beyond its limit, so no reader would take it.
        Refused: the domain is missing.
    """
    signature = key.sign(digest(document, domain))
    signed = Signed(
        v=PROTOCOL_VERSION, document=document, signature="0x" + signature.hex()
    )
    _check_limits(signed)
    return signed


def verify(signed: Signed, *, domain: Domain | None) -> tuple[Digest, Address]:
    """Check a signed document; give its id and who signed it.

    Raises:
        UnsupportedVersion: of another version.
        Undecodable: a field is beyond its limit.
        BadSignature: the signature is not one.
        Refused: the domain is missing.
    """
    if signed.v != PROTOCOL_VERSION:
        _refuse_version(signed.v)
    _check_limits(signed)
    return _identify(signed, domain)


def decode_signed(
    raw: bytes, *, domain: Domain | None
) -> tuple[Signed, Digest, Address]:
    """Read a signed document and check it; give it with its id and who signed it.

    As ``decode`` and ``verify`` together, but what is read strictly is within its
    limits already.

    Raises:
        UnsupportedVersion: of another version.
        Undecodable: too large, or not the canonical bytes of a signed document.
        BadSignature: the signature is not one.
        Refused: the domain is missing.
    """
    signed = _decode(raw, _SIGNED_DECODER, limits.DOCUMENT_BYTES_MAX)
    return signed, *_identify(signed, domain)


def _identify(signed: Signed, domain: Domain | None) -> tuple[Digest, Address]:
    id_ = digest(signed.document, domain)
    return id_, recover(id_, bytes.fromhex(signed.signature[2:]))


def _check_limits(signed: Signed) -> None:
    # Structs that were made in this process have not been through a decoder.
    try:
        raw = _ENCODER.encode(signed)
    except UnicodeEncodeError as exc:
        raise Undecodable("a text is not Unicode", code="bad_field") from exc
    _parse(raw, _SIGNED_DECODER, limits.DOCUMENT_BYTES_MAX)


# ---- entries of the log -----------------------------------------------------------


def origin_of(market: Digest) -> str:
    """Name a market's log, as the checkpoints of its tree do.

    >>> origin_of("0x" + "ab" * 32)[:12]
    'sublet/ababa'
    """
    return f"sublet/{market[2:]}"


class DocumentCodec:
    """Reads and writes entries of one market's log; the port ``Codec`` of services.

    The market may be unknown at first: it is learnt from the first ``Market`` entry.
    """

    def __init__(
        self, domain: Domain | None = None, note_key: "NoteKey | None" = None
    ) -> None:
        """Take the market's domain and, in a node that signs, the checkpoint key."""
        self._domain = domain
        self._note_key = note_key

    def read_entry(self, body: bytes) -> Entry:
        """Read a stored entry, trusting the id and signer written in it.

        Raises:
            PeerFault: the bytes are not a canonical entry.
            UnsupportedVersion: of another version.
        """
        entry = _decode(body, _ENTRY_DECODER, ENTRY_BYTES_MAX)
        document = entry.document
        if self._domain is None:
            self._learn(document)
        return Entry(
            Fact(entry.at_s, entry.id, entry.signer, document),
            bytes.fromhex(entry.signature[2:]),
        )

    def verify_entry(self, body: bytes, *, market: Digest) -> Entry:
        """Read a stored entry, computing id and signer again from the signature.

        Raises:
            PeerFault: not canonical, or id, signer or signature do not hold.
            UnsupportedVersion: of another version.
            Refused: the market is not known; read its first entry first.
        """
        entry = self.read_entry(body)
        if self._domain is not None and self._domain.market != market:
            raise WrongEntry(
                f"this is the log of market {self._domain.market}, not of {market}",
                code="wrong_market",
            )
        fact = entry.fact
        id_ = digest(fact.document, self._domain)
        if id_ != fact.id:
            raise WrongEntry(
                f"the entry calls itself {fact.id}, its document's digest is {id_}",
                code="wrong_id",
            )
        signer = recover(id_, entry.signature)
        if signer != fact.signer:
            raise WrongEntry(
                f"the entry names {fact.signer} as signer, the signature {signer}",
                code="wrong_signer",
            )
        return entry

    def write_entry(self, entry: Entry) -> bytes:
        """Write the canonical bytes of an entry."""
        fact = entry.fact
        if self._domain is None:
            self._learn(fact.document)
        return _ENCODER.encode(
            LogEntry(
                v=PROTOCOL_VERSION,
                at_s=fact.at_s,
                id=fact.id,
                signer=fact.signer,
                document=fact.document,
                signature="0x" + entry.signature.hex(),
            )
        )

    def sign_note(self, *, size: int, root: bytes) -> bytes:
        """Sign a checkpoint of the log's tree as a C2SP note.

        Raises:
            Refused: this process does not hold the note key, or knows no market yet.
        """
        if self._note_key is None or self._domain is None:
            raise Refused(
                "only a node that holds the note key of a market signs its checkpoints",
                code="no_note_key",
            )
        return self._note_key.sign_checkpoint(
            origin=origin_of(self._domain.market), size=size, root=root
        )

    def _learn(self, document: AnyDocument) -> None:
        if isinstance(document, Market):
            self._domain = Domain.of(document, market_id(document))
