"""Bytes that are almost right, and shapes that are far too much of something.

Deterministic: the same target, seed and count give the same inputs on every machine.
"""

import random
from collections.abc import Iterator
from itertools import product

from tests.fuzz.target import Target

BYTES_MAX = 10_000  # of an input; none this short may take a second

_WORDS = (
    *(b"0", b"-1", b"1e999", b"NaN", b"9" * 20, b"9" * 5_000, b"0x", b"null", b"true"),
    *(b"\0", b"\xff", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\x1b[2J", b"\r\n", b"\n\n"),
    *(b'"', b"\\ud800", b"\\u0000", b"{}", b"[]", b"..", b"/", b"../", b"%", b"*"),
    *("²".encode(), "٣".encode(), "Ⅷ".encode(), "ß".encode(), b"1_0", b"+1", b" "),
)
_SHAPES = (b"[", b"{", b"(", b'{"a":', b"[[", b"a.", b"9", b" ", b"\n", b"\\", b"-")


def make_inputs(target: Target, *, seed: int, count: int) -> Iterator[bytes]:
    """Give the seeds, then shapes, then ``count`` mutants."""
    yield from target.seeds
    yield from _make_shapes(target)
    chance = random.Random(f"{target.name}/{seed}")
    for _ in range(count):
        yield _mutate(target, chance)


def _make_shapes(target: Target) -> Iterator[bytes]:
    """Too deep, too long, too often: alone, and in the middle of something real."""
    for shape, size in product((*_SHAPES, *target.words), (400, BYTES_MAX)):
        many = (shape * (size // len(shape)))[:BYTES_MAX]
        yield many
        for real in target.seeds[:4]:
            for place in (0, len(real) // 2, len(real)):
                yield real[:place] + many + real[place:]
    for real in target.seeds[:4]:
        yield (real * (BYTES_MAX // max(len(real), 1) + 1))[:BYTES_MAX]


def _mutate(target: Target, chance: random.Random) -> bytes:
    raw = bytearray(chance.choice(target.seeds))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        _change(raw, target, chance)
    return bytes(raw)


def _change(raw: bytearray, target: Target, chance: random.Random) -> None:
    size = len(raw)
    at = chance.randint(0, size)
    end = min(size, at + chance.choice((1, 1, 2, 4, 8, 32, 200)))
    match chance.randrange(8):
        case 0 if at < size:
            raw[at] ^= 1 << chance.randrange(8)
        case 1 if at < size:
            raw[at] = chance.randrange(256)
        case 2:
            del raw[at:end]
        case 3:
            raw[at:at] = raw[at:end] * chance.choice((1, 2, 50))
        case 4:
            raw[at:at] = chance.choice(_WORDS + target.words)
        case 5:
            raw[at:end] = chance.choice(_WORDS + target.words)
        case 6:
            other = chance.choice(target.seeds)
            start = chance.randint(0, len(other))
            raw[at:end] = other[start : start + chance.choice((1, 8, 64, 1_000))]
        case _:
            del raw[at:]
