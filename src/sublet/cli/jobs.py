"""``sublet ps``, ``logs`` and ``stop``."""

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sublet.cli.option import HOME, HomeOption, JsonOption, MarketOption, make_client

if TYPE_CHECKING:
    from sublet.core.job.record import JobRecord
    from sublet.workload.client import AsyncClient

app = typer.Typer(rich_markup_mode=None)

FOLLOW_S = 0.2  # between two looks at a log that grows
LOG_READ_BYTES = 65_536
STOP_SALT_BITS = 62

JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="Its id, the beginning of it, or its name.")
]


@app.command()
def ps(
    is_all: Annotated[
        bool, typer.Option("--all", "-a", help="Those that are over, too.")
    ] = False,
    as_json: JsonOption = False,
    home: HomeOption = HOME,
) -> None:
    """List your jobs, newest first.

    \b
    Example:
      sublet ps -a
    """
    import msgspec

    from sublet.adapter.home_folder import Home
    from sublet.base.units import format_duration, format_money
    from sublet.cli.output import format_table, format_time
    from sublet.workload.run.state import find_state

    records = Home(home.expanduser()).read_jobs()
    states = {record.id: find_state(record) for record in records}
    shown = [one for one in records if is_all or states[one.id] != "over"]
    if as_json:
        typer.echo(msgspec.json.encode(shown).decode())
        return
    rows = []
    for one in shown:
        job = one.job
        state = states[one.id]
        if state == "over":
            state = f"exit {job.exit_code}"
        rows.append(
            (
                one.id,
                one.name,
                state,
                format_duration(sum(each.ran_ms for each in job.attempts) // 1_000),
                format_money(job.cost),
                str(len(job.attempts)),
                format_time(one.created_at_ms),
                one.command[:60],
            )
        )
    head = ("JOB", "NAME", "STATE", "RAN", "COST", "TRIES", "BEGAN", "COMMAND")
    typer.echo(format_table(head, rows))


@app.command()
def logs(
    job: JobArgument,
    is_followed: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job is over.")
    ] = False,
    is_stderr: Annotated[
        bool, typer.Option("--stderr", help="Standard error instead.")
    ] = False,
    home: HomeOption = HOME,
    market: MarketOption = None,
) -> None:
    """Show what a job wrote, on all of its attempts.

    \b
    Example:
      sublet logs -f my-job
    """
    from sublet.adapter.home_folder import Home
    from sublet.workload.run.state import find_state

    folder = Home(home.expanduser())
    record = folder.get_job(job)
    stream = "stderr" if is_stderr else "stdout"
    if find_state(record) == "detached":
        from sublet.cli.leaving import show_stream

        show_copy(folder.job_folder(record.id) / stream)
        asyncio.run(show_stream(make_client(market, home), record, stream, is_followed))
        return
    if find_state(record) == "orphaned":
        asyncio.run(_follow_remote(make_client(market, home), record, stream))
        return
    show_copy(folder.job_folder(record.id) / stream)
    place = folder.job_folder(record.id) / stream
    offset = place.stat().st_size if place.exists() else 0
    while is_followed and find_state(folder.get_job(record.id)) == "running":
        time.sleep(FOLLOW_S)
        offset = show_copy(place, offset=offset)
    if is_followed:
        show_copy(place, offset=offset)


def show_copy(place: Path, *, offset: int = 0) -> int:
    """Write a log's copy from a byte on; give where it ends now."""
    from sublet.cli.output import Screen

    screen = Screen(1)
    try:
        with place.open("rb") as file:
            file.seek(offset)
            while content := file.read(LOG_READ_BYTES):
                sys.stdout.buffer.write(screen.render(content))
                offset += len(content)
    except FileNotFoundError:
        return offset
    sys.stdout.buffer.flush()
    return offset


async def _follow_remote(
    client: "AsyncClient", record: "JobRecord", stream: str
) -> None:
    """Ask the provider, where nobody here looks after the job any more."""
    from sublet.cli.output import Screen
    from sublet.workload.reach import reach_job

    screen = Screen(1)
    async with client, reach_job(client, record) as channel:
        async for content in channel.follow_log(stream, offset=0):
            await screen.write(content)


@app.command()
def stop(
    job: JobArgument,
    home: HomeOption = HOME,
    market: MarketOption = None,
) -> None:
    """Stop a job; what it ran is paid, and no more.

    \b
    Example:
      sublet stop my-job
    """
    from sublet.workload.reach import stop_job

    async def ask() -> str:
        client = make_client(market, home)
        record = client.home.get_job(job)
        async with client:
            return await stop_job(client, record)

    typer.echo(asyncio.run(ask()))
