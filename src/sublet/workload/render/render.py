"""``sublet render`` as a program calls it: prepare, quote, start, wait.

    DIR/frames/0001.png, .exr      what the artist gets
    DIR/video.mp4, DIR/sheet.jpg   of all frames
    DIR/.work/                     what an interrupted render goes on from

Not here: what is asked (``wish``), the plan and its price (``job``), the run (``farm``).
"""

import asyncio
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs

from sublet.adapter import private_file
from sublet.base.errors import Refused, Unavailable
from sublet.base.ids import Address, Digest
from sublet.core.render.frames import pick_previews
from sublet.core.render.look import RenderLook, guess_left
from sublet.core.render.money import RenderQuote
from sublet.core.render.probe import SALT_BYTES
from sublet.core.render.unit import Unit, compute_settings
from sublet.wire.message import Quote
from sublet.workload.client import AsyncClient
from sublet.workload.map import event
from sublet.workload.map.plan import PARALLEL
from sublet.workload.map.result import MapResult
from sublet.workload.map.running import RunningMap
from sublet.workload.render.box import read_programs
from sublet.workload.render.farm import Farm, Tell, name_unit
from sublet.workload.render.finish import Finish
from sublet.workload.render.job import (
    TOY,
    Plan,
    find_bytes_max,
    look_at,
    make_plan,
    price,
)
from sublet.workload.render.pictures import UnitPictures
from sublet.workload.render.posting import PostWish
from sublet.workload.render.trials import NEVER, Trials
from sublet.workload.render.wish import Asked, RenderWish, parse_wish

PREVIEW_WIDTH = 640  # pixels
PREVIEW_SHARE = 8  # of the samples, that a preview has
STALL = "5m"
# Of a machine that renders with Blender, where the person says nothing.
NEEDS = {"memory": "3GiB", "disk": "6GiB"}
TOY_NEEDS = {"memory": "512MiB", "disk": "1GiB"}
PACKAGES = {"toy": ("numpy>=1.26,<3",)}
SPEED_MILLI = 1_000  # of a machine that nobody has measured against this one
ENTRY = "serve.py"

Show = Callable[[event.AnyEvent], Awaitable[None]]


class RenderResult(Struct, frozen=True):
    """A whole render. Money in micro-USD."""

    outcome: str  # as of a map: done, failed, stopped, budget, no_supply …
    message: str
    frames: int
    frames_done: int
    units: int
    units_checked: int
    dismissed: dict[Address, str]  # providers that were caught, and at what
    cost: int
    cost_before: int
    folder: str
    video: str = ""
    sheet: str = ""


class RenderJob:
    """A render that is ready to begin; ``prepare_render`` makes one."""

    def __init__(
        self,
        client: AsyncClient,
        *,
        asked: Asked,
        plan: Plan,
        options: Mapping[str, Any],
        tell: Tell,
        is_preview: bool = False,
    ) -> None:
        """Take who pays, what, and what each machine needs."""
        self.is_preview = is_preview
        self.asked = asked
        self.plan = plan
        self._client = client
        self.options = dict(options)
        self._tell = tell

    @property
    def machines(self) -> int:
        """How many are rented at one time."""
        return int(self.options.get("parallel", PARALLEL))

    async def quote(self) -> tuple[RenderQuote | None, Quote]:
        """Say what it will cost, and by which machine; nothing is rented.

        None for the price where no machine fits now: the market's answer says why.

        Raises:
            Unavailable: the market does not answer.
        """
        names = ("parallel", "stall", "mode", "wait", "lease", "retries")
        needs = {
            name: value for name, value in self.options.items() if name not in names
        }
        found = await self._client.quote(**needs)
        if found.fault is not None:
            return None, found
        order = self._client.draft_order(**needs)
        priced = price(
            self.plan,
            price_hour=found.price_hour,
            speed_milli=SPEED_MILLI,
            cap=order.total_max,
            check_milli=self.asked.check_milli,
            machines=self.machines,
        )
        return priced, found

    def make_preview(self) -> "RenderJob":
        """Give a render of some frames with few samples, into a folder of its own."""
        recipe = self.plan.recipe
        asked = structs.replace(
            self.asked,
            output=self.asked.output / "preview",
            check_milli=NEVER,
            video="",
        )
        frames = pick_previews(self.plan.frames, every=self.asked.preview_every)
        plan = structs.replace(
            self.plan,
            recipe=structs.replace(
                recipe, samples=max(1, recipe.samples // PREVIEW_SHARE)
            ),
            frames=frames,
            units=tuple(Unit(frame=frame) for frame in frames),
        )
        return RenderJob(
            self._client,
            asked=asked,
            plan=plan,
            options=self.options,
            tell=self._tell,
            is_preview=True,
        )

    @property
    def post(self) -> PostWish:
        """What is made of each joined frame."""
        recipe = self.plan.recipe
        return PostWish(
            width=recipe.width,
            height=recipe.height,
            has_exr=not self.is_preview,
            has_png=not self.is_preview,
            preview_width=PREVIEW_WIDTH if self.is_preview else 0,
            has_watermark=self.asked.watermark,
            has_scripts=self.asked.scripts,
        )

    async def start(self, *, show: Show) -> "RunningRender":
        """Make everything ready to run; machines are rented when it is waited for.

        Raises:
            Refused: the folder holds another render, or its money is used up.
            Unavailable: the disk or the market do not answer.
        """
        work = self.asked.output / ".work"
        kept = await asyncio.to_thread(_open_work, work, self.asked, self.plan)
        self.plan = structs.replace(self.plan, units=kept.units)
        stage = await asyncio.to_thread(_stage, work, self.plan.recipe.build)
        listener = _Listener(show)
        running = await self._client.start_map(
            str(stage),
            tasks=self._list_tasks(),
            results=work / "map",
            on_event=listener.hear,
            sources=self.plan.scene.sources,
            is_warm=True,
            is_open=True,
            **self.options,
        )
        return RunningRender(
            self, running, salt=kept.salt, listener=listener, tell=self._tell
        )

    def _list_tasks(self) -> list[dict[str, Any]]:
        recipe = msgspec.to_builtins(self.plan.recipe)
        return [
            {
                "id": name_unit(unit),
                "data": {"recipe": recipe, "unit": msgspec.to_builtins(unit)},
            }
            for unit in self.plan.units
        ]


class RunningRender:
    """A render on its way."""

    def __init__(
        self,
        job: RenderJob,
        running: RunningMap,
        *,
        salt: bytes,
        listener: "_Listener",
        tell: Tell,
    ) -> None:
        """Take what runs; use ``RenderJob.start``."""
        self.job = job
        self._running = running
        self._listener = listener
        plan, asked = job.plan, job.asked
        pictures = UnitPictures(running.folder, recipe=plan.recipe, units=plan.units)
        self._trials = Trials(
            recipe=plan.recipe,
            units=plan.units,
            salt=salt,
            check_milli=asked.check_milli,
            pictures=pictures,
        )
        recipe = plan.recipe
        self._finish = Finish(
            asked.output,
            recipe=recipe,
            project=plan.scene.project,
            wish=job.post,
        )
        self._farm = Farm(
            running,
            recipe=recipe,
            units=plan.units,
            trials=self._trials,
            pictures=pictures,
            finisher=self._finish,
            tell=tell,
        )
        self._state = "running"

    def stop(self) -> None:
        """Ask for all machines to be stopped and settled; what is there stays."""
        self._running.stop()

    def workers(self) -> list[str]:
        """Say what each machine does, one line each."""
        return self._running.workers()

    def look(self) -> RenderLook:
        """Say how it stands."""
        outlook = self._running.look()
        frames = self._farm.look_at_frames(self._listener.progress)
        units = [unit for frame in frames for unit in frame.units]
        took_ms = [unit.took_ms for unit in units if unit.took_ms]
        left = sum(not unit.took_ms for unit in units)
        likely, low, high = guess_left(took_ms, left=left, machines=outlook.workers)
        return RenderLook(
            scene=self.job.asked.scene.name,
            state=self._state,
            frames=frames,
            units=len(units),
            units_done=len(took_ms),
            units_checked=self._trials.checked,
            machines=outlook.workers,
            cost=outlook.cost,
            cost_likely=max(outlook.cost, outlook.cost_expected),
            left_ms=likely,
            left_low_ms=low,
            left_high_ms=high,
            at_s=int(time.time()),
            notes=tuple(
                f"{provider} was caught: {reason}"
                for provider, reason in self._trials.dismissed.items()
            ),
        )

    async def result(self) -> RenderResult:
        """Wait for the end; then film it.

        Raises:
            Unavailable: this machine could not keep a result or finish a frame.
        """
        try:
            ended = await self._farm.run()
        finally:
            await self._running.close()
        done = self._farm.frames_done
        # A check that nobody could do is a task that failed, and no frame that did.
        if len(done) == len(self.job.plan.frames):
            ended = structs.replace(ended, outcome="done", message="")
        video = sheet = None
        if ended.outcome == "done":
            video, sheet = await self._finish.film(
                done,
                fps=self.job.plan.fps,
                has_video=bool(self.job.asked.video),
                folder=self.job.asked.output,
            )
        self._state = ended.outcome
        return self._sum_up(ended, done=len(done), video=video, sheet=sheet)

    def _sum_up(
        self, ended: MapResult, *, done: int, video: Path | None, sheet: Path | None
    ) -> RenderResult:
        return RenderResult(
            outcome=ended.outcome,
            message=ended.message,
            frames=len(self.job.plan.frames),
            frames_done=done,
            units=len(self.job.plan.units),
            units_checked=self._trials.checked,
            dismissed=dict(self._trials.dismissed),
            cost=ended.cost,
            cost_before=ended.cost_before,
            folder=str(self.job.asked.output),
            video=str(video or ""),
            sheet=str(sheet or ""),
        )


async def prepare_render(
    client: AsyncClient,
    wish: RenderWish,
    *,
    options: Mapping[str, Any],
    tell: Tell,
    is_measured: bool = True,
) -> RenderJob:
    """Look at a scene, cut it into units, and make it ready to be quoted and begun.

    Args:
        client: of the tenant.
        wish: what is asked for.
        options: of each machine, and how many; as ``start_map`` takes them.
        tell: told what takes time.
        is_measured: render a little here first, to say how long it will take.

    Raises:
        Faults: all that is wrong, before anything is rented.
        Unavailable: no Blender or no sandbox here, or the disk does not answer.
    """
    asked = parse_wish(wish)
    is_toy = asked.scene.suffix.lower() == TOY
    given = {**(TOY_NEEDS if is_toy else NEEDS), "stall": STALL, **options}
    if asked.device != "cpu":
        given.setdefault("gpu", "1")
    work = asked.output / ".work"
    await asyncio.to_thread(work.mkdir, parents=True, exist_ok=True)
    if not is_toy:
        await tell(f"looking at {asked.scene.name}, in a sandbox")
    scene = await look_at(
        asked, work=work, bytes_max=find_bytes_max(given, NEEDS["disk"])
    )
    for warning in scene.warnings:
        await tell(warning)
    if is_measured and not is_toy:
        await tell("rendering a little of it here, to say how long it takes")
    plan = await make_plan(
        asked,
        scene,
        machines=int(given.get("parallel", PARALLEL)),
        is_measured=is_measured,
    )
    return RenderJob(client, asked=asked, plan=plan, options=given, tell=tell)


class _Listener:
    """Hears the map's events, and remembers how far each task is."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self.progress: dict[int, event.TaskProgressed] = {}

    async def hear(self, said: event.AnyEvent) -> None:
        """Take an event."""
        if isinstance(said, event.TaskProgressed):
            self.progress[said.number] = said
        elif isinstance(said, event.TaskKept):
            self.progress.pop(said.result.number, None)
        await self._show(said)


class Kept(Struct, frozen=True):
    """What a render that goes on has to have as it was."""

    settings: Digest  # of the recipe
    frames: tuple[int, ...]
    tiles: tuple[int, int] | None  # as the artist asked
    units: tuple[Unit, ...]  # chosen by a pace that is measured anew each time
    salt: bytes  # that probes are drawn with; secret until then


def _open_work(work: Path, asked: Asked, plan: Plan) -> Kept:
    """Take hold of a job's folder; give what is kept there, or keep it from now on.

    Raises:
        Refused: it holds another render, or is damaged.
    """
    work.mkdir(parents=True, exist_ok=True)
    place = work / "job"
    fresh = Kept(
        settings=compute_settings(plan.recipe),
        frames=plan.frames,
        tiles=asked.tiles,
        units=plan.units,
        salt=secrets.token_bytes(SALT_BYTES),
    )
    if not place.exists():
        private_file.write(place, msgspec.json.encode(fresh))
        return fresh
    try:
        kept = msgspec.json.decode(place.read_bytes(), type=Kept)
    except msgspec.MsgspecError as error:
        raise _other_render(work, "something that no render has left") from error
    wanted = fresh.settings, fresh.frames, fresh.tiles
    if (kept.settings, kept.frames, kept.tiles) != wanted:
        raise _other_render(work, "another render (another scene, frames or settings)")
    return kept


def _other_render(work: Path, what: str) -> Refused:
    return Refused(
        f"--output: {work.parent} holds {what}; name another folder, or remove that one",
        code="other_render",
        field="--output",
    )


def _stage(work: Path, build: str) -> Path:
    """Lay out the program that workers run: a folder with a ``__main__.py``."""
    stage = work / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    try:
        for name, text in read_programs().items():
            if name == ENTRY:
                name, text = "__main__.py", text + _write_metadata(build)
            (stage / name).write_text(text, "utf-8")
    except OSError as error:
        raise Unavailable(
            f"cannot write into {stage}: {error.strerror}", code="disk_failed"
        ) from error
    return stage


def _write_metadata(build: str) -> str:
    """Say which Blender the program needs, as PEP 723 has it."""
    kind, version, *_ = build.split()
    packages = PACKAGES.get(kind, (f"bpy=={version}",))
    names = ", ".join(f'"{one}"' for one in packages)
    return f"\n\n# /// script\n# dependencies = [{names}]\n# ///\n"
