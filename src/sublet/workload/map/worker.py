"""One worker: a job whose program is the harness, and the session that feeds it."""

import asyncio
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import structs

from sublet.base.errors import PeerFault, Unavailable
from sublet.base.ids import Address, Digest
from sublet.core.job.record import JobRecord
from sublet.core.job.state import JobLimits
from sublet.core.task import fact
from sublet.workload.map.result import WorkerSaid
from sublet.workload.map.session import TaskSession
from sublet.workload.map.supply import PieceRunner, Supply
from sublet.workload.run import event
from sublet.workload.run.evidence import printable
from sublet.workload.run.runner import Runner
from sublet.workload.run.work import Tenant, Work

JOB_ID_BYTES = 6
EXIT_REFUSED = 2
_OUTCOMES = frozenset({"done", "failed", "timeout", "stalled", "cancelled"})
PPM = 1_000_000

Say = Callable[[fact.Fact], None]


class Worker:
    """Runs one lease; what comes of tasks is told, with what they made."""

    def __init__(
        self,
        number: int,
        *,
        tenant: Tenant,
        work: Work,
        cap: int,
        avoid: tuple[Address, ...],
        scratch: Path,
        say: Say,
        supply: Supply | None = None,
    ) -> None:
        """Take what it is; nothing is rented yet.

        Args:
            number: of this worker in its map.
            tenant: who rents.
            work: what all workers of the map have in common.
            cap: micro-USD that it may cost.
            avoid: providers that are not wanted.
            scratch: of the map, for files on their way.
            say: takes facts.
            supply: where its lease comes from; None for an order of its own.
        """
        terms = structs.replace(
            work.terms,
            needs=structs.replace(work.terms.needs, total_max=cap),
            limits=JobLimits(retries=0, wait_ms=work.terms.limits.wait_ms),
        )
        job_id = secrets.token_hex(JOB_ID_BYTES)
        self.work = structs.replace(work, id=job_id, terms=terms)
        self.number = number
        self.answers: dict[int, tuple[WorkerSaid, Path | None]] = {}
        self.note = ""
        self.words = ""  # of its task, about its progress
        self.provider: Address = ""
        self.machine = ""
        self.price_hour = 0
        self._scratch = scratch / f"worker-{number}"
        self._say = say
        self.lease_id: Digest = ""
        self._talking: asyncio.Task[None] | None = None
        self.local_fault: Unavailable | None = None
        job: dict[str, Any] = {"tenant": tenant, "work": self.work}
        job |= {"show": self._hear, "avoided": avoid}
        self._runner = Runner(**job) if supply is None else PieceRunner(supply, **job)
        self.session = TaskSession(
            open_line=lambda: self._runner.open_line(self.lease_id),
            scratch=self._scratch,
            disk_bytes=terms.needs.disk_bytes,
            ready=lambda: say(fact.WorkerReady(**self._here())),
            hear=self._take_answer,
            hear_progress=self._take_progress,
        )

    @property
    def cost(self) -> int:
        """Micro-USD so far."""
        return self._runner.cost

    def stop(self) -> None:
        """Ask for the lease to be stopped and settled; twice is harmless."""
        self._runner.stop()

    def dismiss(self, reason: str) -> None:
        """Stop the lease and sign nothing more for it."""
        fault = PeerFault("its tenant will have nothing more of it", code=reason)
        self._runner.dismiss(fault)

    async def run(self) -> None:
        """Rent, work, settle; tells ``WorkerEnded`` at the end of all.

        Raises:
            Broken: an invariant fell.
        """
        self._scratch.mkdir(parents=True, exist_ok=True)
        outcome, note, cost = "refused", "", 0
        try:
            record = await self._runner.run()
            outcome, note = _explain(record)
            cost = record.job.cost
        except Unavailable as fault:
            outcome, note, cost = "no_supply", fault.message, self.cost
        finally:
            if self._talking is not None:
                self._talking.cancel()
                await asyncio.gather(self._talking, return_exceptions=True)
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._say(
            fact.WorkerEnded(**self._here(), outcome=outcome, cost=cost, note=note)
        )

    async def _hear(self, said: event.AnyEvent) -> None:
        match said:
            case event.Matched():
                self.lease_id = said.lease_id
                self.provider, self.machine = said.provider, said.machine
                self.price_hour = said.price_hour
                self._say(
                    fact.WorkerMatched(
                        **self._here(),
                        provider=said.provider,
                        price_hour=said.price_hour,
                    )
                )
            case event.Running() if self._talking is None:
                self._talking = asyncio.create_task(self._talk())
            case event.Preparing() | event.Waiting() | event.Notified():
                self.note = getattr(said, "text", "") or getattr(said, "message", "")

    async def _talk(self) -> None:
        try:
            await self.session.run()
        except PeerFault as fault:
            self._say(fact.WorkerMisbehaved(**self._here(), reason=fault.code))
        except Unavailable as fault:
            self.local_fault = fault  # this machine's own: the whole map cannot go on
            self._say(fact.StopAsked(at_ms=self._runner.now_ms()))

    def _take_answer(self, said: WorkerSaid, files: Path | None) -> None:
        if said.outcome not in _OUTCOMES:
            self._say(fact.WorkerMisbehaved(**self._here(), reason="nonsense"))
            return
        self.answers[said.task] = (said, files)
        self._say(
            fact.TaskEnded(
                **self._here(),
                task=said.task,
                outcome=said.outcome,
                ran_ms=said.ran_ms,
            )
        )

    def _take_progress(self, said: WorkerSaid) -> None:
        self.words = said.text
        self._say(
            fact.TaskProgressed(
                **self._here(),
                task=said.task,
                share_ppm=int((said.progress or 0) * PPM),
            )
        )

    def _here(self) -> dict[str, Any]:
        return {"at_ms": self._runner.now_ms(), "worker": self.number}


def _explain(record: JobRecord) -> tuple[str, str]:
    """Say how a worker's job ended, in the words of ``core.task``."""
    job = record.job
    if not job.attempts:
        if job.is_stopped:
            return "cancelled", ""
        outcome = "refused" if job.exit_code == EXIT_REFUSED else "no_supply"
        return outcome, printable(job.message)
    return job.attempt.outcome or "stopped", job.attempt.note
