"""``sublet cp``, ``sublet ssh`` and ``sublet port``."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sublet.cli.jobs import JobArgument
from sublet.cli.option import HOME, HomeOption, JsonOption, MarketOption, make_client

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
    job: Annotated[
        str | None,
        typer.Argument(help="Its id, the beginning of it, or its name."),
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND]...", help="A shell by default."),
    ] = None,
    is_config: Annotated[
        bool,
        typer.Option(
            "--config",
            help="Let ssh, scp, rsync and editors find the jobs that run now.",
        ),
    ] = False,
    is_stdio: Annotated[
        bool,
        typer.Option(
            "--stdio", help="Carry bytes for an SSH client: what --config asks for."
        ),
    ] = False,
    home: HomeOption = HOME,
    market: MarketOption = None,
) -> None:
    """Open a shell beside a running job, in its work folder and within its limits.

    What a shell starts ends with it. It shares the job's network, so that it sees the
    ports that the job serves; it has no other.

    With --config, OpenSSH's own tools reach the jobs that run now, by names like
    sublet-my-job. Run it again when a job has moved to another machine.

    \b
    Examples:
      sublet ssh my-job
      sublet ssh my-job nvidia-smi
      sublet ssh --config
      scp data.csv sublet-my-job:          (into its work folder)
      rsync -a src/ sublet-my-job:src/
      ssh -L 8888:localhost:8888 sublet-my-job
    """
    from sublet.base.errors import Refused
    from sublet.workload.reach import reach_bytes, reach_job

    if is_config:
        _write_ssh_config(market, home, job)
        return
    if job is None:
        raise Refused(
            "name a job; list those that run with: sublet ps",
            code="no_job",
            field="JOB",
        )

    async def connect() -> int:
        client = make_client(market, home)
        record = client.home.get_job(job)
        if is_stdio:
            from sublet.cli.stdio import carry_stdio

            async with client, reach_bytes(client, record) as stream:
                await carry_stdio(stream)
                return 0
        async with client, reach_job(client, record) as channel:
            with _raw_terminal(is_wanted=not command) as terminal:
                return await channel.run_command(command or (), terminal=terminal)

    raise typer.Exit(asyncio.run(connect()))


def _write_ssh_config(market: str | None, home: Path, job: str | None) -> None:
    """Write both files anew, and say how they are used."""
    from sublet.base.errors import Refused
    from sublet.workload.reach import find_hosts
    from sublet.workload.ssh_config import Host, write_config, write_known_hosts

    client = make_client(market, home)
    wanted = client.home.get_job(job).id if job else ""

    async def find() -> tuple[Host, ...]:
        async with client:
            return await find_hosts(client)

    hosts = asyncio.run(find())
    if wanted and wanted not in [host.record.id for host in hosts]:
        raise Refused(f"nothing of job {wanted} runs now", code="not_running")
    # The absolute paths of now: an editor calls ssh from anywhere.
    own = ["--home", str(client.home.path.resolve())]
    options = [*own, "--market", client.connection.url]
    folder = client.home.path.resolve() / "ssh"
    known_hosts = folder / "known_hosts"
    text = write_config(
        hosts,
        known_hosts=str(known_hosts),
        command=(sys.executable, "-m", "sublet.cli.main"),
        options=options,
    )
    client.home.write_private(known_hosts, write_known_hosts(hosts).encode())
    client.home.write_private(folder / "config", text.encode())
    for host in hosts:
        if wanted in ("", host.record.id):
            typer.echo(f"ssh {host.name}")
    if not hosts:
        typer.echo("sublet: no job runs now", err=True)
    typer.echo(
        f"sublet: once, at the top of ~/.ssh/config:  Include {folder / 'config'}\n"
        f"sublet: or without that:  ssh -F {folder / 'config'} NAME",
        err=True,
    )


@app.command()
def port(
    job: JobArgument,
    ports: Annotated[
        list[str],
        typer.Argument(
            metavar="[LOCAL:]REMOTE...",
            help="Ports of the job; LOCAL is the number here, 0 for any that is free.",
        ),
    ],
    is_opened: Annotated[
        bool, typer.Option("--open", help="Open the first one in the browser.")
    ] = False,
    as_json: JsonOption = False,
    home: HomeOption = HOME,
    market: MarketOption = None,
) -> None:
    """Reach a server that a running job runs: a notebook, a dashboard, a debugger.

    The server inside must listen on 127.0.0.1 or on all addresses. Only this machine
    reaches the port here; between here and the job everything is encrypted. It lasts
    until Ctrl-C or the end of the job, and follows the job to another machine.

    \b
    Examples:
      sublet port my-job 8888
      sublet port --open my-job 9000:8888 6006
    """
    from sublet.workload.port import Forward, forward_ports, parse_forward

    forwards = [parse_forward(text) for text in ports]

    def ready(made: Sequence[Forward]) -> None:
        if as_json:
            rows = [{"local": one.local, "remote": one.remote} for one in made]
            typer.echo(json.dumps(rows))
        for one in made if not as_json else ():
            typer.echo(f"http://127.0.0.1:{one.local}  is port {one.remote} of {job}")
        sys.stdout.flush()
        if is_opened:
            typer.launch(f"http://127.0.0.1:{made[0].local}")

    def tell(text: str) -> None:
        typer.echo(f"sublet: {text}", err=True)

    async def work() -> None:
        client = make_client(market, home)
        record = client.home.get_job(job)
        async with client:
            await forward_ports(client, record, forwards, ready=ready, tell=tell)

    with suppress(KeyboardInterrupt):  # the ordinary way to end it
        asyncio.run(work())


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
        tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is kept
        yield terminal
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        loop.remove_signal_handler(signal.SIGWINCH)
