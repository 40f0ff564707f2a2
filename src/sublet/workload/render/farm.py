"""Runs a job's units on many machines: a map whose workers check each other.

Results come from the map, one by one, and lie on this disk already. Each is tried
(``trials``); what that orders becomes tasks of the same map; a frame whose units are all
settled is finished. Whatever is interrupted goes on from what lies on the disk: the same
results lead to the same orders, and a task that was added before is not added again.

Not here: the rules (``core.render``), the map (``workload.map``), what finishing a frame
is (``finish``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from blake3 import blake3
from msgspec import Struct

from sublet.base.errors import Unavailable
from sublet.base.ids import Digest
from sublet.core.render import look
from sublet.core.render.picture import Picture
from sublet.core.render.unit import Recipe, Unit
from sublet.workload.map.event import TaskProgressed
from sublet.workload.map.result import MapResult, TaskResult
from sublet.workload.map.running import RunningMap
from sublet.workload.render import trials as judging
from sublet.workload.render.pictures import UnitPictures
from sublet.workload.render.trials import Trials

BATCH = 16  # frames that are finished at one time
AVOIDED_MAX = 8  # providers that a task of a map can avoid
NO_PROVIDER = "lost"  # how the map ends a task that nobody may have


Read = Callable[[int], Sequence[tuple[Unit, Picture]] | None]


class Check(Struct, frozen=True):
    """What a task of probes is about."""

    index: int  # of the unit
    pixels: Digest  # of the picture that the probes are of
    units: tuple[Unit, ...]  # the probes


class Finisher(Protocol):
    """Makes of frames' units what the artist gets."""

    async def finish(self, frames: Sequence[int], read: Read) -> dict[int, str]:
        """Join, composite, encode; give the pictures' paths below the output folder.

        Args:
            frames: several at once, for opening a scene costs seconds.
            read: gives the parts of a frame, None where it is not to be finished after
                all; blocks.
        """
        ...


Tell = Callable[[str], Awaitable[None]]


class Farm:
    """One job on its way."""

    def __init__(
        self,
        running: RunningMap,
        *,
        recipe: Recipe,
        units: Sequence[Unit],
        trials: Trials,
        pictures: UnitPictures,
        finisher: Finisher,
        tell: Tell,
    ) -> None:
        """Take the map, not begun yet, and what its results are given to."""
        self._running = running
        self._recipe = recipe
        self._units = units
        self._trials = trials
        self._pictures = pictures
        self._finisher = finisher
        self._tell = tell
        self._checks: dict[int, Check] = {}  # tasks of probes, by their number
        self._known: set[str] = set()  # ids of such tasks
        self._results: dict[int, TaskResult] = {}  # of units, by index
        self._failed: dict[int, TaskResult] = {}
        self._open_checks: set[int] = set()
        self._done: dict[int, str] = {}  # frames, and where their pictures are
        self._ready: dict[int, None] = {}  # frames that wait to be finished, in order
        self._wake = asyncio.Event()
        self._is_closing = False
        self._frames: dict[int, list[int]] = {}
        for index, unit in enumerate(units):
            self._frames.setdefault(unit.frame, []).append(index)

    async def run(self) -> MapResult:
        """Render, check and finish everything.

        Raises:
            Unavailable: this machine could not keep a result, or finish a frame.
            Refused: the folder's tasks changed meanwhile.
        """
        for number, name, task in await asyncio.to_thread(
            list, self._running.read_added()
        ):
            units = msgspec.convert(task.data["units"], tuple[Unit, ...])
            self._note_check(number, name, units)
        finishing = asyncio.create_task(self._keep_finishing())
        finishing.add_done_callback(lambda task: self._running.stop())
        try:
            async for result in self._running:
                for one in await asyncio.to_thread(self._judge, result):
                    await self._obey(one)
                self._note_ready(self._find_index(result))
                if self._is_over():
                    self._running.close_tasks()
            self._is_closing = True
            self._wake.set()
            await finishing
        finally:
            finishing.cancel()
            await asyncio.gather(finishing, return_exceptions=True)
        return await self._running.result()

    # ---- results ----------------------------------------------------------------------

    def _judge(self, result: TaskResult) -> list[judging.Order]:
        check = self._checks.get(result.number)
        if check is None:
            return self._judge_unit(result)
        self._open_checks.discard(result.number)
        if result.outcome == NO_PROVIDER:
            return self._trials.take_nobody(check.index, pixels=check.pixels)
        reports = None
        if result.is_done:
            reports = self._pictures.take_check(check.index, check.units, result)
        return self._trials.take_check(
            check.index,
            pixels=check.pixels,
            provider=result.provider,
            reports=reports,
        )

    def _judge_unit(self, result: TaskResult) -> list[judging.Order]:
        index = result.number
        if not result.is_done:
            self._failed[index] = result
            return []
        self._failed.pop(index, None)
        self._results[index] = result
        arrived = self._pictures.take_unit(index, result)
        return self._trials.take_unit(
            index,
            provider=result.provider,
            report=arrived.report,
            picture=arrived.picture,
            took_s=result.ran_ms / 1_000,
        )

    async def _obey(self, one: judging.Order) -> None:
        match one:
            case judging.Ask():
                await self._ask(one)
            case judging.Again():
                self._results.pop(one.index, None)
                self._done.pop(self._units[one.index].frame, None)
                await self._running.redo([one.index])
            case judging.Dismiss():
                await self._tell(
                    f"{one.provider} is caught: {one.reason}; it gets no more work and "
                    "no more money, and what nobody else bore out is rendered again"
                )
                await self._running.dismiss(one.provider, reason="caught")
            case judging.Accuse():
                await self._accuse(one.index)

    async def _accuse(self, index: int) -> None:
        trial = self._trials.find(index)
        if trial is not None:
            await self._tell(
                f"unit {name_unit(trial.unit)}: {trial.phase}: {trial.reason}"
            )

    async def _ask(self, one: judging.Ask) -> None:
        name = name_check(one)
        if name in self._known:
            return  # it was asked before an interruption
        data = {"recipe": self._recipe, "units": one.units}
        item = {"id": name, "data": msgspec.to_builtins(data)}
        (number,) = await self._running.add(
            [item], avoid=one.avoid[:AVOIDED_MAX], is_urgent=True
        )
        self._note_check(number, name, one.units)

    def _note_check(self, number: int, name: str, units: tuple[Unit, ...]) -> None:
        _, index, pixels, _ = name.split("-")
        self._checks[number] = Check(int(index), "0x" + pixels, units)
        self._known.add(name)
        self._open_checks.add(number)

    # ---- frames -----------------------------------------------------------------------

    def _find_index(self, result: TaskResult) -> int:
        check = self._checks.get(result.number)
        return result.number if check is None else check.index

    def _note_ready(self, index: int) -> None:
        """See whether the frame that a unit belongs to can be finished now."""
        frame = self._units[index].frame
        if frame not in self._done and self._is_settled(frame):
            self._ready[frame] = None
            self._wake.set()

    def _is_settled(self, frame: int) -> bool:
        return all(map(self._trials.is_settled, self._frames[frame]))

    async def _keep_finishing(self) -> None:
        """Finish what is ready, as much of it at once as has gathered meanwhile."""
        while not self._is_closing or self._ready:
            await self._wake.wait()
            self._wake.clear()
            while batch := list(self._ready)[:BATCH]:
                for frame in batch:
                    del self._ready[frame]
                done = await self._finisher.finish(batch, self._read_parts)
                for frame, place in done.items():
                    if self._is_settled(frame):  # else a liar was caught meanwhile
                        self._done[frame] = place

    def _read_parts(self, frame: int) -> Sequence[tuple[Unit, Picture]] | None:
        """Read a frame's pictures; None where a liar's was taken away meanwhile."""
        try:
            return [
                (self._units[index], self._pictures.read_unit(index))
                for index in self._frames[frame]
            ]
        except Unavailable:
            if self._is_settled(frame):
                raise
            return None

    def _is_over(self) -> bool:
        """Say whether nothing is left to be rendered or checked."""
        if self._open_checks or len(self._results) + len(self._failed) < len(
            self._units
        ):
            return False
        return all(
            index in self._failed or self._trials.is_settled(index)
            for index in range(len(self._units))
        )

    # ---- for people -------------------------------------------------------------------

    @property
    def frames_done(self) -> tuple[int, ...]:
        """Name the frames that are finished."""
        return tuple(sorted(self._done))

    def look_at_frames(
        self, progress: Mapping[int, TaskProgressed]
    ) -> tuple[look.FrameLook, ...]:
        """Say how each frame stands.

        Args:
            progress: of tasks that run, by their numbers.
        """
        return tuple(
            self._look_at(frame, indices, progress)
            for frame, indices in self._frames.items()
        )

    def _look_at(
        self,
        frame: int,
        indices: Sequence[int],
        progress: Mapping[int, TaskProgressed],
    ) -> look.FrameLook:
        units = tuple(
            self._look_at_unit(index, progress.get(index)) for index in indices
        )
        return look.FrameLook(
            frame=frame,
            state=look.find_state(units),
            units=units,
            picture=self._done.get(frame, ""),
            seconds=sum(unit.took_ms for unit in units) / 1_000,
        )

    def _look_at_unit(
        self, index: int, running: TaskProgressed | None
    ) -> look.UnitLook:
        name = name_unit(self._units[index])
        result, trial = self._results.get(index), self._trials.find(index)
        if index in self._failed:
            return look.UnitLook(name, look.FAILED, finding=self._failed[index].note)
        if result is None or trial is None:
            if running is None:
                return look.UnitLook(name, look.WAITING)
            milli = round(1_000 * running.share)
            return look.UnitLook(
                name, look.RUNNING, provider=running.provider, progress_milli=milli
            )
        is_settled = self._trials.is_settled(index)
        return look.UnitLook(
            name,
            look.DONE if is_settled else look.CHECKING,
            provider=trial.worker,
            device=trial.kernel,
            took_ms=result.ran_ms,
            checked_by=trial.arbiter or trial.checker,
            finding=trial.reason or trial.phase.value,
            attempts=result.attempts,
        )


def name_check(one: judging.Ask) -> str:
    """Give the id of a task of probes: of which picture, and not by whom."""
    avoided = blake3(" ".join(sorted(one.avoid)).encode()).hexdigest(4)
    return f"check-{one.index}-{one.pixels[2:]}-{avoided}"


def name_unit(unit: Unit) -> str:
    """Give a unit's id, as files and people have it.

    >>> name_unit(Unit(7))
    'f000007'
    """
    parts = [f"f{unit.frame:06d}" if unit.frame >= 0 else f"m{-unit.frame:06d}"]
    if unit.tile is not None:
        tile = unit.tile
        parts.append(f"{tile.left}.{tile.top}.{tile.right}.{tile.bottom}")
    if unit.samples is not None:
        parts.append(f"s{unit.samples.first}.{unit.samples.count}")
    return "-".join(parts)
