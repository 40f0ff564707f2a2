"""``sublet wallet`` and ``sublet cost``."""

import asyncio
from typing import Annotated, Any

import typer

from sublet.cli.option import HOME, HomeOption, JsonOption, MarketOption, make_client

app = typer.Typer(rich_markup_mode=None)
wallet = typer.Typer(rich_markup_mode=None, invoke_without_command=True)
app.add_typer(wallet, name="wallet")


@wallet.callback()
def show_wallet(
    ctx: typer.Context,
    as_json: JsonOption = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Show your address and what you have in the market.

    \b
    Examples:
      sublet wallet
      sublet wallet faucet
    """
    if ctx.invoked_subcommand is not None:
        return
    _show(as_json, market, home, is_faucet=False)


@wallet.command()
def faucet(
    as_json: JsonOption = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Ask the market for credits, where its operator gives them away."""
    _show(as_json, market, home, is_faucet=True)


@wallet.command()
def address(home: HomeOption = HOME) -> None:
    """Show your address; a key is made for you the first time."""
    typer.echo(make_client(None, home).key.address)


@wallet.command()
def trust(market: MarketOption = None, home: HomeOption = HOME) -> None:
    """Accept that there is another market at this address than before.

    What was signed for the old one does not count on the new one, nor the other way.
    """
    client = make_client(market, home)

    async def accept() -> str:
        return await client.trust()

    typer.echo(f"{client.url} is now market {asyncio.run(accept())}")


def _show(as_json: bool, market: str | None, home: Any, *, is_faucet: bool) -> None:
    import msgspec

    from sublet.base.units import format_money
    from sublet.core.mirror import ESCROW

    async def ask() -> Any:
        async with make_client(market, home) as client:
            found = await (client.faucet() if is_faucet else client.account())
            return found, (await client.connection.learn_market()).rail

    found, rail = asyncio.run(ask())
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    typer.echo(
        f"address  {found.party}\n"
        f"balance  {format_money(found.balance)}\n"
        f"held     {format_money(found.held)}\n"
        f"spent    {format_money(found.spent)}\n"
        f"earned   {format_money(found.earned)}"
    )
    if rail == ESCROW:
        typer.echo(
            "That lies in channels; your wallet on the chain: sublet escrow", err=True
        )
    elif not found.balance and not found.held and not is_faucet:
        typer.echo("Where the market has a faucet: sublet wallet faucet", err=True)


@app.command()
def cost(
    job: Annotated[
        str | None,
        typer.Argument(metavar="[JOB]", help="One job; all of them by default."),
    ] = None,
    as_json: JsonOption = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Show what a job cost, per provider, or what all of them cost.

    \b
    Example:
      sublet cost my-job
    """
    import msgspec

    from sublet.base.units import format_money, format_size
    from sublet.workload.bill import find_bill

    async def ask() -> Any:
        client = make_client(market, home)
        records = [client.home.get_job(job)] if job else client.home.read_jobs()
        async with client:
            return await find_bill(client, records)

    lines = asyncio.run(ask())
    if as_json:
        typer.echo(msgspec.json.encode(lines).decode())
        return
    from sublet.cli.output import format_table

    rows = [
        (
            line.job_id,
            line.provider,
            line.machine,
            f"{line.ran_ms / 1_000:.1f}",
            format_money(line.price_hour),
            format_money(line.paid),
            line.outcome,
        )
        for line in lines
    ]
    head = ("JOB", "PROVIDER", "MACHINE", "SECONDS", "PRICE/H", "PAID", "OUTCOME")
    typer.echo(format_table(head, rows))
    typer.echo(f"total {format_money(sum(line.paid for line in lines))}")
    reached = [
        (
            line.job_id,
            row.destination,
            str(row.connections),
            format_size(row.bytes_out),
            format_size(row.bytes_in),
        )
        for line in lines
        if line.egress is not None
        for row in line.egress.rows
    ]
    if reached:
        typer.echo(
            "\n" + format_table(("JOB", "REACHED", "CONNECTIONS", "OUT", "IN"), reached)
        )
