"""Two documents of one key that cannot both be meant: what a stake is slashed for.

Terms of one lease that say different things, two readings of one number, two receipts.
A time and a salt may differ: who signs the same again contradicts nothing.
"""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import fields

from sublet.base.ids import Address, Digest
from sublet.core.document import AnyDocument, LeaseTerms, Receipt, UsageRecord

# By what two documents are about the same thing.
_KEYS: dict[type[AnyDocument], tuple[str, ...]] = {
    LeaseTerms: ("lease_id",),
    UsageRecord: ("lease_id", "sequence"),
    Receipt: ("lease_id",),
}
_FREE = ("signed_at_s", "salt")


class Said(Struct, frozen=True):
    """A document that somebody signed, and where it stands."""

    where: str  # "entry 12", or "other 0" for one that is in no log
    id: Digest
    signer: Address
    document: AnyDocument


class Contradiction(Struct, frozen=True):
    """Two documents of one kind, by one key, about the same thing."""

    kind: str
    signer: Address
    first: Digest
    second: Digest
    first_where: str
    second_where: str
    fields: tuple[str, ...]  # in which they differ


def find_contradictions(said: Iterable[Said]) -> tuple[Contradiction, ...]:
    """Find every document that contradicts the first of its key about the same thing."""
    first_of: dict[tuple[object, ...], Said] = {}
    found: list[Contradiction] = []
    for each in said:
        names = _KEYS.get(type(each.document))
        if names is None:
            continue
        about = tuple(getattr(each.document, name) for name in names)
        first = first_of.setdefault((type(each.document), each.signer, *about), each)
        differing = tuple(
            field.name
            for field in fields(each.document)
            if field.name not in _FREE
            and getattr(first.document, field.name)
            != getattr(each.document, field.name)
        )
        if differing:
            found.append(
                Contradiction(
                    kind=type(each.document).__name__,
                    signer=each.signer,
                    first=first.id,
                    second=each.id,
                    first_where=first.where,
                    second_where=each.where,
                    fields=differing,
                )
            )
    return tuple(found)
