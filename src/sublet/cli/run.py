"""``sublet run`` and ``sublet quote``."""

import asyncio
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperCommand

from sublet.cli.need import with_needs
from sublet.cli.option import (
    HOME,
    ApartOption,
    HomeOption,
    ImageOption,
    JsonOption,
    MachinesOption,
    MarketOption,
    TimeoutOption,
    TogetherOption,
    make_client,
)

if TYPE_CHECKING:
    from sublet.cli.output import Notices
    from sublet.workload.client import AsyncClient
    from sublet.workload.option import Needed, Options, Quoted
    from sublet.workload.run.event import AnyEvent
    from sublet.workload.run.result import JobResult

app = typer.Typer(rich_markup_mode=None)

EXIT_STOPPED = 130
EXIT_PIPE = 141
BEHIND_DASHES = "sublet.behind_dashes"


class RunCommand(TyperCommand):
    """Notices whether the target stood behind ``--``: then it is a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as always, and remember the dashes."""
        before = list(args)
        rest = super().parse_args(ctx, args)
        count = len(ctx.params.get("target") or ())
        dashes = len(before) - count - 1
        ctx.meta[BEHIND_DASHES] = dashes >= 0 and before[dashes] == "--"
        return rest


@app.command(
    cls=RunCommand,
    context_settings={"allow_interspersed_args": False},
)
@with_needs
def run(
    ctx: typer.Context,
    target: Annotated[
        list[str] | None,
        typer.Argument(metavar="SCRIPT_OR_COMMAND [ARGS]...", show_default=False),
    ] = None,
    *,
    needed: "Needed",
    image: ImageOption = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="PATH", help="A file or folder to bring."),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            metavar="PATH[:LOCAL]",
            help="A file or folder of the job to fetch at the end.",
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="DIR",
            help="A folder of the job that is kept while it runs; the next attempt "
            "finds it again.",
        ),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            "--retries",
            metavar="N",
            help="Attempts after the first. Where you name a number, also when the "
            "program itself fails.  [default: 3, for failing machines only]",
        ),
    ] = None,
    timeout: TimeoutOption = None,
    machines: MachinesOption = None,
    apart: ApartOption = None,
    together: TogetherOption = None,
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode",
            metavar="MODE:TIME",
            help="How to find a machine: standing:10m waits at your price, live:10s "
            "lets providers bid (live:10s:5m: you choose), spot:60s gives way, with "
            "that notice, to who pays more, reserved:2h begins then.  [default: instant]",
        ),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait", metavar="TIME", help="Longest wait for a machine.  [default: 30s]"
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="K[=V]", help="A variable; K alone takes yours."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="K[=@FILE]",
            help="A variable that is never shown or written down.",
        ),
    ] = None,
    erasure: Annotated[
        bool,
        typer.Option(
            "--erasure",
            help="Only machines that encrypt the job's data and sign that it is gone.",
        ),
    ] = False,
    egress: Annotated[
        list[str] | None,
        typer.Option(
            "--egress",
            metavar="NAME:PORT",
            help="What the job may reach, such as huggingface.co:443 or "
            "*.example.org:443. Without it, nothing.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What you call the job.")
    ] = None,
    is_detached: Annotated[
        bool,
        typer.Option(
            "--detach",
            "-d",
            help="Leave the job with the market, sealed, and return; --max-total is the "
            "most that it can spend. See it again with sublet attach.",
        ),
    ] = False,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            metavar="TIME",
            help="With --detach: how long the market may order for it.  [default: 24h]",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="One JSON object at the end on standard output; the job's own output "
            "goes to standard error.",
        ),
    ] = False,
    is_quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No notices.")
    ] = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Run a script, a folder or a command on a rented machine.

    A .py file is a script: its PEP 723 metadata says what it needs. Of a folder, all
    goes along and its __main__.py or main.py is the script; without metadata in it,
    the dependencies of its pyproject.toml are taken. Anything else, and whatever
    stands behind --, is a command of the provider's system, or of the --image: without
    any, the image's own program runs.

    The job's work folder holds what you bring with --input, each under its own name.
    Its exit code is this command's. Ctrl-C stops the job and settles it; twice leaves
    at once.

    With --machines N the same program runs on N machines, which are rented together or
    not at all: RANK and WORLD_SIZE say to each which one it is, its lines begin with
    its rank, and an output lands in rank-N/PATH, or LOCAL/rank-N/. One that fails ends
    all, with its exit code; where a machine is lost, all begin again. They do not reach
    one another.

    \b
    Examples:
      sublet run train.py --epochs 3
      sublet run --gpu h200:1 --max-price 3.00 --input data --output model/ train.py
      sublet run --checkpoint ckpt --retries 5 ./project
      sublet run --secret HF_TOKEN --env MODE=fast script.py
      sublet run --memory 4GiB -- sort --version
      sublet run --detach --max-total 5.00 --checkpoint ckpt train.py
      sublet run --machines 4 --gpu h100:1 --max-total 20 --checkpoint ckpt sweep.py
      sublet run --image python:3.12 --input data -- python -m json.tool data/x.json
      sublet run --egress huggingface.co:443 --egress '*.hf.co:443' fetch.py
    """
    options: Options = {
        "is_command": ctx.meta[BEHIND_DASHES],
        "lengthens": False,
        **needed,
        "image": image,
        "inputs": inputs or (),
        "outputs": outputs or (),
        "checkpoint": checkpoint,
        "volumes": (),
        "retries": retries,
        "timeout": timeout,
        "machines": machines,
        "apart": apart or (),
        "together": together,
        "mode": mode,
        "wait": wait,
        "env": env or (),
        "secrets": secret or (),
        "egress": egress or (),
        "erasure": erasure,
        "name": name,
    }
    from sublet.cli.output import Notices

    notices = Notices(is_quiet=is_quiet)
    client = make_client(market, home)
    if is_detached or expires is not None:
        from sublet.cli.leaving import detach

        asyncio.run(
            detach(client, target or [], options, expires, notices, as_json=as_json)
        )
        return
    code = asyncio.run(_run(client, target or [], options, notices, as_json=as_json))
    raise typer.Exit(code)


async def _run(
    client: "AsyncClient",
    target: list[str],
    options: "Options",
    notices: "Notices",
    *,
    as_json: bool,
) -> int:
    from sublet.cli.output import NOTICE_AFTER_S, Ranked, Screen, describe
    from sublet.workload.run.event import Wrote

    screens = {"stdout": Screen(2 if as_json else 1), "stderr": Screen(2)}
    ranked = Ranked()
    is_unread = False

    async def write(stream: str, content: bytes) -> None:
        nonlocal is_unread
        try:
            if content and not is_unread:
                await screens[stream].write(content)
        except BrokenPipeError:
            is_unread = True  # as with any program whose reader has gone
            job.stop()

    async def show(said: "AnyEvent") -> None:
        if isinstance(said, Wrote):
            await write(said.stream, ranked.take(said))
        elif text := describe(said):
            notices.say(text)

    asyncio.get_running_loop().call_later(NOTICE_AFTER_S, notices.flush)
    async with client:
        job = await client.start(*target, on_event=show, **options)
        stop_on_signals(job.stop, notices)
        try:
            result = await job.result()
        except asyncio.CancelledError:
            return EXIT_STOPPED
    for stream, rest in ranked.end():
        await write(stream, rest)
    _report(result, notices, as_json=as_json)
    return EXIT_PIPE if is_unread else result.exit_code


def stop_on_signals(stop: Any, notices: "Notices", *, what: str = "the job") -> None:
    """Once stops the job and settles it; twice leaves at once."""
    loop = asyncio.get_running_loop()
    whole = asyncio.current_task()
    count = 0

    def take() -> None:
        nonlocal count
        count += 1
        if count == 1:
            notices.say(f"stopping {what}; Ctrl-C again leaves at once")
            stop()
        elif whole is not None:
            whole.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, take)


def _report(result: "JobResult", notices: "Notices", *, as_json: bool) -> None:
    from sublet.cli.output import clean, summarize

    if result.message:
        sys.stderr.write(f"sublet: {clean(result.message)}\n")
    for one in result.members or (result,):
        if one.checkpoint:
            notices.say(
                f"the last checkpoint is in {one.checkpoint}; to go on from it, run "
                f"the job again with: --input {one.checkpoint}"
            )
    notices.say(summarize(result))
    if as_json:
        import msgspec

        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        sys.stdout.flush()


@app.command()
@with_needs
def quote(
    *,
    needed: "Needed",
    image: ImageOption = None,
    timeout: TimeoutOption = None,
    machines: MachinesOption = None,
    apart: ApartOption = None,
    together: TogetherOption = None,
    catalogue: Annotated[
        Path | None,
        typer.Option(
            "--catalogue",
            metavar="FILE",
            help="Clouds' prices to compare with: CSV with the columns of the one that "
            "comes along.",
        ),
    ] = None,
    as_json: JsonOption = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Ask what a machine would cost now; nothing is bought.

    It says, too, when the job would begin and be done, on what that rests, and what
    AWS, GCP and Azure take for the cheapest instance that would do.

    \b
    Example:
      sublet quote --gpu h200:8 --timeout 2h --max-total 100
      sublet quote --gpu h100:8 --machines 4 --together 10ms --apart network
    """
    import msgspec

    from sublet.adapter.catalogue_file import read_catalogue
    from sublet.base.errors import Unavailable
    from sublet.base.units import format_duration, format_money
    from sublet.cli.quote import (
        count_offers,
        format_clouds,
        format_machines,
        format_outlook,
        format_score,
    )
    from sublet.workload.outlook import compare_clouds, fetch_outlook

    instances = read_catalogue(catalogue)
    gang = {"machines": machines, "apart": apart or (), "together": together}

    async def ask() -> Any:
        async with make_client(market, home) as client:
            wanted = {**needed, "image": image, "timeout": timeout, **gang}
            order = client.draft_order(**cast("Quoted", wanted))
            outlook = await fetch_outlook(client, order)
            return await client.connection.quote(order), outlook, order

    found, outlook, order = asyncio.run(ask())
    clouds = compare_clouds(instances, order)
    if as_json:
        said = msgspec.to_builtins(found)
        said |= {"outlook": outlook, "clouds": clouds, "order": order}
        typer.echo(msgspec.json.encode(said).decode())
    else:
        if found.fault is None:
            typer.echo(
                format_machines(found)
                + f"\nfor at most {format_duration(found.duration_s)}, "
                f"{format_money(found.hold)} are set aside\n"
                f"{count_offers(found.offers_matching)}\n\n"
                + format_score(found, order)
                + "\n"
            )
        width = shutil.get_terminal_size().columns
        typer.echo(format_outlook(outlook, width=width))
        if clouds:
            typer.echo("\n" + format_clouds(clouds, run_s=order.duration_s_max))
    if found.fault is not None:
        raise Unavailable(found.fault.message, code=found.fault.code)
