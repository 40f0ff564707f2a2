"""``sublet devchain``: a chain of one's own, to try the escrow rail on."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

app = typer.Typer(
    help="A chain for development: anvil, contracts, test tokens and a faucet.",
    no_args_is_help=True,
)

DEFAULT_HOME = Path("~/.sublet/devchain")
RPC = "http://127.0.0.1:8545"


@app.command()
def start(
    home: Annotated[
        Path, typer.Option("--home", metavar="FOLDER", help="Of its state; kept.")
    ] = DEFAULT_HOME,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Of the loopback; 0: any.")
    ] = 8545,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
) -> None:
    """Run a chain until Ctrl-C; what is on it is there again the next time.

    It is worth nothing, and everybody knows its keys: it listens on this machine alone.
    Keys of the stake's three arbiters lie in its home: arbiter-1, arbiter-2, arbiter-3.

    \b
    Then, in other terminals:
      sublet devchain fund 0x...
      sublet node init --rpc http://127.0.0.1:8545 --chain-id 31337 ...
    """
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(_serve(home.expanduser(), port, as_json=as_json))


async def _serve(home: Path, port: int, *, as_json: bool) -> None:
    from sublet.adapter.devchain import DevChain

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with DevChain(home, port=port) as chain:
        told = {
            "rpc": chain.rpc_url,
            "chain_id": chain.chain_id,
            "contract": chain.escrow,
            "token": chain.token,
            "stake": chain.stake,
            "render": chain.render,
            "converter": chain.converter,
        }
        if as_json:
            sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
        else:
            for name, value in told.items():
                sys.stdout.write(f"{name:<9} {value}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


@app.command()
def fund(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whose wallet.")],
    usdc: Annotated[
        str, typer.Option("--usdc", metavar="USD", help="How much of the test token.")
    ] = "100.00",
    render: Annotated[
        str,
        typer.Option(
            "--render", metavar="N", help="How much of a test token with a price."
        ),
    ] = "0",
    rpc: Annotated[
        str, typer.Option("--rpc", metavar="URL", help="Of the chain.")
    ] = RPC,
) -> None:
    """Give a wallet test tokens, and money for gas.

    \b
    Examples:
      sublet devchain fund $(sublet wallet address)
      sublet devchain fund 0x1234... --render 250
    """
    from sublet.adapter.devchain import DevChain
    from sublet.base.units import format_money, parse_money
    from sublet.cli.token_prices import parse_units
    from sublet.workload.run.particular import parse_address

    amount = parse_money(usdc, field="--usdc")
    units = parse_units(render, 18, name="RENDER", field="--render")
    party = parse_address(address, "ADDRESS")

    async def give() -> None:
        async with DevChain(None, rpc_url=rpc) as chain:
            await chain.fund(party, usdc=amount, render=units)

    asyncio.run(give())
    more = f" and {render} test RENDER" if units else ""
    typer.echo(f"{party} has {format_money(amount)} more of the test token{more}")
