"""What binds a worker to the results of its tasks: lines that its receipt covers. Pure.

Results travel over a channel whose ends alone can tell who said what. But the program of
a worker's lease is the harness, and the provider signs, at the lease's end, a receipt
with the BLAKE3 of all that it wrote. So the harness writes one line for each task that
has ended, before the result can be seen: the hash of what it was given, and the hash of
what came of it. The tenant hears these lines live, and holds them against what it was
told; with the receipt, which lies in the market's log, anybody can.

Until the receipt is there the line is the provider's word and no more. One that never
signs a receipt ends its lease at fault; one that writes another hash than it tells is
heard at once, and nothing of it is taken.

Not here: the harness (``workload.map.harness``), which travels and has its own copy.
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct


class Commitment(Struct, frozen=True):
    """One line: what a task was given, and what it wrote; SHA-256, in hex."""

    task: str  # its id
    given: str
    wrote: str


def write_given(given: Any) -> bytes:
    """Give the bytes that ``given`` is a hash of: JSON, keys sorted, ASCII alone.

    Args:
        given: the ``data`` of a warm program's task; of others ``[args, env, stdin]``,
            the last in base64.
    """
    return json.dumps(given, sort_keys=True).encode()


def commit(task: str, *, given: bytes, wrote: bytes) -> Commitment:
    """Make the line of a task, from the bytes that it was given and that it wrote."""
    return Commitment(task, sha256(given).hexdigest(), sha256(wrote).hexdigest())


def read_commitments(stream: bytes) -> Iterator[Commitment]:
    """Read the lines of a worker's standard output; what is none is passed over."""
    for line in stream.splitlines():
        try:
            yield msgspec.json.decode(line, type=Commitment)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            continue
