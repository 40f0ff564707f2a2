"""``Client``: the async client for programs that do not await.

One private event loop in one thread; every method is the async one, called through a
portal. Nothing is written twice.
"""

import asyncio
import threading
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
)
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sublet.workload.client import DEFAULT_HOME, AsyncClient
from sublet.workload.detached.client import attach, detach, revoke
from sublet.workload.map.result import TaskResult
from sublet.workload.prices import fetch_prices
from sublet.workload.run.event import AnyEvent
from sublet.workload.run.result import JobResult
from sublet.workload.run.running import RunningJob

P = ParamSpec("P")
T = TypeVar("T")


class Portal:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="sublet", daemon=True
        )
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait; Ctrl-C here cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def soon(self, act: Callable[[], None]) -> None:
        """Do something short there."""
        self._loop.call_soon_threadsafe(act)

    def close(self) -> None:
        """End the thread; twice is harmless."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def _sync(
    method: Callable[Concatenate[AsyncClient, P], Awaitable[T]],
) -> Callable[Concatenate["Client", P], T]:
    """Make a method of the sync client of one of the async client."""

    def call(self: "Client", /, *args: P.args, **names: P.kwargs) -> T:
        async def work() -> T:
            return await method(self.asynchronous, *args, **names)

        return self.portal.call(work())

    call.__name__ = method.__name__
    call.__doc__ = method.__doc__
    return call


class Job:
    """A job under way: iterate over what happens, ask for the result, stop it."""

    def __init__(self, job: RunningJob, *, portal: Portal) -> None:
        """Take the job; use ``Client.start``."""
        self.id = job.id
        self._job = job
        self._portal = portal

    def __iter__(self) -> Iterator[AnyEvent]:
        events: AsyncIterator[AnyEvent] = aiter(self._job)

        async def next_event() -> AnyEvent | None:
            return await anext(events, None)

        while (said := self._portal.call(next_event())) is not None:
            yield said

    def result(self) -> JobResult:
        """Wait for the end; give what it came to."""
        return self._portal.call(self._job.result())

    def stop(self) -> None:
        """Ask for the job to be stopped and settled."""
        self._portal.soon(self._job.stop)


class Client:
    """A tenant in one market, for programs that do not await.

    >>> with Client("http://127.0.0.1:8470") as client:            # doctest: +SKIP
    ...     print(client.run("echo", "hello", is_command=True).exit_code)
    0
    """

    def __init__(
        self,
        market: str | None = None,
        *,
        home: str | Path = DEFAULT_HOME,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Take what ``AsyncClient`` takes; nothing is opened yet."""
        self.asynchronous = AsyncClient(market, home=home, environment=environment)
        self.portal = Portal()

    def __enter__(self) -> Self:
        self.portal.call(self.asynchronous.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.portal.call(self.asynchronous.__aexit__(kind, error, trace))
        self.portal.close()

    market = _sync(AsyncClient.market)
    offers = _sync(AsyncClient.offers)
    account = _sync(AsyncClient.account)
    faucet = _sync(AsyncClient.faucet)
    leases = _sync(AsyncClient.leases)
    quote = _sync(AsyncClient.quote)
    prices = _sync(fetch_prices)
    run = _sync(AsyncClient.run)
    detach = _sync(detach)
    attach = _sync(attach)
    revoke = _sync(revoke)
    _start = _sync(AsyncClient.start)

    def map(self, *target: str, **options: Any) -> Iterator[TaskResult]:
        """Run a program once for each task; takes what ``AsyncClient.map`` takes.

        Closing the iterator, or leaving it to the garbage, stops and settles all.
        """
        results = self.asynchronous.map(*target, **options)

        async def next_result() -> TaskResult | None:
            return await anext(results, None)

        async def close() -> None:
            await results.aclose()  # type: ignore[attr-defined]

        try:
            while (result := self.portal.call(next_result())) is not None:
                yield result
        finally:
            self.portal.call(close())

    def start(self, *args: Any, **options: Any) -> Job:
        """Begin a job and give a handle on it; takes what ``run`` takes."""
        return Job(self._start(*args, **options), portal=self.portal)
