"""What an audit says at its end: plain values, for people and for ``--json``.

Not here: how it comes to say so (``audit``).
"""

from typing import NoReturn

from msgspec import Struct

from sublet.base.ids import NO_ADDRESS, NO_DIGEST, Address, Digest


class Finding(Struct, frozen=True):
    """What is wrong, and where: the first entry, or the narrowest range of entries.

    ``what`` is one of: ``entry_missing``, ``leaf``, ``stored_id``, ``entry`` (bytes,
    id, signer or signature; ``code`` says which), ``duplicate``, ``time``,
    ``first_entry``, ``seal``, ``snapshot``, ``checkpoint`` (the note itself is bad),
    ``root`` (a checkpoint covers other entries than these), ``unsigned``, and
    ``damaged`` (the file cannot be read; no entry can be named).
    """

    what: str
    why: str  # a sentence
    first: int  # index of the wrong entry
    last: int  # the same, unless only a checkpoint tells that something is wrong
    id: Digest = NO_DIGEST  # of the entry's document, where it can be told
    code: str = ""  # of the error that was caught


class Wrong(Exception):
    """Carries the first finding out of an audit, to where the verdict is written."""

    def __init__(self, finding: Finding) -> None:
        """Take the finding."""
        super().__init__(finding.why)
        self.finding = finding


def say_wrong(
    what: str,
    why: str,
    first: int,
    *,
    last: int | None = None,
    id: Digest = "",  # noqa: A002
    code: str = "",
) -> NoReturn:
    """End the audit with this finding; ``last`` is ``first`` unless it says more."""
    last = first if last is None else last
    raise Wrong(Finding(what, why, first, last, id or NO_DIGEST, code))


class Void(Struct, frozen=True):
    """Entries that the book refused, for one reason: they stand and change nothing."""

    code: str
    count: int
    first: int  # index of the first one
    why: str  # of the first one


class Wallet(Struct, frozen=True):
    """One party's money at the end, in micro-USD."""

    party: Address
    balance: int  # free to spend
    held: int
    earned: int
    spent: int


class Verdict(Struct, frozen=True):
    """The outcome of one audit. Money is in micro-USD."""

    finding: Finding | None = None
    market: Digest = NO_DIGEST
    name: str = ""
    operator: Address = NO_ADDRESS
    first: int = 0  # index of the first entry that was checked
    entries: int = 0  # checked, each with its signature
    voids: tuple[Void, ...] = ()
    seals: int = 0  # the operator's word for the book, found true
    checkpoints: int = 0  # signed notes, found true
    signed_size: int = 0  # entries that the newest of them covers
    signed_root: str = ""  # hex
    unsigned: int = 0  # entries behind it
    leases: int = 0  # made by the entries checked
    leases_settled: int = 0
    issued: int = 0  # credits that the operator ever issued
    paid: int = 0  # all that settlements ever moved
    wallets: tuple[Wallet, ...] = ()
    not_checked: tuple[str, ...] = ()  # sentences
    duration_ms: int = 0

    @property
    def is_good(self) -> bool:
        """Say whether nothing wrong was found."""
        return self.finding is None

    @property
    def entries_per_s(self) -> int:
        """Give the speed."""
        return self.entries * 1_000 // max(1, self.duration_ms)
