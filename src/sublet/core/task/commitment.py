"""What binds a worker to the results of its tasks: lines that its receipt covers. Pure.

Results travel over a channel whose ends alone can tell who said what. But the program of
a worker's lease is the harness, and the provider signs, at the lease's end, a receipt
with the BLAKE3 of all that it wrote. So the harness writes one line for each task that
has ended, before the result can be seen: a hash of what it was given and of what it
wrote. The tenant has a copy of that output (``sublet logs``); with the receipt, which
lies in the market's log, anybody can hold a result against it.

Until the receipt is there the line is the provider's word and no more; one that never
signs a receipt ends its lease at fault.

Not here: the harness (``workload.map.harness``), which travels and has its own copy.
"""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct


class Commitment(Struct, frozen=True):
    """One line."""

    task: str  # its id
    hash: str  # SHA-256, in hex, of the SHA-256 of what it was given and wrote


def write_given(given: Mapping[str, Any]) -> bytes:
    """Give the bytes of what a task was given: JSON, keys sorted, ASCII alone.

    Args:
        given: ``args``, ``env`` and, of a warm program's task, ``data``; of another's
            ``stdin``, in base64.
    """
    return json.dumps(given, sort_keys=True).encode()


def commit(task: str, *, given: bytes, wrote: bytes) -> Commitment:
    """Make the line of a task, from the bytes that it was given and that it wrote."""
    both = sha256(given).digest() + sha256(wrote).digest()
    return Commitment(task, sha256(both).hexdigest())


def read_commitments(stream: bytes) -> Iterator[Commitment]:
    """Read the lines of a worker's standard output; what is none is passed over."""
    for line in stream.splitlines():
        try:
            yield msgspec.json.decode(line, type=Commitment)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            continue
