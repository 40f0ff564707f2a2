"""``sublet escrow``: a tenant's deposits on the chain."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.base.errors import Refused
from sublet.cli.chain_option import RpcOption
from sublet.cli.option import HOME, HomeOption, JsonOption, MarketOption, make_client

if TYPE_CHECKING:
    from sublet.sdk.connection import Connection
    from sublet.wire.exchange import TokenQuote
    from sublet.workload.conversion import Converted
    from sublet.workload.escrow import Holdings, TenantEscrow

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True)

ProviderArgument = Annotated[
    str,
    typer.Argument(metavar="PROVIDER", help="Its address, as sublet escrow has it."),
]
_GWEI = 10**9


@app.callback()
def show(
    ctx: typer.Context,
    rpc: RpcOption = "",
    as_json: JsonOption = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Show what of yours lies on the chain, in the wallet and in which channel.

    Jobs deposit by themselves what they may cost, and what they leave pays for the next
    one on the same machine. To have it back, ask; the provider then has a day or so (the
    market says how long) to claim what you owe it.

    \b
    Examples:
      sublet escrow
      sublet escrow deposit 0x1234... 25.00
      sublet escrow convert 0x1234... RENDER 12.5
      sublet escrow withdraw 0x1234...
      sublet escrow finish 0x1234...
    """
    if ctx.invoked_subcommand is not None:
        return
    _print(_ask(market, home, rpc, lambda escrow: escrow.read()), as_json=as_json)


@app.command()
def deposit(
    provider: ProviderArgument,
    usd: Annotated[str, typer.Argument(metavar="USD", help="How much.")],
    rpc: RpcOption = "",
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Put more into the channel to a provider, before a job asks for it.

    Where your home has sources of prices (prices.toml), it is refused while they say
    that the market's token is no dollar.
    """
    from sublet.adapter.price_watch import check_dollar
    from sublet.base.units import format_money, parse_money

    amount, party = parse_money(usd, field="USD"), _party(provider)

    async def put(escrow: "TenantEscrow") -> None:
        await check_dollar(home.expanduser(), escrow.market.token)
        await escrow.deposit(party, amount)

    _ask(market, home, rpc, put)
    typer.echo(f"{format_money(amount)} more in the channel to {party}")


@app.command()
def convert(
    provider: ProviderArgument,
    token: Annotated[
        str, typer.Argument(metavar="TOKEN", help="As your prices.toml names it.")
    ],
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="How many tokens, such as 12.5.")
    ],
    max_slip: Annotated[
        str,
        typer.Option(
            "--max-slip",
            metavar="SHARE",
            help="How much less than by your own sources it may be.",
        ),
    ] = "1%",
    feeds: Annotated[
        Path | None,
        typer.Option(
            "--feeds",
            metavar="FILE",
            help="Tokens and their sources; default: prices.toml in your home.",
        ),
    ] = None,
    rpc: RpcOption = "",
    as_json: JsonOption = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Give tokens for dollars in the channel to a provider, at once or not at all.

    The operator says what it gives. That is checked against at least two sources of your
    own, whose guard has to be ok: keep sublet prices token --watch running for a quarter
    of an hour before. It needs a little of the chain's coin for gas.

    \b
    Examples:
      sublet escrow convert 0x1234... RENDER 12.5
      sublet escrow convert 0x1234... RENDER 12.5 --max-slip 0.5%
    """
    import msgspec

    from sublet.base.units import format_money
    from sublet.cli.token_prices import parse_units
    from sublet.workload import conversion

    party, slip_bps = _party(provider), _parse_share(max_slip, field="--max-slip")

    async def give(escrow: "TenantEscrow") -> "Converted":
        seen = await conversion.look_up(home.expanduser(), feeds)
        own_token = conversion.find_token(seen, token)
        units = parse_units(amount, own_token.decimals, name=token, field="AMOUNT")
        own = conversion.value_own(seen, own_token, units, dollar=escrow.market.token)

        def say(quote: "TokenQuote") -> None:
            typer.echo(
                f"{amount} {token} for {format_money(quote.dollars)} in the channel; by "
                f"your own sources it is worth {format_money(own.value)}",
                err=True,
            )

        return await conversion.convert(
            escrow, party, token=own_token, own=own, slip_bps=slip_bps, say=say
        )

    done: Converted = _ask(market, home, rpc, give)
    if as_json:
        typer.echo(msgspec.json.encode(done).decode())
        return
    typer.echo(
        f"{format_money(done.dollars)} came into the channel to {party}; "
        f"{format_money(done.left)} are there now"
    )


@app.command()
def withdraw(
    provider: ProviderArgument,
    usd: Annotated[
        str | None,
        typer.Option("--amount", metavar="USD", help="How much; all of it by default."),
    ] = None,
    rpc: RpcOption = "",
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Ask money back of a channel; jobs that it was to pay for end.

    It comes with sublet escrow finish, once the provider has had its time to claim.
    """
    import time

    from sublet.base.units import parse_money

    party = _party(provider)
    amount = None if usd is None else parse_money(usd, field="--amount")
    ready_s = _ask(market, home, rpc, lambda escrow: escrow.withdraw(party, amount))
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ready_s))
    typer.echo(f"asked back; yours from {when} on: sublet escrow finish {party}")


@app.command()
def finish(
    provider: ProviderArgument,
    rpc: RpcOption = "",
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Take what was asked back, once the delay is over."""
    from sublet.base.units import format_money

    party = _party(provider)
    amount = _ask(market, home, rpc, lambda escrow: escrow.finish(party))
    typer.echo(f"{format_money(amount)} are in your wallet again")


@app.command()
def lines(
    first: Annotated[
        int, typer.Option("--from-block", min=0, help="The first block to look at.")
    ] = 0,
    ether_usd: Annotated[
        str | None,
        typer.Option("--ether-usd", metavar="USD", help="What gas is counted at."),
    ] = None,
    provider_home: Annotated[
        Path | None,
        typer.Option(
            "--provider-home", metavar="FOLDER", help="Of a provider: its own lines."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; default: here.")
    ] = None,
    rpc: RpcOption = "",
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Write what moved on the chain, for sublet statement --chain FILE.

    \b
    Example:
      sublet escrow lines --output chain.jsonl
      sublet statement --year 2026 --chain chain.jsonl -o 2026.pdf
    """
    import msgspec

    from sublet.adapter.chain_sender import JOURNAL_FILE
    from sublet.base.units import parse_money
    from sublet.workload.chain_lines import export_lines

    price = None if ether_usd is None else parse_money(ether_usd, field="--ether-usd")

    async def read() -> Any:
        if provider_home is None:
            client = make_client(market, home)
            connection, journal = client.connection, client.home.path / JOURNAL_FILE
        else:
            connection = _connect_provider(provider_home.expanduser())
            journal = provider_home.expanduser() / JOURNAL_FILE
        async with connection:
            return await export_lines(
                connection,
                journal=journal,
                rpc=rpc,
                first=first,
                ether_usd=price,
                say=lambda text: typer.echo(f"sublet: {text}", err=True),
            )

    text = "".join(
        msgspec.json.encode(line).decode() + "\n" for line in asyncio.run(read())
    )
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


def _connect_provider(home: Path) -> "Connection":
    from sublet.adapter.clock_system import SystemClock
    from sublet.adapter.key_file import load_key
    from sublet.provider.config import read_config
    from sublet.sdk.connection import Connection
    from sublet.sdk.nodes import parse_urls

    urls = parse_urls(read_config(home).market)
    return Connection(*urls, key=load_key(home / "key"), clock=SystemClock())


def _parse_share(text: str, *, field: str) -> int:
    """Read ``1%`` or ``0.25%`` as hundredths of a percent."""
    match = re.fullmatch(r"([0-9]{1,2})(?:\.([0-9]{1,2}))?%", text.strip())
    if match is None:
        raise Refused(
            f"{field}: {text[:40]!r} is not a share; write it like 1% or 0.25%",
            code="bad_share",
            field=field,
        )
    return int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))


def _party(text: str) -> str:
    from sublet.workload.run.particular import parse_address

    return parse_address(text, "PROVIDER")


def _ask(
    market: str | None,
    home: Path,
    rpc: str,
    ask: "Callable[[TenantEscrow], Awaitable[Any]]",
) -> Any:
    from sublet.workload.escrow import open_escrow

    async def run() -> Any:
        async with (
            make_client(market, home) as client,
            open_escrow(client, rpc=rpc) as escrow,
        ):
            return await ask(escrow)

    return asyncio.run(run())


def _print(found: "Holdings", *, as_json: bool) -> None:
    import msgspec

    from sublet.base.units import format_money
    from sublet.cli.output import format_table

    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    typer.echo(
        f"address  {found.address}\n"
        f"chain    {found.chain_id}\n"
        f"token    {found.token}\n"
        f"wallet   {format_money(found.wallet)}\n"
        f"gas      {found.gas_wei // _GWEI} gwei"
    )
    if not found.channels:
        typer.echo("no channels yet: the first job with a provider opens one", err=True)
        return
    rows = [
        (
            line.provider,
            format_money(line.balance - line.claimed),
            format_money(line.claimed),
            format_money(line.withdrawing),
        )
        for line in found.channels
    ]
    typer.echo("\n" + format_table(("PROVIDER", "LEFT", "CLAIMED", "ASKED BACK"), rows))
