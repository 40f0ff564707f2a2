"""``sublet cp`` and ``sublet ssh``."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sublet.cli.jobs import JobArgument
from sublet.cli.option import HOME, HomeOption, MarketOption, make_client

if TYPE_CHECKING:
    from sublet.sdk.job_channel import Terminal

app = typer.Typer(rich_markup_mode=None)


@app.command()
def cp(
    source: Annotated[
        str, typer.Argument(metavar="JOB:PATH", help="A file or folder of the job.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="LOCAL", help="Where it goes.")
    ] = Path(),
    home: HomeOption = HOME,
    market: MarketOption = None,
) -> None:
    """Copy a file or folder out of a running job.

    \b
    Example:
      sublet cp my-job:model/weights.npz ./weights.npz
    """
    from sublet.base.errors import Refused
    from sublet.workload.copy import copy_out

    job, colon, path = source.partition(":")
    if not colon:
        raise Refused(
            f"{source!r} names no file of a job; write it like my-job:model/",
            code="bad_path",
            field="JOB:PATH",
        )

    async def copy() -> int:
        client = make_client(market, home)
        record = client.home.get_job(job)
        async with client:
            return await copy_out(client, record, path.strip("/"), target)

    count = asyncio.run(copy())
    if sys.stderr.isatty():
        typer.echo(f"sublet: {count} files", err=True)


@app.command(context_settings={"allow_interspersed_args": False})
def ssh(
    job: JobArgument,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND]...", help="A shell by default."),
    ] = None,
    home: HomeOption = HOME,
    market: MarketOption = None,
) -> None:
    """Open a shell beside a running job, in its work folder and within its limits.

    \b
    Examples:
      sublet ssh my-job
      sublet ssh my-job nvidia-smi
    """
    from sublet.workload.reach import reach_job

    async def connect() -> int:
        client = make_client(market, home)
        record = client.home.get_job(job)
        async with client, reach_job(client, record) as channel:
            with _raw_terminal(is_wanted=not command) as terminal:
                return await channel.run_command(command or (), terminal=terminal)

    raise typer.Exit(asyncio.run(connect()))


@contextmanager
def _raw_terminal(*, is_wanted: bool) -> "Iterator[Terminal | None]":
    """Let every key through while a shell is open; put things back afterwards."""
    if not is_wanted or not os.isatty(0):
        yield None
        return
    import termios
    import tty

    from sublet.sdk.job_channel import Terminal

    terminal = Terminal(os.environ.get("TERM", "xterm"), os.get_terminal_size())

    def resize() -> None:
        if terminal.on_resize is not None:
            terminal.on_resize(*os.get_terminal_size())

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, resize)
    before = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        yield terminal
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        loop.remove_signal_handler(signal.SIGWINCH)
