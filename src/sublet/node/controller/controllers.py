"""Looks after detached jobs: each has one pilot, in one node, and gets another.

Whatever is under way and held by nobody is claimed by the first node that sees it: one
whose pilot fell, whose node went down, or whose node stood still for too long.

Not here: one job (``pilot``), HTTP (``detached``).
"""

import asyncio
import os
import secrets
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sublet.adapter.home_folder import Home
from sublet.base import limits
from sublet.base.errors import SubletError, Unavailable
from sublet.base.ids import Address
from sublet.core.document import Market
from sublet.node.controller.claim import Claim
from sublet.node.controller.keys import ControllerKeys
from sublet.node.controller.ledger import Ledger
from sublet.node.controller.pilot import Pilot
from sublet.node.journal import Journal
from sublet.node.race import race
from sublet.sdk.connection import Connection
from sublet.service.ports import Clock
from sublet.service.vault_port import ClaimLost, JobVault, Standing, Vault
from sublet.wire.codec import decode
from sublet.wire.detached import DetachedPlan

LOOK_S = 1.0  # between two looks for jobs that nobody looks after
CLAIM_MS = 10_000  # a job whose node is gone is claimed by another after so long
RENEW_S = 2.0
WATCH_S = 0.5  # between two looks whether a claim ran out
MEASURE_MS = 5_000  # between two looks at how much all jobs hold
AGAIN_S = 3.0  # before a pilot that fell is started again
KEPT_S = 7 * 86_400  # after its end, for the tenant to fetch what came out
UNSTARTED_S = 86_400  # after the plan, for the tenant to bring what belongs to it


@dataclass(slots=True)
class Flight:
    """One job in this node's hands."""

    job: JobVault
    claim: Claim
    task: asyncio.Task[None] | None = None
    pilot: Pilot | None = None
    is_stopped: bool = False
    is_over: bool = False  # nothing is done under this claim any more

    def stop(self) -> None:
        """Have the job stopped and settled; twice is harmless."""
        if self.pilot is not None and not self.is_stopped:
            self.is_stopped = True
            self.pilot.stop()


class Controllers:
    """The pilots of one node."""

    def __init__(
        self,
        vault: Vault,
        keys: ControllerKeys,
        *,
        scratch: Path,
        bytes_max: int,
        market: Market,
        clock: Clock,
        journal: Journal,
    ) -> None:
        """Take where jobs are kept, how much of them, and a folder of its own."""
        self.vault = vault
        self.keys = keys
        self.holder = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._scratch = scratch
        self._bytes_max = bytes_max
        self._measured = (-MEASURE_MS, 0)  # when, and what all jobs held then
        self._market = market
        self._clock = clock
        self._journal = journal
        self._flights: dict[tuple[Address, str], Flight] = {}
        self._due = asyncio.Event()

    async def run(self, url: str) -> None:
        """Fly every job that is under way and nobody's, until cancelled.

        Args:
            url: of this node, or of any node of the market.
        """
        self._sweep()
        try:
            await race(self._look_after_all(url), self._renew(), self._watch_claims())
        finally:
            tasks = [one.task for one in self._flights.values() if one.task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._sweep()

    def wake(self) -> None:
        """Look for work now: a job was started, or is to stop."""
        self._due.set()

    async def check_room(self, more: int) -> None:
        """Look whether tenants may leave so many bytes more.

        Raises:
            Unavailable: all jobs together hold too much.
        """
        at_ms, kept = self._measured
        if self._clock.monotonic_ms() - at_ms >= MEASURE_MS:
            at_ms = self._clock.monotonic_ms()
            kept = await asyncio.to_thread(self.vault.measure)
        if kept + more > self._bytes_max:
            raise Unavailable(
                "this market holds as much of detached jobs as its operator lets it; try "
                "again later, bring less, or stay: sublet run without --detach",
                code="vault_full",
                retry_after_s=60,
            )
        self._measured = (at_ms, kept + more)

    def _sweep(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    # ---- all jobs -------------------------------------------------------------------

    async def _look_after_all(self, url: str) -> None:
        while True:
            try:
                for stands in await asyncio.to_thread(self.vault.survey):
                    await self._look_at(stands, url)
            except Unavailable as fault:
                self._journal.warning("jobs_unavailable", why=fault.message)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._due.wait()
            self._due.clear()

    async def _look_at(self, stands: Standing, url: str) -> None:
        name = (stands.tenant, stands.id)
        flight = self._flights.get(name)
        if flight is not None:
            if stands.stopped_at_s:
                flight.stop()
            return
        job = self.vault.find(*name)
        if self._is_stale(stands):
            await asyncio.to_thread(job.drop)
        elif stands.started_at_s and not stands.ended_at_s and not stands.is_held:
            claim = await self._claim(job)
            if claim is not None:
                flight = self._flights[name] = Flight(job, claim)
                flight.task = asyncio.create_task(self._fly(flight, url))

    def _is_stale(self, stands: Standing) -> bool:
        now_s = self._clock.now_s()
        if not stands.started_at_s:
            return now_s > stands.kept_at_s + UNSTARTED_S
        return bool(stands.ended_at_s) and now_s > stands.ended_at_s + KEPT_S

    # ---- claims ---------------------------------------------------------------------

    async def _claim(self, job: JobVault) -> Claim | None:
        since_ms = self._clock.monotonic_ms()
        epoch = await asyncio.to_thread(job.claim, self.holder, span_ms=CLAIM_MS)
        if epoch is None:
            return None  # another node was first
        self._journal.info("job_claimed", job=job.id, tenant=job.tenant, epoch=epoch)
        return Claim(
            epoch,
            since_ms=self._clock.monotonic_ms(),
            until_ms=since_ms + CLAIM_MS,
            clock=self._clock,
        )

    async def _renew(self) -> None:
        while True:
            asked_ms = self._clock.monotonic_ms()
            try:
                held = await asyncio.to_thread(
                    self.vault.renew, self.holder, span_ms=CLAIM_MS
                )
            except Unavailable as fault:
                self._journal.warning("jobs_unavailable", why=fault.message)
            else:
                for name, flight in self._flights.items():
                    if name in held:
                        flight.claim.extend(asked_ms + CLAIM_MS)
                    elif flight.claim.since_ms < asked_ms:
                        flight.claim.lose()
            await asyncio.sleep(RENEW_S)

    async def _watch_claims(self) -> None:
        """Stop at once what may be another node's; also while the vault is silent."""
        while True:
            for flight in self._flights.values():
                if flight.claim.is_lost and flight.task and not flight.is_over:
                    flight.is_over = True
                    flight.task.cancel()
                    self._journal.warning(
                        "claim_lost", job=flight.job.id, epoch=flight.claim.epoch
                    )
            await asyncio.sleep(WATCH_S)

    # ---- one job --------------------------------------------------------------------

    async def _fly(self, flight: Flight, url: str) -> None:
        """Fly one job until it is over, or this pilot is."""
        job, pause_s = flight.job, AGAIN_S
        try:
            await self._run_pilot(flight, url)
            pause_s = 0.0
        except ClaimLost:
            self._journal.warning("claim_lost", job=job.id, epoch=flight.claim.epoch)
        except SubletError as fault:
            self._journal.warning("pilot_fell", job=job.id, why=fault.message)
        except Exception:  # noqa: BLE001
            # The supervisor: one job that breaks does not take the others along.
            self._journal.error("pilot_broke", job=job.id)
        finally:
            flight.is_over = True
            with suppress(Unavailable):
                await asyncio.to_thread(job.release, epoch=flight.claim.epoch)
            await asyncio.sleep(pause_s)  # before it is claimed here again
            del self._flights[job.tenant, job.id]

    async def _run_pilot(self, flight: Flight, url: str) -> None:
        job = flight.job
        raw = await asyncio.to_thread(job.read_plan)
        if raw is None:
            return  # dropped in between
        plan = decode(raw, DetachedPlan, size_max=limits.REQUEST_BYTES_MAX)
        ledger = await asyncio.to_thread(Ledger, job, flight.claim)
        connection = Connection(
            url,
            key=self.keys.delegate(job.tenant, job.id),
            clock=self._clock,
            market=self._market,
        )
        async with connection:
            flight.pilot = Pilot(
                plan,
                ledger,
                home=Home(self._scratch / f"{job.tenant}-{job.id}"),
                connection=connection,
                clock=self._clock,
                key=self.keys.ssh(job.tenant, job.id),
            )
            record = await flight.pilot.run()
            await ledger.change(job=record.job)
            await ledger.end()
