"""``sublet openjd``: a job template of Open Job Description, each step as a map."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.cli.map import find_code
from sublet.cli.need import with_needs
from sublet.cli.option import HOME, HomeOption, MarketOption, make_client
from sublet.cli.run import EXIT_STOPPED, stop_on_signals

if TYPE_CHECKING:
    from sublet.workload.client import AsyncClient
    from sublet.workload.openjd.plan import JobPlan
    from sublet.workload.option import MapOptions, Needed

app = typer.Typer(rich_markup_mode=None)


@app.command("openjd")
@with_needs
def openjd(
    template: Annotated[Path, typer.Argument(metavar="TEMPLATE", show_default=False)],
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="NAME=VALUE",
            help="A job parameter; a path is relative to this folder.",
        ),
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(
            "--step", metavar="NAME", help="Only this one, and what it depends on."
        ),
    ] = None,
    is_dry: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show steps, tasks, needs and a quote; nothing is rented.",
        ),
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="DIR",
            help="Where results are kept; the same job goes on from there.  [default: "
            "the template, with .results for its ending]",
        ),
    ] = None,
    parallel: Annotated[
        int | None,
        typer.Option(
            "--parallel", metavar="N", help="Machines at one time.  [default: 4]"
        ),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            metavar="TIME",
            help="Longest attempt at one task, besides the template's own timeouts.",
        ),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            "--retries",
            metavar="N",
            help="Further attempts at a task that fails by itself.  [default: 2]",
        ),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Run those again that failed in an earlier run."
        ),
    ] = False,
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
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait", metavar="TIME", help="Longest wait for a machine.  [default: 30s]"
        ),
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
    """Run a job template of Open Job Description (2023-09) on rented machines.

    TEMPLATE is YAML or JSON. Each step is a map: one task for each set of values of
    its parameter space, on several machines. Steps are run in the order of their
    dependencies; what one leaves in the job's folder is there for those that depend
    on it. PATH parameters with dataFlow IN or INOUT are sent along; what changes below
    those with OUT or INOUT is copied back to where they say. hostRequirements become
    needs of the machines; your own options stand where the template says nothing, or
    takes them, too. --max-total is that of the whole job.

    Programs that a template calls, such as blender, have to be on the provider's PATH.
    Results are on your disk before they are paid, in DIR/STEP/. Ctrl-C stops and
    settles all; the same command goes on from there. The exit code is 0 where all
    steps are done, 1 where tasks failed. Needs the extra sublet[openjd].

    \b
    Examples:
      sublet openjd job.yaml --dry-run
      sublet openjd job.yaml --param EndFrame=240 --param OutputDir=./frames
      sublet openjd job.yaml --step RenderScene --parallel 8 --max-total 5.00
    """
    from sublet.workload.openjd.plan import plan_job
    from sublet.workload.openjd.template import load_job, parse_parameters

    given = parse_parameters(tuple(parameters or ()))
    plan = plan_job(load_job(template, given, here=Path.cwd()), only=step)
    named: dict[str, Any] = {
        **needed,
        "parallel": parallel,
        "timeout": timeout,
        "retries": retries,
        "retry_failed": retry_failed,
        "env": env or (),
        "secrets": secret or (),
        "lease": lease,
        "wait": wait,
    }
    options: Any = {k: v for k, v in named.items() if v is not None}
    client = make_client(market, home)
    if is_dry:
        asyncio.run(_show(client, plan, options, as_json))
        return
    folder = results or template.with_suffix(".results")
    code = asyncio.run(_run(client, plan, folder, options, as_json, is_quiet))
    raise typer.Exit(code)


async def _show(
    client: "AsyncClient", plan: "JobPlan", options: "MapOptions", as_json: bool
) -> None:
    from sublet.base.errors import Unavailable
    from sublet.cli.openjd_text import describe_plan, list_plan
    from sublet.wire.message import Quote
    from sublet.workload.openjd.running import quote_step

    quotes: dict[str, Quote | str] = {}
    async with client:
        for step in plan.steps:
            try:
                quotes[step.name] = await quote_step(client, step, options)
            except Unavailable as fault:
                quotes[step.name] = fault.message
    now_s = client.now_s()
    if as_json:
        import msgspec

        content = list_plan(plan, quotes, options, now_s=now_s)
        sys.stdout.write(msgspec.json.encode(content).decode() + "\n")
    else:
        typer.echo(describe_plan(plan, quotes, options, now_s=now_s))


async def _run(
    client: "AsyncClient",
    plan: "JobPlan",
    folder: Path,
    options: "MapOptions",
    as_json: bool,
    is_quiet: bool,
) -> int:
    from sublet.cli.openjd_text import JobScreen
    from sublet.cli.output import Notices
    from sublet.workload.openjd.running import RunningJob

    screen = JobScreen(plan, as_json=as_json, is_quiet=is_quiet)
    notices = Notices(is_quiet=is_quiet or as_json)
    async with client:
        job = RunningJob(client, plan, results=folder, options=options, watch=screen)
        stop_on_signals(job.stop, notices, what="the job")
        try:
            result = await job.run()
        except asyncio.CancelledError:
            return EXIT_STOPPED
        finally:
            screen.close()
        screen.finish(result)
    return find_code(result.outcome)
