"""``sublet sell``: an HTTP service for programs that pay by x402."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from sublet.cli.option import parse_listen

if TYPE_CHECKING:
    from sublet.gateway.serve import Sale

app = typer.Typer(rich_markup_mode=None)

# As every client of x402 has them built in.
X402_ESCROW = "0x4020074e9df2ce1dee5a9c1b5c3f541d02a10003"
X402_COLLECTOR = "0x4020806089470a89826cb9fb1f4059150b550004"


@app.command()
def sell(
    upstream: Annotated[
        str, typer.Argument(metavar="URL", help="The service: http://127.0.0.1:8000")
    ],
    price: Annotated[str, typer.Option("--price", metavar="USD", help="Of a request.")],
    rpc: Annotated[
        str,
        typer.Option("--rpc", envvar="SUBLET_RPC", metavar="URL", help="Of the chain."),
    ],
    chain_id: Annotated[int, typer.Option("--chain-id", min=1, help="Base is 8453.")],
    dollar: Annotated[
        str, typer.Option("--token", metavar="0x", help="The dollar token, as USDC.")
    ],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Of the gateway.")
    ] = "127.0.0.1:8402",
    free: Annotated[
        list[str] | None,
        typer.Option("--free", metavar="PATH", help="Costs nothing; again for more."),
    ] = None,
    escrow: Annotated[
        str, typer.Option("--escrow", metavar="0x", help="Default: where x402's is.")
    ] = X402_ESCROW,
    collector: Annotated[
        str, typer.Option("--collector", metavar="0x", help="Of deposits, likewise.")
    ] = X402_COLLECTOR,
    deposit_min: Annotated[
        str, typer.Option("--deposit", metavar="USD", help="The least that is taken.")
    ] = "0.10",
    delay: Annotated[
        str,
        typer.Option(
            "--delay", metavar="TIME", help="To claim in, after a payer asks back."
        ),
    ] = "24h",
    confirmations: Annotated[
        int,
        typer.Option("--confirmations", min=0, help="Blocks until a deposit counts."),
    ] = 12,
    ether_usd: Annotated[
        str,
        typer.Option(
            "--ether-usd",
            metavar="USD",
            help="What gas is counted at: claims wait for 100 times that.",
        ),
    ] = "",
    home: Annotated[
        Path,
        typer.Option("--home", metavar="FOLDER", help="Of key, journal and tabs."),
    ] = Path("~/.sublet/sell"),
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
) -> None:
    """Ask payment by x402 in front of an HTTP service, and claim it.

    Payers deposit by a signature, and then sign a growing voucher with each request. The
    key in --home is paid and pays the gas. What the service fails at (400 and above)
    costs nothing. Ctrl-C finishes what is under way; vouchers are kept and claimed the
    next time.

    \b
    Example:
      sublet sell http://127.0.0.1:8000 --price 0.001 --free /health \\
        --rpc https://mainnet.base.org --chain-id 8453 \\
        --token 0x833589fcd6edb6e08f4c7c32d4f71b54bda02913
    """
    from sublet.adapter.chain_place import ChainPlace
    from sublet.base.units import parse_duration, parse_money
    from sublet.gateway.serve import Sale
    from sublet.workload.run.particular import parse_address

    host, port = parse_listen(listen, example="0.0.0.0:8402")
    sale = Sale(
        upstream=_check_upstream(upstream),
        host=host,
        port=port,
        price=_check_price(parse_money(price, field="--price")),
        free=tuple(free or ()),
        chain_id=chain_id,
        place=ChainPlace(rpc=(rpc,), confirmations=confirmations, ether_usd=ether_usd),
        escrow=parse_address(escrow, "--escrow"),
        collector=parse_address(collector, "--collector"),
        token=parse_address(dollar, "--token"),
        deposit_min=parse_money(deposit_min, field="--deposit"),
        withdraw_delay_s=parse_duration(delay, field="--delay"),
    )
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(_serve(home.expanduser(), sale, as_json=as_json))


async def _serve(home: Path, sale: "Sale", *, as_json: bool) -> None:
    from sublet.gateway.serve import Selling, serve

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)

    def tell(selling: Selling) -> None:
        if as_json:
            sys.stdout.write(msgspec.json.encode(selling).decode() + "\n")
        else:
            sys.stdout.write(
                f"Selling {sale.upstream} at {selling.url}\n"
                f"Paid to {selling.receiver}; it needs the chain's own coin for gas.\n"
            )
        sys.stdout.flush()

    await serve(home, sale, ready=tell)


def _check_price(price: int) -> int:
    from sublet.base.errors import Refused

    if price <= 0:
        raise Refused(
            "--price: a request costs $0.000001 or more; what is free needs no gateway",
            code="zero_price",
            field="--price",
        )
    return price


def _check_upstream(text: str) -> str:
    from urllib.parse import urlsplit

    from sublet.base.errors import Refused

    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise Refused(
            f"{text[:80]!r} is no service's address; write it like http://127.0.0.1:8000",
            code="bad_upstream",
            field="URL",
        )
    return text
