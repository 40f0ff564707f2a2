"""What other nodes have appended to a shared log, read in order and checked.

Signatures were checked by the node that appended; here bytes are held against leaves,
and a page against what was folded before it.
"""

from sublet.base import limits
from sublet.base.errors import Outdated, PeerFault, Refused
from sublet.core.document import Fact
from sublet.core.merkle import leaf_hash
from sublet.service.fold import Fold
from sublet.service.ports import Codec, Log, LogForked


class EntryUnread(Outdated):
    """An entry of the log cannot be read by this version; update sublet."""

    code = "entry_unread"


class Others:
    """Reads behind a fold. Blocks; called in the log's thread."""

    def __init__(self, log: Log, codec: Codec) -> None:
        """Take the ports."""
        self._log = log
        self._codec = codec

    def read(self, fold: Fold, size: int | None = None) -> list[tuple[Fact, bytes]]:
        """Give the next page of (fact, leaf) that ``fold`` has not taken, if any.

        Args:
            fold: nobody takes anything into it meanwhile.
            size: entries that are of interest; None for all there are.

        Raises:
            LogForked: the log does not go on from what was folded.
            EntryUnread: an entry is of a kind that this program does not know.
            Unavailable: the store does not answer.
        """
        known = min(fold.size, 1)
        first = fold.size - known  # the last one that was folded comes along
        limit = limits.PAGE_ENTRIES_MAX + known
        if size is not None:
            if size < fold.size:
                raise LogForked(
                    f"the log holds {size} entries, and this node has folded {fold.size}"
                )
            limit = min(limit, size - first)
        elif not self._log.is_shared:
            return []
        if limit <= known:
            return []
        rows = self._log.read(first=first, limit=limit)
        if known and (not rows or rows[0].leaf != fold.leaves[-1]):
            raise LogForked
        page: list[tuple[Fact, bytes]] = []
        for number, row in enumerate(rows[known:], fold.size):
            if row.index != number or leaf_hash(row.body) != row.leaf:
                raise LogForked(f"entry {number} of the log is missing or damaged")
            page.append((self._read(row.body, number), row.leaf))
        return page

    def _read(self, body: bytes, number: int) -> Fact:
        try:
            return self._codec.read_entry(body).fact
        except (PeerFault, Refused) as error:
            raise EntryUnread(
                f"entry {number} cannot be read by this version of sublet "
                f"({error.message}); update it"
            ) from error
