"""One real signed log, played once, and what tests of the audit ask of it."""

import asyncio

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from sublet.core.document import AnyDocument, Entry, Fact, Seal
from sublet.service.verdict import Verdict
from sublet.wire.signature import Key
from tests.fakes.tampered_log import build_log, entries_of
from tests.fakes.world import World

WORLD = World()
LOG = asyncio.run(build_log(WORLD))
SIZE = len(LOG.rows)
SIZES = [size for size, _ in LOG.notes]
ENTRIES = list(entries_of(LOG))
SEALS = [entry for entry in ENTRIES if isinstance(entry.fact.document, Seal)]

few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
numbers = st.integers(0, SIZE - 1)


def flip(content: bytes, draw: st.DataObject) -> bytes:
    """Change one byte to any other."""
    place = draw.draw(st.integers(0, len(content) - 1), label="place")
    other = draw.draw(st.integers(1, 255), label="xor")
    changed = bytearray(content)
    changed[place] ^= other
    return bytes(changed)


def covers(verdict: Verdict, number: int) -> bool:
    """Say whether the verdict names this entry, or the batch that it came in."""
    finding = verdict.finding
    if finding is None:
        return False
    last = next(size for size in SIZES if size > number) - 1
    return finding.first <= number <= finding.last <= last


def find(document: type[AnyDocument]) -> int:
    """Give the first entry with such a document."""
    kinds = [type(entry.fact.document) for entry in ENTRIES]
    return kinds.index(document)


def say(document: AnyDocument, key: Key, *, at_s: int) -> Entry:
    said = WORLD.say(document, key)
    fact = Fact(at_s, said.id, said.signer, document)
    return Entry(fact, said.signature)
