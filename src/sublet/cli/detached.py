"""``sublet attach`` and ``revoke``."""

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import typer

from sublet.cli.jobs import JobArgument
from sublet.cli.option import HOME, HomeOption, MarketOption, make_client

if TYPE_CHECKING:
    from sublet.cli.output import Notices
    from sublet.workload.client import AsyncClient
    from sublet.workload.run.event import AnyEvent

app = typer.Typer(rich_markup_mode=None)


@app.command()
def attach(
    job: JobArgument,
    is_quiet: bool = typer.Option(False, "--quiet", "-q", help="No notices."),
    as_json: bool = typer.Option(
        False,
        "--json",
        help="One JSON object at the end on standard output; the job's own output goes "
        "to standard error.",
    ),
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Follow a detached job from where you left it, and fetch what it made.

    Its exit code is this command's. Ctrl-C leaves it again, and it goes on.

    \b
    Example:
      sublet attach my-job
    """
    from sublet.cli.output import Notices

    notices = Notices(is_quiet=is_quiet)
    client = make_client(market, home)
    raise typer.Exit(asyncio.run(_attach(client, job, notices, as_json=as_json)))


@app.command()
def revoke(
    job: JobArgument,
    home: HomeOption = HOME,
    market: MarketOption = None,
) -> None:
    """Take a detached job's budget back: nobody orders or pays for it any more.

    The log itself says so, whatever the node does that looks after the job. What ran
    until now is paid, nothing more. Where you trust the node, sublet stop is kinder:
    it ends the job in order and keeps the budget as it is.

    \b
    Example:
      sublet revoke my-job
    """
    from sublet.workload.detached.client import revoke as take_back

    async def ask() -> str:
        client = make_client(market, home)
        async with client:
            return await take_back(client, job)

    typer.echo(asyncio.run(ask()))


async def _attach(
    client: "AsyncClient", job: str, notices: "Notices", *, as_json: bool
) -> int:
    from sublet.base.units import format_duration
    from sublet.cli.output import Screen, describe
    from sublet.cli.run import EXIT_STOPPED, _report
    from sublet.workload.detached.client import attach as follow
    from sublet.workload.run.event import Secured, Wrote

    screens = {"stdout": Screen(2 if as_json else 1), "stderr": Screen(2)}

    async def show(said: "AnyEvent") -> None:
        if isinstance(said, Wrote):
            await screens[said.stream].write(said.data)
        elif isinstance(said, Secured):
            notices.say(f"checkpoint at {format_duration(said.ran_ms // 1_000)} kept")
        elif text := describe(said):
            notices.say(text)

    whole = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if whole is not None:
            loop.add_signal_handler(number, whole.cancel)
    notices.flush()
    async with client:
        try:
            result = await follow(client, job, on_event=show)
        except asyncio.CancelledError:
            sys.stderr.write(f"sublet: left; it goes on. Again: sublet attach {job}\n")
            return EXIT_STOPPED
    _report(result, notices, as_json=as_json)
    return result.exit_code
