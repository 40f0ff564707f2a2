"""The contract ABI: from values to the bytes of a call, and back from an answer.

Types are written as Solidity and Vyper write them: ``address``, ``uint128``, ``bool``,
``bytes32``, ``bytes``, ``string``, tuples ``(a,b)``, arrays ``t[]`` and ``t[3]``.
Addresses and ``bytesN`` are hex texts, as everywhere in Sublet; ``bytes`` are bytes.
What is read comes from a stranger: each length and offset is checked against what is
there, and padding that is not zero is refused.

Not here: typed data (``typed_data``), which functions there are (``escrow_call``).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from sublet.base.errors import PeerFault, Refused
from sublet.wire.typed_data import keccak

_WORD = 32
_SIZED = re.compile(r"\A(uint|int|bytes)([0-9]+)\Z")
_ARRAY = re.compile(r"\A(.+)\[([0-9]*)\]\Z")


class BadAnswer(PeerFault):
    """A contract's answer is not what its ABI says."""

    code = "bad_answer"


class Kind(NamedTuple):
    """A type, compiled."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes, int], Any]  # of the bytes, from this offset on
    size: int  # of a static one, in bytes; 0: dynamic, its head is an offset


def encode_values(types: str, values: Sequence[Any]) -> bytes:
    """Encode arguments.

    Args:
        types: as in a signature, such as ``(address,uint256)``.
        values: one for each.

    Raises:
        Refused: ``bad_member``, a value does not fit its type.

    >>> encode_values("(uint8,bytes)", (1, b"ab")).hex().replace("0", "")
    '1426162'
    """
    return compile_kind(types).encode(values)


def decode_values(types: str, content: bytes) -> tuple[Any, ...]:
    """Decode an answer or the data of an event.

    Raises:
        BadAnswer: it is not of these types.
    """
    values: tuple[Any, ...] = compile_kind(types).decode(content, 0)
    return values


def encode_call(signature: str, *values: Any) -> bytes:
    """Encode the call of a function, such as ``balanceOf(address)``."""
    types = signature[signature.index("(") :]
    return keccak(signature.encode())[:4] + encode_values(types, values)


def event_topic(signature: str) -> str:
    """Give the first topic of an event, as hex."""
    return "0x" + keccak(signature.encode()).hex()


@cache
def compile_kind(abi: str) -> Kind:
    """Compile a type.

    Raises:
        TypeError: no such type.
    """
    if array := _ARRAY.match(abi):
        item = compile_kind(array[1])
        return _fixed(item, int(array[2])) if array[2] else _list(item)
    if abi.startswith("("):
        return _tuple([compile_kind(part) for part in _split(abi)])
    if abi in ("bytes", "string"):
        return _text() if abi == "string" else Kind(_tail, _read_tail, 0)
    if sized := _SIZED.match(abi):
        kind, size = sized[1], int(sized[2])
        return _hex(size) if kind == "bytes" else _number(size, is_signed=kind == "int")
    if abi == "address":
        return _address()
    if abi == "bool":
        number = _number(1, is_signed=False)
        return number._replace(decode=lambda data, at: bool(number.decode(data, at)))
    raise TypeError(f"no ABI type is called {abi}")


def _split(abi: str) -> Iterator[str]:
    """Give the parts of a tuple's type."""
    if not abi.endswith(")"):
        raise TypeError(f"no ABI type is called {abi}")
    depth, start = 0, 1
    for at, letter in enumerate(abi):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if (letter == "," and depth == 1) or (letter == ")" and not depth):
            if at > start:
                yield abi[start:at]
            start = at + 1


# ---- single words -----------------------------------------------------------------


def _word(data: bytes, at: int) -> bytes:
    word = data[at : at + _WORD]
    if len(word) != _WORD:
        raise BadAnswer("a contract's answer is shorter than its ABI says")
    return word


def _misfit(abi: str) -> Refused:
    return Refused(f"a value does not fit its type {abi}", code="bad_member")


def _number(bits: int, *, is_signed: bool) -> Kind:
    low, high = (-(1 << bits - 1), 1 << bits - 1) if is_signed else (0, 1 << bits)

    def encode(value: int) -> bytes:
        if not low <= value < high:
            raise _misfit(f"{'int' if is_signed else 'uint'}{bits}")
        return int(value).to_bytes(_WORD, "big", signed=is_signed)

    def decode(data: bytes, at: int) -> int:
        value = int.from_bytes(_word(data, at), "big", signed=is_signed)
        if not low <= value < high:
            raise BadAnswer(f"a contract's answer has a number of over {bits} bits")
        return value

    return Kind(encode, decode, _WORD)


def _hex(size: int) -> Kind:
    def encode(value: str) -> bytes:
        raw = _raw(value)
        if len(raw) != size:
            raise _misfit(f"bytes{size}")
        return raw.ljust(_WORD, b"\0")

    def decode(data: bytes, at: int) -> str:
        word = _word(data, at)
        if any(word[size:]):
            raise BadAnswer("a contract's answer is not padded with zeros")
        return "0x" + word[:size].hex()

    return Kind(encode, decode, _WORD)


def _address() -> Kind:
    number = _number(160, is_signed=False)

    def encode(value: str) -> bytes:
        raw = _raw(value)
        if len(raw) != 20:
            raise _misfit("address")
        return raw.rjust(_WORD, b"\0")

    def decode(data: bytes, at: int) -> str:
        return f"0x{number.decode(data, at):040x}"

    return Kind(encode, decode, _WORD)


def _raw(value: str) -> bytes:
    try:
        return bytes.fromhex(value.removeprefix("0x"))
    except ValueError as exc:
        raise _misfit("hex") from exc


# ---- what has a length ------------------------------------------------------------


def _count(data: bytes, at: int, size: int) -> int:
    """Read how many items of at least this size follow; they must all be there."""
    count = int.from_bytes(_word(data, at), "big")
    if count * size > len(data) - at - _WORD:
        raise BadAnswer("a contract's answer says that it is longer than it is")
    return count


def _tail(value: bytes) -> bytes:
    padding = bytes(-len(value) % _WORD)
    return len(value).to_bytes(_WORD, "big") + value + padding


def _read_tail(data: bytes, at: int) -> bytes:
    start = at + _WORD
    return data[start : start + _count(data, at, 1)]


def _text() -> Kind:
    def decode(data: bytes, at: int) -> str:
        try:
            return _read_tail(data, at).decode()
        except UnicodeDecodeError as exc:
            raise BadAnswer("a text in a contract's answer is no UTF-8") from exc

    return Kind(lambda value: _tail(value.encode()), decode, 0)


def _tuple(kinds: Sequence[Kind]) -> Kind:
    head_size = sum(kind.size or _WORD for kind in kinds)
    is_static = all(kind.size for kind in kinds)

    def encode(values: Sequence[Any]) -> bytes:
        if len(values) != len(kinds):
            raise _misfit("tuple")
        heads, tails, tails_at = [], [], head_size
        for kind, value in zip(kinds, values, strict=True):
            content = kind.encode(value)
            if kind.size:
                heads.append(content)
            else:
                heads.append(tails_at.to_bytes(_WORD, "big"))
                tails.append(content)
                tails_at += len(content)
        return b"".join(heads + tails)

    def decode(data: bytes, at: int) -> tuple[Any, ...]:
        values, head = [], at
        for kind in kinds:
            where = head
            if not kind.size:
                where = at + int.from_bytes(_word(data, head), "big")
            values.append(kind.decode(data, where))
            head += kind.size or _WORD
        return tuple(values)

    return Kind(encode, decode, head_size if is_static else 0)


def _fixed(item: Kind, count: int) -> Kind:
    return _tuple([item] * count)


def _list(item: Kind) -> Kind:
    def encode(values: Sequence[Any]) -> bytes:
        return len(values).to_bytes(_WORD, "big") + _fixed(item, len(values)).encode(
            values
        )

    def decode(data: bytes, at: int) -> tuple[Any, ...]:
        count = _count(data, at, item.size or _WORD)
        values: tuple[Any, ...] = _fixed(item, count).decode(data, at + _WORD)
        return values

    return Kind(encode, decode, 0)
