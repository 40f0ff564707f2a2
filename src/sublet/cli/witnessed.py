"""What witnesses say of a log, for ``sublet audit verify --witness``.

Every note that a named witness has cosigned is held against the log, so a log that
was cut together with its newest checkpoints is found by the one that a witness kept.
"""

import urllib.error
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Digest
from sublet.service.verdict import Finding

if TYPE_CHECKING:  # whoever only reads a witness's key does not load the book
    from sublet.service.audit import LogSource

TIMEOUT_S = 20
COSIGNED_FILE = "cosigned"  # beside a node's log


class NamedWitness(Struct, frozen=True):
    """One ``--witness``: a key, and where to ask."""

    verifier_key: str
    url: str  # "" where only what the log's keeper shows counts


class Cosigned(Struct, frozen=True):
    """What one witness has vouched for."""

    witness: str  # its verifier key
    size: int
    at_s: int


class Testimony(Struct, frozen=True):
    """All that the named witnesses say."""

    notes: tuple[bytes, ...]  # to be held against the log
    cosigned: tuple[Cosigned, ...]  # the largest of each witness
    quorum: int

    @property
    def size(self) -> int:
        """Entries that at least ``quorum`` witnesses vouch for."""
        sizes = sorted((each.size for each in self.cosigned), reverse=True)
        return sizes[self.quorum - 1] if len(sizes) >= self.quorum else 0

    def find_fault(self, *, entries: int) -> Finding | None:
        """Say what is wrong where too few witnesses vouch for the log."""
        if self.size:
            return None
        why = (
            f"{len(self.cosigned)} of the witnesses that you named have cosigned this "
            f"log, and you ask for {self.quorum}: who signs alone can sign twice"
        )
        return Finding("unwitnessed", why, 0, max(entries - 1, 0))

    def sentences(self) -> list[str]:
        """Tell it to people."""
        return [
            f"{each.witness.partition('+')[0]} saw {each.size} entries at "
            f"{datetime.fromtimestamp(each.at_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
            for each in self.cosigned
        ]


def parse_witness(text: str) -> NamedWitness:
    """Read ``KEY`` or ``KEY@URL``.

    Raises:
        Refused: it is neither.
    """
    from sublet.sdk.nodes import parse_url
    from sublet.wire.note import COSIGNATURE, BadNote, split_key

    key, at, rest = text.partition("@http")
    try:
        split_key(key, algorithm=COSIGNATURE)
    except BadNote as error:
        raise Refused(
            f"--witness: {error.message}; its owner sees it with: sublet witness init, "
            "or at /key of the witness",
            code="bad_witness_key",
            field="--witness",
        ) from error
    return NamedWitness(key, parse_url("http" + rest) if at else "")


def hear(
    source: "LogSource",
    witnesses: Sequence[NamedWitness],
    *,
    quorum: int,
    log: Path | None,
) -> Testimony:
    """Collect what the named witnesses have cosigned.

    Raises:
        Refused: ``quorum`` is more than there are names.
        Unavailable: a witness does not answer where it was said to be.
    """
    from sublet.wire.cosignature import find_cosigners
    from sublet.wire.note import read_text, split_note

    if quorum > len(witnesses):
        raise Refused(
            f"--witness-quorum: {quorum} of {len(witnesses)} witnesses cannot be",
            code="bad_quorum",
            field="--witness-quorum",
        )
    keys = [each.verifier_key for each in witnesses]
    notes: list[bytes] = []
    best: dict[str, Cosigned] = {}
    for note in _collect(source, witnesses, log):
        cosigners = find_cosigners(note, keys)
        if not cosigners:
            continue
        notes.append(note)
        size = read_text(split_note(note)[0]).size
        for key, at_s in cosigners.items():
            if key not in best or best[key].size < size:
                best[key] = Cosigned(key, size, at_s)
    return Testimony(tuple(notes), tuple(best.values()), quorum)


def _collect(
    source: "LogSource", witnesses: Sequence[NamedWitness], log: Path | None
) -> list[bytes]:
    from sublet.sdk.log_source import HttpLogSource

    found: list[bytes | None] = []
    if isinstance(source, HttpLogSource):
        found.append(source.find_cosigned())
    elif log is not None and (log.parent / COSIGNED_FILE).exists():
        found.append((log.parent / COSIGNED_FILE).read_bytes())
    market = _market_of(source)
    found += [_ask(each.url, market) for each in witnesses if each.url]
    return [note for note in found if note is not None]


def _market_of(source: "LogSource") -> Digest:
    from sublet.wire.codec import DocumentCodec

    rows = source.read(first=0, limit=1)
    if not rows:
        raise Refused("the log is empty; there is nothing to audit", code="empty_log")
    return DocumentCodec().read_entry(rows[0].body).fact.id


def _make_opener() -> urllib.request.OpenerDirector:
    """HTTP and nothing else: no files, no FTP, nowhere that a witness sends us to."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


_OPENER = _make_opener()


def _ask(url: str, market: Digest) -> bytes | None:
    from sublet.wire.note import NOTE_BYTES_MAX

    try:
        with _OPENER.open(f"{url}/checkpoint/{market}", timeout=TIMEOUT_S) as answer:
            note: bytes = answer.read(NOTE_BYTES_MAX + 1)
            return note
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise Unavailable(
            f"the witness at {url} answers {error.code}", code="witness_away"
        ) from error
    except (OSError, ValueError, HTTPException) as error:
        raise Unavailable(
            f"the witness at {url} does not answer ({str(error)[:200]})",
            code="witness_away",
        ) from error
