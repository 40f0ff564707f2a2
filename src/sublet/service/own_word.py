"""What a node says as the operator, by its own decision: Resume and Seal.

Neither waits in the queue: the first comes before all that waits, the second speaks of
the book as it is at its own place. Where several nodes want to say it, one does.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256

from msgspec.structs import replace

from sublet.base.errors import Unavailable
from sublet.base.ids import Digest
from sublet.core.book.snapshot import dump
from sublet.core.document import AnyDocument, Entry, Fact, Resume, Seal
from sublet.core.merkle import leaf_hash
from sublet.service.follower import Follower
from sublet.service.ports import Codec, Log, Overtaken, Snapshot, Unattended
from sublet.service.submission import Candidate

Sign = Callable[[AnyDocument], Candidate]  # with the operator's key

_LOGGER = logging.getLogger(__name__)


class OwnWord:
    """Appends it at its place; called by the task that folds."""

    def __init__(
        self, log: Log, codec: Codec, *, sign: Sign, follower: Follower
    ) -> None:
        """Take the ports, and what is known of the log."""
        self._log = log
        self._codec = codec
        self._sign = sign
        self._follower = follower

    async def resume(self) -> None:
        """Let no deadline pass for the time in which no node was there.

        Of several nodes that come back, one says it. Called by the task that writes,
        or before there is one.

        Raises:
            Unavailable: the store does not answer.
        """
        follower, rows = self._follower, []
        now_s = follower.now_s()
        if follower.fold.book.leases:
            resume = Resume(signed_at_s=now_s, salt=follower.fold.size)
            fact, body, leaf = self._write(resume, now_s)
            rows = [(fact.id, body, leaf)]
        ground = replace(follower.ground(now_s), is_next=True, is_resume=True)
        with suppress(Overtaken):
            if rows or self._log.is_shared:
                append = partial(self._log.append, rows, ground=ground)
                placing = await follower.in_thread(append)
                await follower.catch_up(placing.size + len(rows))
        await follower.catch_up()

    async def seal(self) -> None:
        """Append a Seal of the book as it is, and keep the snapshot that it names.

        Dumping the book and checking the seal are long: they run in the log's thread.
        Commits wait for it, those of other nodes too; the event loop does not, and
        nobody else changes the book. A seal that the store does not take is tried
        again after the next commit.
        """
        follower = self._follower
        pen = self._log.alone()
        try:
            await follower.in_thread(pen.__enter__)
            try:
                await follower.catch_up()
                now_s, tree = follower.now_s(), follower.fold.tree.to_bytes()
                seal = None
                if not follower.is_due(now_s):
                    seal = await follower.in_thread(partial(self._append_seal, now_s))
            finally:
                await follower.in_thread(partial(pen.__exit__, None, None, None))
        except (Unavailable, Overtaken, Unattended) as error:
            values = {"code": error.code, "why": error.message}
            _LOGGER.warning("seal_not_kept", extra={"values": values})
            return
        if seal is not None:
            fact, leaf, snapshot = seal
            snapshot = replace(snapshot, tree=tree)
            await follower.in_thread(partial(follower.take, fact, leaf))
            await follower.in_thread(partial(follower.keeper.keep_snapshot, snapshot))
            await follower.keep()

    def _append_seal(self, now_s: int) -> tuple[Fact, bytes, Snapshot]:
        fold = self._follower.fold
        size, book = fold.size, dump(fold.book)
        book_hash = sha256(book).digest()
        digest: Digest = "0x" + book_hash.hex()
        seal = Seal(size=size, book=digest, signed_at_s=now_s, salt=size)
        fact, body, leaf = self._write(seal, now_s)
        ground = replace(self._follower.ground(now_s), is_next=True)
        self._log.append([(fact.id, body, leaf)], ground=ground)
        return fact, leaf, Snapshot(size, book, book_hash, b"")

    def _write(self, document: AnyDocument, now_s: int) -> tuple[Fact, bytes, bytes]:
        said = self._sign(document)
        fact = Fact(now_s, said.id, said.signer, said.document)
        body = self._codec.write_entry(Entry(fact, said.signature))
        return fact, body, leaf_hash(body)
