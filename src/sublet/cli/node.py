"""``sublet node``: make and run a market node."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from sublet.base.units import parse_money

app = typer.Typer(
    help="Run a market: an API, a log that anyone can check, a relay.",
    no_args_is_help=True,
)

DEFAULT_HOME = Path("~/.sublet/node")
NOTE_KEY_NAME = "sublet-market"

HomeOption = Annotated[
    Path, typer.Option("--home", help="Folder of the node: keys, config.toml, log.")
]


@app.command()
def init(
    home: HomeOption = DEFAULT_HOME,
    name: Annotated[
        str, typer.Option("--name", help="What people call this market.")
    ] = "local",
    faucet: Annotated[
        str, typer.Option("--faucet", help="US dollars of credit for each new tenant.")
    ] = "0.00",
    rpc: Annotated[
        str,
        typer.Option("--rpc", metavar="URL", help="Money lies on this RPC's chain."),
    ] = "",
    chain_id: Annotated[
        int, typer.Option("--chain-id", min=0, help="Of that chain; Base is 8453.")
    ] = 0,
    contract: Annotated[
        str, typer.Option("--contract", metavar="0x", help="The escrow contract there.")
    ] = "",
    dollar: Annotated[
        str, typer.Option("--token", metavar="0x", help="The dollar token, as USDC.")
    ] = "",
    confirmations: Annotated[
        int,
        typer.Option("--confirmations", min=0, help="Blocks until a deposit counts."),
    ] = 12,
    public_rpc: Annotated[
        str,
        typer.Option(
            "--public-rpc", metavar="URL", help="An RPC that tenants may use."
        ),
    ] = "",
    stake: Annotated[
        str,
        typer.Option(
            "--stake", metavar="0x", help="The contract of providers' stake there."
        ),
    ] = "",
) -> None:
    """Make the operator's key, the checkpoint key and config.toml.

    A market's money is credits of its own or, with --rpc, what lies in an escrow
    contract that nobody controls.

    \b
    Examples:
      sublet node init --faucet 10.00
      sublet node init --rpc https://mainnet.base.org --chain-id 8453 \\
        --contract 0x... --token 0x833589fcd6edb6e08f4c7c32d4f71b54bda02913
    """
    from sublet.adapter.key_file import create_note_key, load_or_create_key
    from sublet.node.config import (
        CONFIG_FILE,
        EscrowChoice,
        compose_config,
        write_config,
    )

    home = home.expanduser()
    amount = parse_money(faucet, field="--faucet")
    escrow = None
    if rpc or chain_id or contract or dollar:
        escrow = EscrowChoice(
            rpc,
            chain_id,
            contract.lower(),
            dollar.lower(),
            confirmations,
            public_rpc,
            stake.lower(),
        )
    # Refuse before writing.
    compose_config(home, name=name, faucet=amount, escrow=escrow)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_config(home, name=name, faucet=amount, escrow=escrow)
    key = load_or_create_key(home / "key")
    create_note_key(home / "note_key", name=NOTE_KEY_NAME)
    where = "" if home == DEFAULT_HOME.expanduser() else f" --home {home}"
    Console(soft_wrap=True, highlight=False).print(
        f"Operator [bold]{key.address}[/bold]. Keep {home / 'key'} safe: whoever\n"
        "holds it is the operator, and nobody can give you another.\n"
        f"Settings: {home / CONFIG_FILE}\n"
        f"Start it with: sublet node start{where}"
    )


@app.command()
def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The copy; it must not exist yet.")
    ],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Copy the log into FILE while the node runs; the keys are not in it.

    To restore: FILE as log.db into a home with the same keys and config.toml, then
    start the node there.
    """
    from sublet.adapter.log_backup import back_up
    from sublet.base.errors import Refused
    from sublet.node.compose import LOG_FILE
    from sublet.node.config import read_config

    home = home.expanduser()
    if read_config(home).log_url:
        raise Refused(
            "this node's log is in PostgreSQL; back it up with: pg_dump -Fc -n sublet",
            code="log_elsewhere",
            field="log.url",
        )
    entries = back_up(home / LOG_FILE, file.expanduser())
    Console(soft_wrap=True, highlight=False).print(
        f"{entries} entries are in {file}. Check them: sublet audit verify --log {file}\n"
        f"The keys are not in it; keep copies of {home / 'key'} and {home / 'note_key'}."
    )


@app.command("upgrade")
def upgrade_market(
    home: HomeOption = DEFAULT_HOME,
    market: Annotated[
        str,
        typer.Option(
            "--market",
            metavar="URL[,URL]",
            help="Nodes of the market; unless you say, those of config.toml.",
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
) -> None:
    """Let the rules of a new version hold, once every node runs its program.

    Until then new programs keep to the old rules, and you may go back to the old
    program. Afterwards a program that does not read the new version stops.
    """
    from sublet.cli.upgrade import upgrade
    from sublet.node.config import read_config
    from sublet.sdk.nodes import parse_urls

    home = home.expanduser()
    config = read_config(home)
    scheme = "https" if config.tls_cert else "http"
    own = f"{scheme}://{config.host}:{config.port}"
    urls = parse_urls(market) if market else config.nodes or (own,)
    done = asyncio.run(upgrade(home, urls))
    if as_json:
        sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
        return
    console = Console(soft_wrap=True, highlight=False)
    for url in done.away:
        console.print(
            f"[yellow]{url} does not answer; with an older program it will stop.[/yellow]"
        )
    if done.index < 0:
        console.print(
            f"The market is at version {done.version}, and the programs at "
            f"{', '.join(done.nodes)} know no later one: nothing to do."
        )
    else:
        console.print(f"Version {done.version} holds from entry {done.index} on.")


@app.command()
def start(
    home: HomeOption = DEFAULT_HOME,
    listen: Annotated[
        str, typer.Option("--listen", help="HOST:PORT; port 0 takes any free one.")
    ] = "",
    tls_cert: Annotated[
        str, typer.Option("--tls-cert", help="Certificate chain, PEM.")
    ] = "",
    tls_key: Annotated[str, typer.Option("--tls-key", help="Its key, PEM.")] = "",
    log: Annotated[
        str,
        typer.Option(
            "--log",
            metavar="URL",
            help="A PostgreSQL database for the log; several nodes may share it.",
        ),
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Say that it is ready as one line of JSON.")
    ] = False,
) -> None:
    """Serve the market until Ctrl-C or SIGTERM. Logs are JSON lines on stderr."""
    from sublet.node.config import read_config
    from sublet.node.journal import send_to_stderr
    from sublet.node.serve import Running, serve

    flags: dict[str, object] = {
        "listen": listen,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "log": {"url": log} if log else "",
    }
    config = read_config(
        home.expanduser(), overrides={key: flag for key, flag in flags.items() if flag}
    )
    send_to_stderr()

    def ready(running: Running) -> None:
        if as_json:
            sys.stdout.write(msgspec.json.encode(running).decode() + "\n")
            sys.stdout.flush()
        else:
            Console().print(
                f"Market [bold]{running.market}[/bold]\nat {running.url} (Ctrl-C stops)",
                soft_wrap=True,
                highlight=False,
            )

    async def run() -> None:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("asyncio.run runs this in a task")
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            await serve(config, ready=ready)
        except asyncio.CancelledError:
            return  # told to stop, and stopped in order

    asyncio.run(run())


@app.command()
def maker(
    home: HomeOption = DEFAULT_HOME,
    allow: Annotated[
        str | None,
        typer.Option(
            "--allow", metavar="USD", help="Let the converter take so much from now on."
        ),
    ] = None,
    is_deploying: Annotated[
        bool,
        typer.Option(
            "--deploy", help="Put the converter on the chain, where nobody has."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Show what the maker's key in config.toml can give for tokens, or change it.

    The dollars stay in its wallet. The converter takes them against quotes of this key
    alone, and puts them into tenants' channels. 0 lets it take nothing.

    \b
    Examples:
      sublet node maker
      sublet node maker --deploy --allow 500.00
    """
    from sublet.base.units import format_money
    from sublet.node.config import read_config
    from sublet.node.maker_wallet import read_wallet

    amount = None if allow is None else parse_money(allow, field="--allow")
    config = read_config(home.expanduser())
    found = asyncio.run(read_wallet(config, allow=amount, is_deploying=is_deploying))
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        return
    sys.stdout.write(
        f"address    {found.address}\n"
        f"converter  {found.converter}\n"
        f"dollars    {format_money(found.dollars)}\n"
        f"allowed    {format_money(found.allowed)}\n"
        f"gas        {found.gas_wei // 10**9} gwei\n"
    )
