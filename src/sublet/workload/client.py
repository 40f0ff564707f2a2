"""The Python API: ``AsyncClient``, and ``Client`` for programs that do not await.

>>> import sublet
>>> with sublet.Client() as client:                                # doctest: +SKIP
...     result = client.run("train.py", gpu="h200:1", outputs=["model/"])
...     print(result.exit_code, result.cost, result.outputs)

Options have the names and the texts of the command line: ``memory="4GiB"``,
``max_total="2.50"``, ``timeout="2h"``. Errors are those of ``sublet.base.errors``.
"""

import asyncio
import os
import secrets
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack, cast

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.adapter.clock_system import SystemClock
from sublet.adapter.home_folder import Home
from sublet.adapter.key_file import load_or_create_key
from sublet.base.errors import SubletError, Unavailable
from sublet.base.ids import Digest
from sublet.core.document import Order
from sublet.core.job.record import JobRecord
from sublet.core.lease.phase import Lease
from sublet.sdk.connection import Connection
from sublet.sdk.nodes import parse_urls
from sublet.wire.message import Account, MarketInfo, OfferRow, Quote, Tree
from sublet.wire.typed_data import market_id
from sublet.workload.map.event import AnyEvent as AnyMapEvent
from sublet.workload.map.plan import MapWish
from sublet.workload.map.result import TaskResult, in_order
from sublet.workload.map.running import RunningMap, begin_map
from sublet.workload.option import MapOptions, Needed, Options, Quoted
from sublet.workload.run import survey
from sublet.workload.run.contract import make_order
from sublet.workload.run.event import AnyEvent
from sublet.workload.run.gang import part_work
from sublet.workload.run.need import parse_needs
from sublet.workload.run.plan import find_paths, parse_program
from sublet.workload.run.result import JobResult
from sublet.workload.run.running import RunningJob, begin_job
from sublet.workload.run.state import find_state
from sublet.workload.run.term import parse_terms
from sublet.workload.run.wish import Collector, Wish
from sublet.workload.run.work import Tenant, Work

JOB_ID_BYTES = 6
DEFAULT_HOME = Path("~/.sublet")
NO_KEY_LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"  # a quote admits nobody

OnEvent = Callable[[AnyEvent], Awaitable[None] | None]
OnMapEvent = Callable[[AnyMapEvent], Awaitable[None]]


class AsyncClient:
    """A tenant in one market. Use it as an async context."""

    def __init__(
        self,
        market: str | None = None,
        *,
        home: str | Path = DEFAULT_HOME,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Take the market's address (default: the home's) and the home folder.

        Args:
            market: such as ``http://127.0.0.1:8470``.
            home: where key, jobs and channels are kept.
            environment: where ``env`` and ``secrets`` without a value are taken from;
                that of this process by default.

        Raises:
            Refused: an address or a setting that means nothing.
        """
        self.home = Home(Path(home).expanduser())
        config = self.home.read_config()
        self._blocked = config.avoid
        self._urls = parse_urls(market or config.market)
        self.url = self._urls[0]
        self.is_new = not self.home.key_path.exists()
        self.key = load_or_create_key(self.home.key_path)
        self._environment = environment
        self._learning: asyncio.Task[None] | None = None
        pins = (self.home.find_market(url) for url in self._urls)
        self._pinned = next((pin for pin in pins if pin is not None), None)
        self._clock = SystemClock()
        self.connection = Connection(
            *dict.fromkeys((*self._urls, *self._find_nodes())),
            key=self.key,
            clock=self._clock,
            market=self._pinned,
        )

    async def __aenter__(self) -> Self:
        await self.connection.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._learning is not None:
            self._learning.cancel()
        await self.connection.close()

    def _find_nodes(self) -> tuple[str, ...]:
        if self._pinned is None:
            return ()
        return self.home.find_nodes(market_id(self._pinned))

    async def learn_nodes(self) -> None:
        """Hear where else this market is, for when this node is gone."""
        with suppress(SubletError):  # the job itself will say what is wrong
            info = await self.connection.market()
            if info.nodes and info.nodes != self._find_nodes():
                self.home.keep_nodes(info.id, info.nodes)

    async def pin(self) -> None:
        """Pin the market the first time; afterwards another one is refused.

        Raises:
            Unavailable: nobody answers there.
        """
        if self._pinned is None:
            self._pinned = await self.connection.learn_market()
            self.home.pin_market(self.url, self._pinned)

    async def trust(self) -> Digest:
        """Pin the market that is at this address now, whatever was there before.

        Raises:
            Unavailable: nobody answers there.
        """
        fresh = Connection(self.url, key=self.key, clock=self._clock)
        async with fresh:
            self._pinned = await fresh.learn_market()
        self.home.pin_market(self.url, self._pinned)
        return (await fresh.domain()).market

    def now_s(self) -> int:
        """Seconds since the epoch, as this machine has it."""
        return self._clock.now_s()

    # ---- questions --------------------------------------------------------------

    async def market(self) -> MarketInfo:
        """Ask for the state of the market."""
        await self.pin()
        return await self.connection.market()

    async def offers(self) -> tuple[OfferRow, ...]:
        """List what is offered now."""
        await self.pin()
        return await self.connection.offers()

    async def account(self) -> Account:
        """Ask for this tenant's wallet."""
        await self.pin()
        return await self.connection.account()

    async def faucet(self) -> Account:
        """Ask for credits, where the operator gives them away."""
        await self.pin()
        return await self.connection.faucet()

    async def leases(self, *, is_all: bool = False) -> tuple[Lease, ...]:
        """List this tenant's leases: open ones, or all."""
        await self.pin()
        return await self.connection.leases(is_all=is_all)

    async def quote(self, **needed: Unpack[Quoted]) -> Quote:
        """Ask what a machine would cost now; nothing is bought.

        Raises:
            Faults: sizes or prices that mean nothing.
        """
        order = self.draft_order(**needed)
        await self.pin()
        return await self.connection.quote(order)

    def draft_order(self, **needed: Unpack[Quoted]) -> Order:
        """Write the order that a job with these needs would begin with; unsigned.

        Raises:
            Faults: sizes or prices that mean nothing.
        """
        found = Collector()
        now_s = self._clock.now_s()
        wish = make_wish((), needed).avoiding(self._blocked)
        needs = parse_needs(wish, found, now_s=now_s)
        found.check()
        return make_order(
            needs,
            tenant=self.key.address,
            manifest=None,
            ssh_key=NO_KEY_LINE,
            avoid=(),
            spent=0,
            at_s=now_s,
            salt=0,
        )

    def jobs(self) -> list[JobRecord]:
        """List the jobs that this home remembers, newest first."""
        return self.home.read_jobs()

    # ---- jobs -------------------------------------------------------------------

    async def run(
        self,
        *target: str,
        on_event: OnEvent | None = None,
        **options: Unpack[Options],
    ) -> JobResult:
        """Run a script, a folder or a command to its end.

        Args:
            target: the script or folder and its arguments, or a command.
            on_event: is told what happens; may be a coroutine function.
            options: see ``Options``.

        Raises:
            Faults: something about the wish; nothing was bought.
            Unavailable: the market does not answer.
        """
        job = await self.start(*target, on_event=on_event, **options)
        return await job.result()

    async def start(
        self,
        *target: str,
        on_event: OnEvent | None = None,
        **options: Unpack[Options],
    ) -> RunningJob:
        """Begin a job and give a handle on it; raises as ``run``."""
        job_id = secrets.token_hex(JOB_ID_BYTES)
        with ExitStack() as undo:
            undo.callback(self.home.drop_job, job_id)  # unless it is begun
            work = await self.prepare(job_id, make_wish(target, options))
            await self.pin()
            works = await asyncio.to_thread(part_work, work, self.home)
            undo.pop_all()
        self._learning = asyncio.create_task(self.learn_nodes())
        show = None if on_event is None else listen_with(on_event)
        job = begin_job(self.as_tenant(), works, show=show)
        job.begin()
        return job

    # ---- maps -------------------------------------------------------------------

    async def map(
        self,
        *target: str,
        tasks: str | Path | Iterable[Any],
        is_ordered: bool = False,
        results: str | Path | None = None,
        **options: Unpack[MapOptions],
    ) -> AsyncIterator[TaskResult]:
        """Run a program once for each task, on several machines; give each result.

        Closing the iterator early stops all workers and settles them.

        Args:
            target: the script or folder, or a command, and arguments before the task's.
            tasks: a file of JSON lines; or items: a ``Task``, a mapping with its
                fields, a text or number (one argument), or a list of them.
            is_ordered: in the order of the tasks, not in that of their ends.
            results: a folder that keeps them; the same map goes on from there.
            options: see ``MapOptions``.

        Raises:
            Faults: something about the wish; nothing was bought.
            Unavailable: not all tasks could be run; those that were are given before.
        """
        running = await self.start_map(*target, tasks=tasks, results=results, **options)
        try:
            source = aiter(running)
            async for result in in_order(source) if is_ordered else source:
                yield result
            ended = await running.result()
        finally:
            await running.close()
        if ended.outcome not in ("done", "failed"):
            raise Unavailable(ended.message, code=f"map_{ended.outcome}")

    async def start_map(
        self,
        *target: str,
        tasks: str | Path | Iterable[Any],
        results: str | Path | None = None,
        on_event: OnMapEvent | None = None,
        **options: Unpack[MapOptions],
    ) -> RunningMap:
        """Make a map ready; it begins when its results or its end are asked for."""
        given: dict[str, Any] = dict(options)
        names = given.keys() & set(MapWish.__struct_fields__)
        own = {name: given.pop(name) for name in names}
        given["timeout"] = given.pop("lease", None)  # a worker's is that of its lease
        wish = make_wish(target, cast(Options, given))
        await self.pin()
        return await begin_map(
            wish.avoiding(self._blocked),
            MapWish(**own),
            tasks,
            tenant=self.as_tenant(),
            environment=(
                os.environ if self._environment is None else self._environment
            ),
            results=None if results is None else Path(results),
            show=_hear_nothing if on_event is None else on_event,
        )

    def as_tenant(self) -> Tenant:
        """Give what jobs are run with."""
        return Tenant(self.home, self.connection, self._clock)

    async def prepare(self, job_id: str, wish: Wish) -> Work:
        """Read what a wish names, and put what goes along into the job's folder."""
        environment = os.environ if self._environment is None else self._environment
        terms = parse_terms(
            wish.avoiding(self._blocked),
            environment=environment,
            read_secret=survey.read_secret,
            now_s=self._clock.now_s(),
        )
        seen = {path: survey.look(path) for path in find_paths(wish)}
        program = parse_program(wish, seen)
        await asyncio.to_thread(
            self.home.drop_old_jobs,
            lambda record: find_state(record) not in ("running", "detached"),
        )
        folder = self.home.job_folder(job_id) / "blobs"
        inputs = Tree(files=())
        if program.sources:
            # Inputs can be read again; only what is fetched has to be on the disk.
            inputs = await asyncio.to_thread(
                survey.gather,
                program,
                blobs=FolderBlobs(folder, is_durable=False),
                bytes_max=terms.needs.disk_bytes,
            )
        return Work(job_id, program, terms, inputs, FolderBlobs(folder))


def make_wish(target: Sequence[str], options: Needed | Options) -> Wish:
    """Give what was asked for, as it was typed."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list | tuple) else value
        for name, value in options.items()
    }
    return Wish(target=tuple(target), **values)


async def _hear_nothing(said: AnyMapEvent) -> None:
    """Whoever wants events says so."""


def listen_with(on_event: OnEvent) -> Callable[[AnyEvent], Awaitable[None]]:
    """Make a listener that can be awaited of one that perhaps cannot."""

    async def listen(said: AnyEvent) -> None:
        answer = on_event(said)
        if answer is not None:
            await answer

    return listen
