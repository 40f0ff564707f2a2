"""``sublet deploy`` and ``deployments``."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.cli.option import (
    HOME,
    HomeOption,
    JsonOption,
    MarketOption,
    MaxTotalOption,
    TimeoutOption,
    make_client,
)

if TYPE_CHECKING:
    from sublet.cli.output import Notices
    from sublet.workload.deploy.file import Read
    from sublet.workload.deploy.launch import Copy
    from sublet.workload.deploy.plan import DeployPlan
    from sublet.workload.run.event import AnyEvent

app = typer.Typer(rich_markup_mode=None)


@app.command()
def deploy(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="SDL 2.0 or 2.1, a Compose file, or sublet.yaml."
        ),
    ] = None,
    is_check: Annotated[
        bool,
        typer.Option(
            "--check", help="Say what is wrong and what it comes to; no more."
        ),
    ] = False,
    is_schema: Annotated[
        bool,
        typer.Option("--schema", help="Print the JSON Schema of sublet.yaml."),
    ] = False,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Of the deployment.  [default: the file's folder]"),
    ] = None,
    is_update: Annotated[
        bool,
        typer.Option(
            "--update",
            help="Change image, command and variables of one that runs, on its leases.",
        ),
    ] = False,
    akt_usd: Annotated[
        str | None,
        typer.Option(
            "--akt-usd", metavar="USD", help="What an AKT is worth, for prices in uakt."
        ),
    ] = None,
    is_any_provider: Annotated[
        bool,
        typer.Option(
            "--any-provider",
            help="Pass over the placement attributes and signedBy of an SDL file.",
        ),
    ] = False,
    max_total: MaxTotalOption = None,
    timeout: TimeoutOption = None,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait", metavar="TIME", help="Longest wait for a machine.  [default: 30s]"
        ),
    ] = None,
    is_detached: Annotated[
        bool,
        typer.Option(
            "--detach",
            "-d",
            help="Leave all of it with the market, sealed, and return.",
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
    is_sure: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before signing.")
    ] = False,
    as_json: JsonOption = False,
    is_quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No notices.")
    ] = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Run the services of a file, each copy on a lease of its own.

    What it comes to is shown before anything is signed. --max-total and --timeout hold
    for each copy. Copies are jobs named NAME.SERVICE.NUMBER: sublet logs, port, cp and
    stop know them. Without --detach, Ctrl-C stops and settles all of them.

    \b
    Examples:
      sublet deploy --check deploy.yaml
      sublet deploy --max-total 2.00 --timeout 8h docker-compose.yaml
      sublet deploy --update sublet.yaml
      sublet deploy --detach --expires 48h sublet.yaml
      sublet port my-app.web.1 8080
    """
    if is_schema:
        from sublet.cli.deploy_text import render_schema

        typer.echo(render_schema(), nl=False)
        return
    from sublet.cli.deploy_text import read, show

    found = read(
        file,
        name=name,
        akt_usd=akt_usd,
        is_any_provider=is_any_provider,
        as_json=as_json and is_check,
    )
    if is_check:
        show(found, as_json=as_json)
        return
    options = {"max_total": max_total, "timeout": timeout, "wait": wait}
    given = {key: value for key, value in options.items() if value is not None}
    from sublet.cli.output import Notices

    notices = Notices(is_quiet=is_quiet)
    if is_update:
        if given or is_detached or expires is not None:
            raise _update_alone()
        client = make_client(market, home)
        is_sure = is_sure or as_json
        asyncio.run(_update(client, found.plan, notices, is_sure, as_json=as_json))
        return
    _agree(found, notices, is_sure=is_sure or as_json)
    client = make_client(market, home)
    if is_detached or expires is not None:
        asyncio.run(_leave(client, found.plan, given, expires, as_json=as_json))
        return
    code = asyncio.run(_run(client, found.plan, given, notices, as_json=as_json))
    raise typer.Exit(code)


def _agree(found: "Read", notices: "Notices", *, is_sure: bool) -> None:
    """Show the plan, and ask where somebody is there to answer."""
    import sys

    from sublet.cli.deploy_text import render_plan
    from sublet.workload.deploy.launch import check_plan

    check_plan(found.plan)
    for line in render_plan(found.plan).splitlines():
        notices.say(line)
    notices.flush()
    is_asked = not is_sure and sys.stdin.isatty()
    if is_asked and not typer.confirm("order this?", err=True):
        raise typer.Exit(1)


def _update_alone() -> Exception:
    from sublet.base.errors import Refused

    return Refused(
        "--update goes without --max-total, --timeout, --wait, --detach and --expires: "
        "leases and their prices stay as they are",
        code="bad_option",
        field="--update",
    )


async def _update(
    client: Any,
    plan: "DeployPlan",
    notices: "Notices",
    is_sure: bool,
    *,
    as_json: bool,
) -> None:
    import sys

    from sublet.workload.deploy.launch import check_plan, find_going
    from sublet.workload.deploy.update import look, update

    def tell(text: str) -> None:
        notices.say(text)

    check_plan(plan)
    async with client:
        records = await find_going(client, plan.name)
        changes = look(client, plan, records)
        for name, parts in changes.items():
            tell(f"{name}: {', '.join(parts) or 'nothing'} changes")
        notices.flush()
        is_asked = any(changes.values()) and not is_sure and sys.stdin.isatty()
        if is_asked and not typer.confirm("change it?", err=True):
            raise typer.Exit(1)
        done = await update(client, plan, records, tell=tell)
    notices.flush()
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode({"name": plan.name, "changed": done}).decode())


async def _leave(
    client: Any, plan: "DeployPlan", options: Any, expires: str | None, *, as_json: bool
) -> None:
    from sublet.cli.leaving import EXPIRES_S_MAX
    from sublet.workload.deploy.launch import leave
    from sublet.workload.detached.hand_over import EXPIRES_S
    from sublet.workload.run.need import parse_span

    expires_s = EXPIRES_S
    if expires is not None:
        expires_s = parse_span(expires, "--expires", 60, EXPIRES_S_MAX)
    async with client:
        records = await leave(client, plan, expires_s=expires_s, **options)
    if as_json:
        import msgspec

        made = {record.name: record.id for record in records}
        typer.echo(msgspec.json.encode({"name": plan.name, "jobs": made}).decode())
        return
    for record in records:
        typer.echo(f"{record.id}  {record.name}")


async def _run(
    client: Any,
    plan: "DeployPlan",
    options: Any,
    notices: "Notices",
    *,
    as_json: bool,
) -> int:
    from sublet.cli.deploy_text import Lines
    from sublet.cli.output import clean, describe, summarize
    from sublet.cli.run import EXIT_STOPPED, stop_on_signals
    from sublet.workload.deploy.launch import Deployment
    from sublet.workload.run.event import Wrote

    lines = Lines(2 if as_json else 1, width=max(len(n) for n, _ in plan.copies()))

    async def show(name: str, said: "AnyEvent") -> None:
        if isinstance(said, Wrote):
            await lines.write(name, said.stream, said.data)
        elif text := describe(said):
            notices.say(f"{name}: {text}")

    deployment = Deployment()
    async with client:
        stop_on_signals(deployment.stop, notices, what="all services")
        try:
            await deployment.start(client, plan, on_event=show, **options)
            results = await deployment.result()
        except asyncio.CancelledError:
            return EXIT_STOPPED
    await lines.flush()
    for name, result in results.items():
        if result.message:
            notices.say(f"{name}: {clean(result.message)}")
        notices.say(f"{name}: {summarize(result)}")
        if result.checkpoint:
            notices.say(f"{name}: what it kept last is in {result.checkpoint}")
    notices.flush()
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(results).decode())
    return max(result.exit_code for result in results.values())


@app.command()
def deployments(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Of one; all without it.")
    ] = None,
    is_stop: Annotated[
        bool, typer.Option("--stop", help="Stop all services of NAME, and settle them.")
    ] = False,
    is_all: Annotated[
        bool, typer.Option("--all", "-a", help="Those that are over, too.")
    ] = False,
    as_json: JsonOption = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """List deployments, copy by copy, or stop one.

    \b
    Examples:
      sublet deployments
      sublet deployments --stop my-app
    """
    from sublet.base.errors import Refused
    from sublet.workload.deploy.launch import find_copies, hear_copies, stop

    client = make_client(market, home)
    if is_stop:
        if name is None:
            raise Refused("name the deployment", code="no_target", field="NAME")

        async def ask() -> list[str]:
            async with client:
                return await stop(client, name)

        for line in asyncio.run(ask()):
            typer.echo(line)
        return
    from sublet.cli.deploy_text import render_copies

    async def hear() -> list["Copy"]:
        async with client:
            return await hear_copies(client, name or "")

    copies = find_copies(client, name or "")
    if any(one.state == "detached" for one in copies):  # else nobody need be asked
        copies = asyncio.run(hear())
    shown = [one for one in copies if is_all or one.state != "over"]
    typer.echo(render_copies(shown, as_json=as_json))
