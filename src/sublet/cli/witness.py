"""``sublet witness``: cosign markets' logs; keep evidence against those that lie.

Exit code of ``once``: 0, every market goes on from what it showed before; 1, one of
them lies; 3, one of them did not answer.
"""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

app = typer.Typer(
    help="Watch markets' logs: cosign them, catch those that show two histories.",
    no_args_is_help=True,
)

DEFAULT_HOME = Path("~/.sublet/witness")
EXIT_LIE = 1
EXIT_UNSEEN = 3

HomeOption = Annotated[
    Path, typer.Option("--home", help="Folder of the witness: key, markets, evidence.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.command()
def init(
    home: HomeOption = DEFAULT_HOME,
    name: Annotated[
        str, typer.Option("--name", help="Name in cosignatures, such as a domain.")
    ] = "sublet-witness",
) -> None:
    """Make the witness's key and config.toml."""
    from sublet.adapter.key_file import create_witness_key
    from sublet.witness.config import CONFIG_FILE, KEY_FILE, write_config

    home = home.expanduser()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_config(home)
    key = create_witness_key(home / KEY_FILE, name=name)
    where = _where(home)
    Console(soft_wrap=True, highlight=False).print(
        f"Witness [bold]{key.verifier_key}[/bold]\n"
        "Give this key to operators and auditors.\n"
        f"Settings: {home / CONFIG_FILE}\n"
        f"Follow a market: sublet witness add http://…{where}\n"
        f"Then: sublet witness start{where}"
    )


@app.command()
def add(
    market: Annotated[
        str,
        typer.Argument(
            metavar="URL[,URL]", help="Address of a node, or of several of one market."
        ),
    ],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Follow a market: learn its id and its log's key now, and hold it to them."""
    from sublet.sdk.log_source import HttpLogSource
    from sublet.sdk.nodes import parse_urls
    from sublet.witness.config import Pin, read_config, write_pin

    home = home.expanduser()
    read_config(home)
    urls = parse_urls(market)
    url = ",".join(urls)
    with HttpLogSource(*urls) as source:
        founded, document = source.read_market()
    pin = Pin(
        url=url, market=founded, verifier_key=document.note_key, name=document.name
    )
    write_pin(home, pin)
    Console(soft_wrap=True, highlight=False).print(
        f"Following market {pin.market}\nat {url}; the key of its log: "
        f"{pin.verifier_key}\nCompare both with what its operator publishes elsewhere. "
        "A running witness takes it up when it is started again."
    )


@app.command()
def start(
    home: HomeOption = DEFAULT_HOME,
    listen: Annotated[
        str, typer.Option("--listen", help="HOST:PORT; port 0 takes any free one.")
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Say that it is ready as one line of JSON.")
    ] = False,
) -> None:
    """Watch and cosign until Ctrl-C or SIGTERM. Logs are JSON lines on stderr."""
    from sublet.node.journal import send_to_stderr
    from sublet.witness.serve import Running, serve

    send_to_stderr()

    def ready(running: Running) -> None:
        if as_json:
            content = msgspec.json.encode(running._asdict()).decode()
            sys.stdout.write(content + "\n")
            sys.stdout.flush()
        else:
            Console(soft_wrap=True, highlight=False).print(
                f"Witness [bold]{running.verifier_key}[/bold]\nat {running.url}, "
                f"following {running.markets} markets (Ctrl-C stops)"
            )

    async def run() -> None:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("asyncio.run runs this in a task")
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        try:
            await serve(home.expanduser(), listen=listen, ready=ready)
        except asyncio.CancelledError:
            return  # told to stop, and stopped in order

    asyncio.run(run())


@app.command()
def once(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Look at every market once, for a timer; exit 1 where one lies."""
    from sublet.witness.serve import look_once

    seen = asyncio.run(look_once(home.expanduser()))
    if as_json:
        typer.echo(msgspec.json.encode([each._asdict() for each in seen]).decode())
    else:
        console = Console(soft_wrap=True, highlight=False)
        for each in seen:
            console.print(f"{each.market} ", end="")
            said = f"{each.size} entries cosigned" if not each.code else each.message
            console.print(said, markup=False)
    codes = [each.code for each in seen if each.code]
    if any(code.startswith("log_") for code in codes):
        raise typer.Exit(EXIT_LIE)
    raise typer.Exit(EXIT_UNSEEN if codes else 0)


def _where(home: Path) -> str:
    return "" if home == DEFAULT_HOME.expanduser() else f" --home {home}"
