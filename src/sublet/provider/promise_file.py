"""What this agent has promised of late, also for leases that it has forgotten since.

Two terms of one lease that differ, signed close together, cost a provider its stake
(docs/contracts.md). A lease that ends before it runs is forgotten at once, and a lying
market could sell it again at another price; so its terms are remembered for longer than
the stake contract looks. On the disk before they are signed: a kill forgets nothing.
"""

from collections.abc import Container
from pathlib import Path

import msgspec
from msgspec import Struct

from sublet.adapter import private_file
from sublet.base.errors import Broken, Unavailable
from sublet.base.ids import Address, Digest
from sublet.core.lease.phase import Lease
from sublet.provider.commitment import NotOurs

REMEMBERED_S = 600  # the stake contract compares terms signed within 300 s


class Promise(Struct, frozen=True):
    """The terms of one lease, but for time and salt."""

    offer_id: Digest
    tenant: Address
    price_hour: int
    duration_s: int
    at_s: int  # when the lease was last here


class Promises:
    """The file of one agent."""

    def __init__(self, path: Path) -> None:
        """Take its path; it is read when it is first asked."""
        self._path = path
        self._promises: dict[Digest, Promise] | None = None

    def keep(self, lease: Lease, *, now_s: int, here: Container[Digest]) -> None:
        """Remember the terms of a lease; at its start, and again when it leaves.

        Args:
            lease: whose terms are about to be signed, or were.
            now_s: of the clock that dates what is signed.
            here: the leases of this machine; those are not forgotten.

        Raises:
            NotOurs: ``other_terms``, this lease was promised on other ones.
            Unavailable: the disk does not keep it, so nothing may be signed.
            Broken: the file is there and cannot be read.
        """
        known = self._read()
        promise = Promise(
            lease.offer_id, lease.tenant, lease.price_hour, lease.duration_s, now_s
        )
        was = known.get(lease.id)
        if was is not None and msgspec.structs.replace(was, at_s=now_s) != promise:
            raise NotOurs(
                "this lease was promised on other terms a moment ago; both together "
                "would cost the stake",
                code="other_terms",
            )
        kept = {
            lease_id: old
            for lease_id, old in known.items()
            if lease_id in here or old.at_s > now_s - REMEMBERED_S
        }
        kept[lease.id] = promise
        try:
            private_file.write(self._path, msgspec.json.encode(kept))
        except OSError as exc:
            raise Unavailable(
                f"cannot write {self._path}: {exc.strerror}; free some space on that disk",
                code="disk_failed",
            ) from exc
        self._promises = kept

    def _read(self) -> dict[Digest, Promise]:
        if self._promises is None:
            try:
                content = self._path.read_bytes()
                self._promises = msgspec.json.decode(
                    content, type=dict[Digest, Promise]
                )
            except FileNotFoundError:
                self._promises = {}
            except (OSError, msgspec.MsgspecError) as exc:
                raise Broken(
                    f"{self._path} cannot be read: {exc}; move it away and wait ten "
                    "minutes before you start again",
                    code="bad_record",
                ) from exc
        return self._promises
