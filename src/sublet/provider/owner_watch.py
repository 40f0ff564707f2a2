"""Keeps the owner's rules while the agent runs: looks, decides, gives the machine back.

Not here: the rules themselves (``core.owner``), what a look is (``adapter.owner_senses``).
"""

import asyncio
from collections.abc import Callable, Sequence

from sublet.adapter.owner_senses import OwnerSenses
from sublet.base.errors import Refused
from sublet.core.gpu_part import find_devices
from sublet.core.owner.rules import Sensed, Stand, decide, explain, judge
from sublet.provider.lease_state import OCCUPYING, Stage
from sublet.provider.owner_file import find_zone
from sublet.provider.runner import LeaseRunner
from sublet.provider.surroundings import Surroundings

LOOK_S = 2.0  # between two looks at the machine
CLOCK_S = 20.0  # between two looks at the clock, where nothing else counts


class OwnerWatch:
    """One provider's."""

    def __init__(
        self,
        around: Surroundings,
        *,
        runners: Callable[[], Sequence[LeaseRunner]],
        hold: Callable[[tuple[str, ...]], None],
        release: Callable[[int], None],
    ) -> None:
        """Take what is watched, and what to do; nothing is opened yet.

        Args:
            around: with the rules, the clock.
            runners: of all leases.
            hold: takes the offer back and gives running leases notice; told why.
            release: offers the machine until then (0: for good); may come again.
        """
        self._around = around
        self._rules = around.config.rules
        self._runners = runners
        self._hold = hold
        self._release = release
        self._zone = find_zone(self._rules.zone)
        self._stand = Stand()
        self._is_decided = False

    def reasons(self) -> tuple[str, ...]:
        """Say why the machine is not on offer now; nothing where the rules hold."""
        if not self._rules.is_any:
            return ()
        now_s = self._around.clock.now_s()
        return explain(self._stand, self._rules, now_s=now_s)

    async def run(self) -> None:
        """Look and decide, for as long as there are rules."""
        if not self._rules.is_any:
            return
        senses = OwnerSenses(self._rules)
        try:
            while True:
                self._take(await asyncio.to_thread(self._look, senses))
                await asyncio.sleep(LOOK_S if self._rules.needs_senses else CLOCK_S)
        finally:
            senses.close()

    def _look(self, senses: OwnerSenses) -> Sensed:
        config = self._around.config
        leased: set[str] = set()
        cpu_ms: dict[str, int] = {}
        for runner in self._runners():
            record = runner.record
            if record.stage in OCCUPYING:
                leased |= set(record.lease.gpu_uuids)
            if self._rules.load_milli and record.stage is Stage.RUNNING:
                cpu_ms[record.lease.id] = _read_cpu_ms(runner)
        return senses.look(
            now_s=self._around.clock.now_s(),
            jobs_cpu_ms=cpu_ms,
            free_gpus=[u for u in config.gpu_uuids if u not in find_devices(leased)],
        )

    def _take(self, sensed: Sensed) -> None:
        config = self._around.config
        judged = judge(self._rules, sensed, zone=self._zone, notice_s=config.notice_s)
        before = self._stand
        self._stand = decide(before, judged, self._rules, now_s=sensed.now_s)
        is_new = not self._is_decided or self._stand.is_open != before.is_open
        self._is_decided = True
        if self._stand.is_open:
            if is_new or self._stand.until_s != before.until_s:
                self._release(self._stand.until_s)
        elif is_new:
            self._hold(explain(self._stand, self._rules, now_s=sensed.now_s))


def _read_cpu_ms(runner: LeaseRunner) -> int:
    try:
        return runner.desk.read_state().cpu_ms
    except Refused:
        return 0
