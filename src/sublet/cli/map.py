"""``sublet map``: a program, many tasks, several machines."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.cli.need import with_needs
from sublet.cli.option import (
    HOME,
    HomeOption,
    MarketOption,
    make_client,
)
from sublet.cli.run import BEHIND_DASHES, EXIT_STOPPED, RunCommand, stop_on_signals

if TYPE_CHECKING:
    from sublet.workload.client import AsyncClient
    from sublet.workload.option import Needed

app = typer.Typer(rich_markup_mode=None)

EXIT_FAILED = 1  # some tasks failed
EXIT_UNAVAILABLE = 3  # not all tasks could be run


@app.command(
    "map",
    cls=RunCommand,
    context_settings={"allow_interspersed_args": False},
)
@with_needs
def map_(
    ctx: typer.Context,
    target: Annotated[
        list[str],
        typer.Argument(metavar="SCRIPT_OR_COMMAND [ARGS]...", show_default=False),
    ],
    tasks: Annotated[
        Path,
        typer.Option(
            "--tasks",
            metavar="FILE",
            help="A JSON object a line: args, env, stdin, data or input, id.",
        ),
    ],
    parallel: Annotated[
        int | None,
        typer.Option(
            "--parallel", metavar="N", help="Machines at one time.  [default: 4]"
        ),
    ] = None,
    volume: Annotated[
        str | None,
        typer.Option(
            "--volume",
            metavar="TIME",
            help="With --mode standing: so much machine time, such as 100h, in one order "
            "that is filled lease by lease as supply appears, on as many machines as "
            "there are.",
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="DIR",
            help="Where results are kept; the same map goes on from there.  [default: "
            "the tasks' file, with .results for its ending]",
        ),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Longest attempt at one task."),
    ] = None,
    stall: Annotated[
        str | None,
        typer.Option(
            "--stall",
            metavar="TIME",
            help="Longest time that an attempt may make no progress: nothing printed, or, "
            "with --warm, no other line of progress. Then it goes elsewhere.",
        ),
    ] = None,
    is_warm: Annotated[
        bool,
        typer.Option(
            "--warm",
            help="Start the program once on each machine, and tell it of one task after "
            "the other, in JSON lines (see below).",
        ),
    ] = False,
    retries: Annotated[
        int | None,
        typer.Option(
            "--retries",
            metavar="N",
            help="Further attempts at a task that fails by itself.  [default: 2]",
        ),
    ] = None,
    is_fail_fast: Annotated[
        bool,
        typer.Option(
            "--fail-fast/--keep-going", help="Stop at the first task that failed."
        ),
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Run those again that failed in an earlier run."
        ),
    ] = False,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="PATH", help="A file or folder for all tasks."),
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
    *,
    needed: "Needed",
    lease: Annotated[
        str | None,
        typer.Option(
            "--lease",
            metavar="TIME",
            help="Longest lease of one machine. [default: 1h]",
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode",
            metavar="MODE:TIME",
            help="How each machine is found: standing:2d waits at your price, so that "
            "they come as supply appears; spot:60s gives way to who pays more.  "
            "[default: instant]",
        ),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait", metavar="TIME", help="Longest wait for a machine.  [default: 30s]"
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What you call it.")
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="What happens as a JSON object a line, the end as the last."
        ),
    ] = False,
    is_quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Nothing but errors.")
    ] = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Run a program once for each task, on several rented machines.

    Each machine is rented once and runs many tasks, one after the other. A task gets
    the arguments of its line behind those given here, its variables, and its "stdin"
    (a text), "data" (any JSON) or "input" (a local file) on standard input. Its result
    is what it prints, its exit code, and the files that it leaves in the folder
    $SUBLET_OUTPUT. A task that fails is tried again elsewhere; one that takes unusually
    long is begun a second time, and the first to end counts.

    With --warm the program is started once on each machine, to load a model, say. It
    reads a line of JSON a task, {"task": ID, "args": [], "env": {}, "data": ANY,
    "output": FOLDER}, and writes lines of JSON: {"progress": 0.5, "text": "…"} as often
    as it likes, then {"done": true, "exit_code": 0, "result": ANY}. Whatever else it
    prints belongs on standard error. One that ends, hangs or says anything else is
    killed and started anew.

    Results are on your disk before they are paid: DIR/results.jsonl, DIR/outputs/ID/.
    Ctrl-C stops and settles all; the same command goes on from there. The exit code is
    0 where all tasks are done, 1 where some failed.

    \b
    Examples:
      sublet map --tasks tasks.jsonl --parallel 8 sweep.py --epochs 40
      sublet map --tasks tasks.jsonl --timeout 10m --max-total 5.00 ./project
      sublet map --tasks tasks.jsonl --mode standing:2d --max-price 0.20 sweep.py
      sublet map --tasks tasks.jsonl --mode standing:5d --volume 100h --vram 24GB \\
        --max-price 0.20 --max-total 20 sweep.py
      sublet map --tasks prompts.jsonl --warm --stall 2m --gpu 1 answer.py
      sublet map --tasks words.jsonl --json -- wc -w
    """
    options: dict[str, Any] = {
        "is_command": ctx.meta[BEHIND_DASHES],
        "tasks": tasks,
        "results": results or tasks.with_suffix(".results"),
        "parallel": parallel,
        "volume": volume,
        "timeout": timeout,
        "stall": stall,
        "is_warm": is_warm,
        "retries": retries,
        "is_fail_fast": is_fail_fast,
        "retry_failed": retry_failed,
        "inputs": inputs or (),
        "env": env or (),
        "secrets": secret or (),
        **needed,
        "lease": lease,
        "mode": mode,
        "wait": wait,
        "name": name,
    }
    client = make_client(market, home)
    code = asyncio.run(_map(client, target, options, as_json, is_quiet))
    raise typer.Exit(code)


async def _map(
    client: "AsyncClient",
    target: list[str],
    options: dict[str, Any],
    as_json: bool,
    is_quiet: bool,
) -> int:
    from sublet.cli.map_screen import make_screen
    from sublet.cli.output import Notices

    screen = make_screen(as_json=as_json, is_quiet=is_quiet)
    notices = Notices(is_quiet=is_quiet or as_json)
    async with client:
        running = await client.start_map(*target, on_event=screen.hear, **options)
        stop_on_signals(running.stop, notices, what="the map")
        with screen.over(running):
            try:
                result = await running.result()
            except asyncio.CancelledError:
                return EXIT_STOPPED
        screen.end(result)
    return find_code(result.outcome)


def find_code(outcome: str) -> int:
    """Say what a command over many tasks ends with."""
    if outcome == "done":
        return 0
    if outcome == "failed":
        return EXIT_FAILED
    return EXIT_STOPPED if outcome == "stopped" else EXIT_UNAVAILABLE
