"""Looks after all detached jobs of this node: each has one pilot, and gets another.

A pilot that falls is started again from what is on the disk; so is every job that was
under way when the node went down. Not here: one job (``pilot``), HTTP (``detached``).
"""

import asyncio

from sublet.adapter.home_folder import Home
from sublet.adapter.vault_folder import FolderVault, JobVault
from sublet.base.errors import SubletError
from sublet.base.ids import Address
from sublet.core.document import Market
from sublet.core.job.state import JobPhase
from sublet.node.controller.keys import ControllerKeys
from sublet.node.controller.pilot import (
    PLAN_FILE,
    DetachedState,
    Ledger,
    Pilot,
)
from sublet.node.journal import Journal
from sublet.sdk.connection import Connection
from sublet.service.ports import Clock
from sublet.wire.detached import DetachedPlan

LOOK_S = 1.0  # between two looks for jobs that nobody looks after
AGAIN_S = 3.0  # before a pilot that fell is started again
KEPT_S = 7 * 86_400  # after its end, for the tenant to fetch what came out
UNSTARTED_S = 86_400  # after the plan, for the tenant to bring what belongs to it


class Controllers:
    """The pilots of one node."""

    def __init__(
        self,
        vault: FolderVault,
        keys: ControllerKeys,
        *,
        market: Market,
        clock: Clock,
        journal: Journal,
    ) -> None:
        """Take where jobs are kept, and the keys; nothing flies yet."""
        self.vault = vault
        self.keys = keys
        self._market = market
        self._clock = clock
        self._journal = journal
        self._pilots: dict[str, Pilot] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._due = asyncio.Event()

    async def run(self, url: str) -> None:
        """Fly every job that is under way, until cancelled.

        Args:
            url: of this node, or of any node of the market.
        """
        try:
            while True:
                for owner, vault in await asyncio.to_thread(
                    lambda: list(self.vault.jobs())
                ):
                    await self._look_at(owner, vault, url)
                self._due.clear()
                try:
                    async with asyncio.timeout(LOOK_S):
                        await self._due.wait()
                except TimeoutError:
                    continue
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def ledger(self, vault: JobVault) -> Ledger:
        """Give the one ledger of a job in this process."""
        name = vault.path.name
        if name not in self._ledgers:
            self._ledgers[name] = Ledger(vault)
        return self._ledgers[name]

    def wake(self) -> None:
        """Look for work now: a job was started."""
        self._due.set()

    def ask_stop(self, vault: JobVault, job: str) -> None:
        """Stop a job: its pilot now, or the next one at once; it settles and ends."""
        Home(vault.home).ask_stop(job)
        if vault.path.name in self._pilots:
            self._pilots[vault.path.name].stop()

    async def forget(self, vault: JobVault) -> None:
        """Drop a job and everything of it."""
        name = vault.path.name
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._ledgers.pop(name, None)
        await asyncio.to_thread(vault.drop)

    # ---- one job --------------------------------------------------------------------

    async def _look_at(self, owner: Address, vault: JobVault, url: str) -> None:
        name = vault.path.name
        if name in self._tasks and not self._tasks[name].done():
            return
        try:
            plan = await asyncio.to_thread(vault.read, PLAN_FILE, DetachedPlan)
            state = self.ledger(vault).state
        except SubletError as fault:
            self._journal.warning("job_damaged", job=name, why=fault.message)
            return
        if plan is None or self._is_stale(plan, state):
            await self.forget(vault)
        elif state.is_started and not _is_over(state):
            self._tasks[name] = asyncio.create_task(self._fly(owner, vault, plan, url))

    def _is_stale(self, plan: DetachedPlan, state: DetachedState) -> bool:
        now_s = self._clock.now_s()
        if not state.is_started:
            return now_s > plan.order.signed_at_s + UNSTARTED_S
        return _is_over(state) and now_s > state.ended_at_s + KEPT_S

    async def _fly(
        self, owner: Address, vault: JobVault, plan: DetachedPlan, url: str
    ) -> None:
        name, ledger = vault.path.name, self.ledger(vault)
        connection = Connection(
            url,
            key=self.keys.delegate(owner, plan.id),
            clock=self._clock,
            market=self._market,
        )
        try:
            async with connection:
                pilot = Pilot(
                    plan,
                    ledger,
                    connection=connection,
                    clock=self._clock,
                    key=self.keys.ssh(owner, plan.id),
                )
                self._pilots[name] = pilot
                record = await pilot.run()
                await ledger.change(job=record.job, ended_at_s=self._clock.now_s())
        except SubletError as fault:
            self._journal.warning("pilot_fell", job=name, why=fault.message)
            await asyncio.sleep(AGAIN_S)
        except Exception:  # noqa: BLE001
            # The supervisor: one job that breaks does not take the others along.
            self._journal.error("pilot_broke", job=name)
            await asyncio.sleep(AGAIN_S)
        finally:
            self._pilots.pop(name, None)


def _is_over(state: DetachedState) -> bool:
    return (
        state.job is not None
        and state.job.phase is JobPhase.FINISHED
        and bool(state.ended_at_s)
    )
