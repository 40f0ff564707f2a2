"""EIP-712: from a document to the 32 bytes that are signed.

One small encoder, compiled once per type from a table of members; for documents the
table is made from the annotations of their class. Documents of a market live in the
domain ``Sublet`` with the market's id as salt; ``Channel`` and ``Voucher`` live in the
domain of x402 ``batch-settlement``, so that a chain can pay them unchanged.

Not here: signatures (``signature``), bytes on the wire (``codec``).
"""

import re
from binascii import Error as HexError
from binascii import unhexlify
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from operator import attrgetter, itemgetter
from typing import Any, get_type_hints

from msgspec import Meta, Struct
from sha3 import keccak_256

from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST, Address, Digest
from sublet.core.document import AnyDocument, Channel, Market, Voucher

Word = Callable[[Any], bytes]  # what one member contributes: 32 bytes
Take = Callable[[Any], Iterable[Any]]  # the members of a value, in order
Members = tuple[tuple[str, str], ...]  # (name, type) in declaration order
Types = Mapping[str, Members]

_ARRAY = re.compile(r"\A(.+)\[(\d*)\]\Z")
_SIZED = re.compile(r"\A(uint|int|bytes)(\d+)\Z")
_ADDRESS_BYTES = 20
_PAD_ADDRESS = bytes(12)
_DOMAIN_MEMBERS: Members = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
    ("salt", "bytes32"),
)


def keccak(content: bytes) -> bytes:
    """Keccak-256, 32 bytes."""
    hashed: bytes = keccak_256(content).digest()
    return hashed


# ---- the encoder ------------------------------------------------------------------


def encode_type(primary: str, types: Types) -> str:
    """Write a type as EIP-712 does: itself, then what it refers to, sorted.

    >>> encode_type("Pair", {"Pair": (("left", "uint8"), ("right", "Leaf[]")),
    ...                      "Leaf": (("name", "string"),)})
    'Pair(uint8 left,Leaf[] right)Leaf(string name)'
    """
    found: set[str] = set()
    waiting = [primary]
    while waiting:
        name = waiting.pop()
        if name in types and name not in found:
            found.add(name)
            waiting += [abi.partition("[")[0] for _, abi in types[name]]
    return "".join(
        f"{name}({','.join(f'{abi} {member}' for member, abi in types[name])})"
        for name in (primary, *sorted(found - {primary}))
    )


def compile_struct(primary: str, types: Types, *, take: Take | None = None) -> Word:
    """Compile ``hashStruct`` of a type.

    Args:
        primary: the name of the type; a key of ``types``.
        types: members of this type and of all that it refers to.
        take: reads the members off a value, in order; by default the value is a
            mapping. Structs inside it are always mappings.

    Returns:
        A function from a value to the 32 bytes of its struct hash. It raises
        ``Refused`` (``bad_member``) where a value does not fit its type.
    """
    type_hash = keccak(encode_type(primary, types).encode())
    members = types[primary]
    words = [_compile_word(abi, types) for _, abi in members]
    read = take or _take_with(itemgetter, [name for name, _ in members])

    def hash_struct(value: Any) -> bytes:
        # A list, not a generator: this runs for every signature that is checked.
        try:
            parts = [word(part) for word, part in zip(words, read(value), strict=True)]
        except HexError as exc:
            raise _misfit(primary) from exc
        return keccak(type_hash + b"".join(parts))

    return hash_struct


def _take_with(getter: Callable[..., Any], names: Sequence[str]) -> Take:
    if not names:
        return lambda value: ()
    take: Take = getter(*names)
    if len(names) == 1:  # itemgetter and attrgetter give a single value bare
        return lambda value: (take(value),)
    return take


def _compile_word(abi: str, types: Types) -> Word:
    if abi in types:
        return compile_struct(abi, types)
    if array := _ARRAY.match(abi):
        item, length = array.groups()
        return _array(_compile_word(item, types), length, abi)
    if sized := _SIZED.match(abi):
        kind, size = sized[1], int(sized[2])
        if kind == "bytes":
            return _fixed_bytes(size)
        return _uint(size) if kind == "uint" else _int(size)
    return _PLAIN[abi]


def _array(item: Word, length: str, abi: str) -> Word:
    def word(values: Any) -> bytes:
        if length and len(values) != int(length):
            raise _misfit(abi)
        return keccak(b"".join([item(value) for value in values]))

    return word


def _uint(bits: int) -> Word:
    def word(value: int) -> bytes:
        if value >> bits:  # too large, or negative
            raise _misfit(f"uint{bits}")
        return value.to_bytes(32, "big")

    return word


def _int(bits: int) -> Word:
    def word(value: int) -> bytes:
        if (value if value >= 0 else ~value) >> (bits - 1):
            raise _misfit(f"int{bits}")
        return value.to_bytes(32, "big", signed=True)

    return word


def _fixed_bytes(size: int) -> Word:
    padding = bytes(32 - size)

    def word(value: str) -> bytes:
        raw = unhexlify(value[2:])  # not bytes.fromhex, which skips white space
        if len(raw) != size:
            raise _misfit(f"bytes{size}")
        return raw + padding

    return word


def _address(value: str) -> bytes:
    raw = unhexlify(value[2:])
    if len(raw) != _ADDRESS_BYTES:
        raise _misfit("address")
    return _PAD_ADDRESS + raw


@lru_cache(maxsize=4_096)
def _string(value: str) -> bytes:
    # Models, regions, keys: documents say the same few texts over and over.
    try:
        return keccak(value.encode())
    except UnicodeEncodeError as exc:  # half of a surrogate pair
        raise _misfit("string") from exc


def _misfit(abi: str) -> Refused:
    return Refused(f"a value does not fit its type {abi}", code="bad_member")


_PLAIN: Mapping[str, Word] = {
    "address": _address,
    "bool": lambda value: int(bool(value)).to_bytes(32, "big"),
    "bytes": lambda value: keccak(unhexlify(value[2:])),
    "string": _string,
}


def domain_separator(fields: Mapping[str, str | int]) -> bytes:
    """Hash a domain of which any member may be missing, as EIP-712 allows."""
    members = tuple(pair for pair in _DOMAIN_MEMBERS if pair[0] in fields)
    return compile_struct("EIP712Domain", {"EIP712Domain": members})(fields)


def digest_of(*, separator: bytes, struct_hash: bytes) -> Digest:
    """The bytes that are signed, hashed: 0x19 0x01, domain, content."""
    hashed: str = keccak_256(b"\x19\x01" + separator + struct_hash).hexdigest()
    return "0x" + hashed


# ---- the documents ----------------------------------------------------------------


@dataclass(frozen=True)
class Domain:
    """What binds a signature to one market and one deployment."""

    market: Digest  # the market's id; NO_DIGEST for the Market document itself
    chain_id: int
    contract: Address

    @classmethod
    def of(cls, market: Market, market_id: Digest) -> "Domain":
        """Take chain and contract from the market's own document."""
        return cls(market_id, market.chain_id, market.contract)

    @cached_property
    def separator(self) -> bytes:
        """The domain of all documents of the market, 32 bytes."""
        return domain_separator(
            {
                "name": "Sublet",
                "version": "1",
                "chainId": self.chain_id,
                "verifyingContract": self.contract,
                "salt": self.market,
            }
        )

    @cached_property
    def channel_separator(self) -> bytes:
        """The domain of channels and vouchers: x402 batch-settlement, 32 bytes."""
        return domain_separator(
            {
                "name": "x402 Batch Settlement",
                "version": "1",
                "chainId": self.chain_id,
                "verifyingContract": self.contract,
            }
        )


@cache
def compile_class(kind: type[Struct]) -> Word:
    """Compile the struct hash of a class from its annotations.

    Raises:
        TypeError: a field's annotation names no ABI type.
    """
    # x402 calls this type ChannelConfig; everywhere else the class gives the name.
    primary = "ChannelConfig" if kind is Channel else kind.__name__
    fields = kind.__struct_fields__
    hints = get_type_hints(kind, include_extras=True)
    members = tuple((_camel(name), _abi_of(name, hints[name])) for name in fields)
    return compile_struct(
        primary, {primary: members}, take=_take_with(attrgetter, fields)
    )


def _abi_of(name: str, hint: Any) -> str:
    for meta in getattr(hint, "__metadata__", ()):
        if isinstance(meta, Meta) and meta.extra and "abi" in meta.extra:
            return str(meta.extra["abi"])
    raise TypeError(f"the annotation of {name} names no ABI type")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def digest(document: AnyDocument, domain: Domain | None) -> Digest:
    """Compute a document's id: its EIP-712 digest.

    Args:
        document: any document.
        domain: of the market that it belongs to. A ``Market`` has its own (zero salt)
            and needs none.

    Raises:
        Refused: ``no_market``, no domain was given; ``bad_member``, a value does not
            fit its type.
    """
    kind = type(document)
    if isinstance(document, Market):
        separator = Domain.of(document, NO_DIGEST).separator
    elif domain is None:
        raise Refused(
            f"a {kind.__name__} belongs to a market; which one is not known yet",
            code="no_market",
        )
    elif kind is Voucher or kind is Channel:
        separator = domain.channel_separator
    else:
        separator = domain.separator
    return digest_of(separator=separator, struct_hash=compile_class(kind)(document))


def market_id(market: Market) -> Digest:
    """The market's id: the digest of its document, in the domain with a zero salt."""
    return digest(market, None)
