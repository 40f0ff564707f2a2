"""Holds a market to its word: each checkpoint must go on from the last one seen.

For tenants, providers and witnesses alike. The first checkpoint is believed (trust on
first use); from then on a market that rewrites, cuts or forks its log contradicts
what is kept here, and is named with the evidence: two notes that its own key signed.

Not here: HTTP (the caller fetches), files (``Memory``), whether entries are lawful
(``service.audit``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from sublet.base import limits
from sublet.base.errors import PeerFault, Refused, Unavailable
from sublet.base.ids import Digest
from sublet.core.merkle import (
    HASH_BYTES,
    BadProof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from sublet.wire.codec import ENTRY_BYTES_MAX, DocumentCodec, origin_of
from sublet.wire.note import BadNote, Checkpoint, read_checkpoint
from sublet.wire.split_view import SplitView, make_split_view
from sublet.wire.typed_data import Domain

LEAVES_MAX = 1 << 22  # fetched to prove a lie: 128 MiB
LOOKS = 4  # at a log that seems shorter: another node of it may be behind
PAUSE_S = 0.5  # between two of them; doubled each time
_HASHES = msgspec.json.Decoder(list[str])
_HASHES_MAX = 64

Fetch = Callable[[str], Awaitable[bytes]]  # GET this path of the node


class LogLie(PeerFault):
    """A market contradicts its own signature; do not trust it with anything new.

    Codes: ``log_forked`` (two histories), ``log_truncated`` (its end was cut away, or
    an old state is shown), ``log_forged`` (not signed by its key), ``log_withheld``
    (a document that it acknowledged is not in its log).
    """

    code = "log_forked"

    shown: SplitView | None = None  # the two notes, where there are two
    place: Path | None = None  # of the file in which they are kept


class Memory(Protocol):
    """Where the newest checkpoint and evidence are kept (``CheckpointFolder``)."""

    def find(self, market: Digest) -> bytes | None:
        """Give the note that is kept of this log, or None."""
        ...

    def update(
        self, market: Digest, change: Callable[[bytes | None], bytes | None]
    ) -> None:
        """Compare and replace, one at a time; durable when it returns."""
        ...

    def keep_evidence(self, market: Digest, content: bytes) -> Path:
        """Keep a file of evidence; give its place."""
        ...


class LogWatch:
    """Follows one market's log."""

    def __init__(
        self, fetch: Fetch, memory: Memory, *, market: Digest, verifier_key: str
    ) -> None:
        """Take the log's name and key, as the market's own document has them."""
        self._fetch = fetch
        self._memory = memory
        self._market = market
        self._verifier_key = verifier_key

    def read(self, note: bytes) -> Checkpoint:
        """Read a checkpoint of this log.

        Raises:
            LogLie: ``log_forged``.
        """
        try:
            signed = read_checkpoint(note, verifier_key=self._verifier_key)
        except BadNote as error:
            raise LogLie(
                f"the market shows a checkpoint that it did not sign: {error.message}",
                code="log_forged",
            ) from error
        if signed.origin != origin_of(self._market):
            raise LogLie(
                f"the market shows a checkpoint of another log, {signed.origin}",
                code="log_forged",
            )
        return signed

    async def look(self) -> tuple[Checkpoint, bytes]:
        """Fetch the newest checkpoint, hold it against the last one, keep it.

        Raises:
            LogLie: it does not go on from there; the evidence is kept.
            Unavailable: the market (or the disk) does not answer.
            Refused: the market has signed no checkpoint yet.
        """
        pause_s = PAUSE_S
        for left in reversed(range(LOOKS)):
            note = await self._fetch("/v1/log/checkpoint")
            try:
                return await self.take(note), note
            except LogLie as lie:
                if lie.code != "log_truncated" or not left:
                    self._keep_evidence(lie)
                    raise
            await asyncio.sleep(pause_s)
            pause_s *= 2
        raise AssertionError("the last look returns or raises")

    async def look_for(
        self, acknowledged: Mapping[Digest, int], *, domain: Domain
    ) -> Checkpoint:
        """Look, and have the market prove that it keeps what it acknowledged.

        Args:
            acknowledged: index in the log, as the market answered, by document id.
            domain: that of the market, in which ids are computed.

        Raises:
            LogLie: as ``look``; ``log_withheld`` where something is not in the log,
                or its checkpoints do not come to reach so far.
            Unavailable: as ``look``.
        """
        size = max(acknowledged.values(), default=-1) + 1
        pause_s = PAUSE_S
        for left in reversed(range(LOOKS)):
            checkpoint = await self._look_or_none()
            if checkpoint is not None and checkpoint.size >= size:
                for id_, index in acknowledged.items():
                    await self.check_included(
                        checkpoint, index=index, id=id_, domain=domain
                    )
                return checkpoint
            if left:
                await asyncio.sleep(pause_s)
                pause_s *= 2
        signed = checkpoint.size if checkpoint else 0
        raise LogLie(
            f"the market acknowledged a document as entry {size - 1} of its log, and "
            f"goes on signing for {signed} entries only",
            code="log_withheld",
        )

    async def _look_or_none(self) -> Checkpoint | None:
        try:
            return (await self.look())[0]
        except Refused as refusal:
            if refusal.code != "no_checkpoint":
                raise
            return None

    async def take(self, note: bytes) -> Checkpoint:
        """Hold a checkpoint against the one that is kept; keep the newer of the two.

        Raises:
            LogLie: the two contradict each other. No evidence is kept yet.
        """
        new, held = self.read(note), self._memory.find(self._market)
        if held is not None:
            await self._check(held, note, new)

        def change(kept: bytes | None) -> bytes | None:
            # Another process may have seen more meanwhile; that was checked, too.
            is_newer = kept is None or self.read(kept).size < new.size
            return note if is_newer else None

        await asyncio.to_thread(self._memory.update, self._market, change)
        return new

    async def check_included(
        self,
        checkpoint: Checkpoint,
        *,
        index: int,
        id: Digest,  # noqa: A002
        domain: Domain,
    ) -> None:
        """Have the market prove that a document it acknowledged is in its log.

        Raises:
            LogLie: ``log_withheld``.
            Unavailable: the market does not answer.
        """
        try:
            path = f"/v1/log/entries?first={index}&limit=1"
            body = (await self._fetch(path)).removesuffix(b"\n")
            if len(body) > ENTRY_BYTES_MAX:
                raise PeerFault("it is too large")
            entry = DocumentCodec(domain).verify_entry(body, market=self._market)
            if entry.fact.id != id:
                raise PeerFault(f"it is document {entry.fact.id}")
            proof = await self._fetch_proof(
                f"inclusion?index={index}&size={checkpoint.size}"
            )
            verify_inclusion(
                leaf_hash(body),
                index=index,
                size=checkpoint.size,
                root=checkpoint.root,
                proof=proof,
            )
        except (PeerFault, Refused) as fault:
            raise LogLie(
                f"the market acknowledged document {id} as entry {index} of its log, "
                f"and does not show it there: {fault.message}",
                code="log_withheld",
            ) from fault

    # ---- two checkpoints ----------------------------------------------------------

    async def _check(self, held: bytes, note: bytes, new: Checkpoint) -> None:
        old = self.read(held)
        if new.size < old.size:
            raise self._lie(
                f"the market signed for {old.size} entries and now shows only "
                f"{new.size}: the end of its log was cut away, or an old state is shown",
                code="log_truncated",
                pair=(held, note),
            )
        if new.size == old.size and new.root == old.root:
            return
        try:
            if new.size > old.size:
                proof = await self.prove(old.size, new.size)
                verify_consistency(
                    old=old.size,
                    new=new.size,
                    old_root=old.root,
                    new_root=new.root,
                    proof=proof,
                )
                return
        except BadProof:
            pass  # what follows says so
        except Refused as refusal:
            if refusal.code == "beyond_log":  # said by a node that is behind, too
                raise self._lie(
                    f"the market signed for {new.size} entries and says that it does "
                    "not have them",
                    code="log_truncated",
                    pair=(held, note),
                ) from refusal
        leaves = await self._fetch_leaves(new)
        raise self._lie(
            f"the market signed two histories: what it shows over {new.size} entries "
            f"does not go on from what it signed over {old.size}",
            code="log_forked",
            pair=(held, note),
            leaves=leaves,
        )

    def _lie(
        self,
        message: str,
        *,
        code: str,
        pair: tuple[bytes, bytes],
        leaves: list[bytes] | None = None,
    ) -> LogLie:
        lie = LogLie(message, code=code)
        lie.shown = make_split_view(
            verifier_key=self._verifier_key,
            first=pair[0],
            second=pair[1],
            leaves=leaves or (),
        )
        return lie

    def _keep_evidence(self, lie: LogLie) -> None:
        if lie.shown is not None:
            content = lie.shown.to_bytes()
            lie.place = self._memory.keep_evidence(self._market, content)
            lie.detail = {**lie.detail, "evidence": str(lie.place)}

    async def prove(self, old: int, new: int) -> list[bytes]:
        """Fetch the proof that the first ``old`` entries of ``new`` are the old tree.

        Raises:
            BadProof: this is none, at first sight.
        """
        return await self._fetch_proof(f"consistency?old={old}&new={new}")

    async def _fetch_proof(self, path: str) -> list[bytes]:
        try:
            hashes = _HASHES.decode(await self._fetch(f"/v1/log/proof/{path}"))
            if len(hashes) > _HASHES_MAX:
                raise ValueError("too many hashes")
            return [bytes.fromhex(each.removeprefix("0x")) for each in hashes]
        except (msgspec.MsgspecError, ValueError) as exc:
            raise BadProof(f"this is no proof: {exc}") from exc

    async def _fetch_leaves(self, new: Checkpoint) -> list[bytes]:
        """Give the leaf hashes that the newer root is made of, or none."""
        leaves: list[bytes] = []
        try:
            while len(leaves) < new.size <= LEAVES_MAX:
                limit = min(limits.PAGE_ENTRIES_MAX, new.size - len(leaves))
                raw = await self._fetch(
                    f"/v1/log/leaves?first={len(leaves)}&limit={limit}"
                )
                if not raw or len(raw) % HASH_BYTES or len(raw) > limit * HASH_BYTES:
                    return []
                leaves += [
                    raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)
                ]
        except (PeerFault, Refused, Unavailable):
            return []
        is_whole = len(leaves) == new.size and root_of(leaves) == new.root
        return leaves if is_whole else []
