"""Another program for a job that runs: what is asked of its provider, and its answer.

Not here: which jobs are changed (``workload.deploy``), how it is said (``talk``).
"""

import asyncio

from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import NO_DIGEST
from sublet.core.lease.phase import Lease
from sublet.wire.manifest import commitment
from sublet.wire.message import Manifest, Replace, Replaced, Signed, Tree
from sublet.wire.typed_data import Domain
from sublet.workload.run.evidence import check_delivery, printable


class Changes:
    """The programs that are to take the place of another: one at a time, or none."""

    def __init__(self, *, lease: Lease, domain: Domain) -> None:
        """Take the lease, and the domain in which its provider signs."""
        self._lease = lease
        self._domain = domain
        self._asked: Replace | None = None
        self._answer = asyncio.get_running_loop().create_future()

    def ask(self, manifest: Manifest, replacement: Signed) -> Replace:
        """Begin to wait for an answer; give what is to be said for it."""
        self._answer = asyncio.get_running_loop().create_future()
        self._asked = Replace(manifest=manifest, replacement=replacement)
        return self._asked

    @property
    def asked(self) -> Replace | None:
        """What waits for its answer: over another channel it is said again."""
        return self._asked

    def trees(self) -> tuple[Tree, ...]:
        """Give what the provider may ask for."""
        return () if self._asked is None else (self._asked.manifest.inputs,)

    def hear(self, said: Replaced) -> None:
        """Take the provider's answer; that to another question means nothing.

        Raises:
            PeerFault: it says that the program runs, and does not sign it.
        """
        asked = self._asked
        if asked is None or said.manifest != commitment(asked.manifest):
            return
        if not said.code:
            found = check_delivery(
                said.delivery, lease=self._lease, domain=self._domain
            )
            if found.manifest != said.manifest:
                raise PeerFault("a delivery of another manifest", code="bad_delivery")
        if not self._answer.done():
            self._answer.set_result(said)

    def drop(self) -> None:
        """Hear that the job is over: nobody will answer any more."""
        if self._asked is not None and not self._answer.done():
            text = "the program ended before another could take its place"
            gone = Replaced(manifest=NO_DIGEST, code="job_over", message=text)
            self._answer.set_result(gone)

    async def wait(self) -> None:
        """Wait for the answer.

        Raises:
            Refused: why the old program goes on.
        """
        try:
            said = await self._answer
        finally:
            self._asked = None
        if said.code:
            raise Refused(printable(said.message), code=printable(said.code))
