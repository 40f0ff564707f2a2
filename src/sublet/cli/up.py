"""``sublet up``: a market of your own, in one terminal.

A node, some providers and a funded tenant on this machine, and a live view of them.
Not here: the parties (``local_market``), the view (``console``).
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from sublet.cli.handover import SOCKET_NAME
from sublet.cli.local_market import LocalMarket, interrupt_once
from sublet.console.screen import follow_live
from sublet.console.watch import Watch

app = typer.Typer(rich_markup_mode=None)

PROVIDERS_MAX = 16
WARM_GRACE_S = 3


@app.command()
def up(
    providers: Annotated[
        int,
        typer.Option("--providers", min=1, max=PROVIDERS_MAX, help="How many."),
    ] = 3,
    home: Annotated[
        Path,
        typer.Option("--home", metavar="FOLDER", help="Of the market; kept."),
    ] = Path("~/.sublet/up"),
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Of the node.")
    ] = "127.0.0.1:8470",
    has_chain: Annotated[
        bool,
        typer.Option(
            "--devchain", help="Money on a chain: anvil, an escrow, test USDC."
        ),
    ] = False,
    is_plain: Annotated[
        bool, typer.Option("--plain", help="Lines instead of a picture.")
    ] = False,
) -> None:
    """Start a market for development: a node, providers, a funded tenant.

    Then, in another terminal, sublet run finds it by itself. Ctrl-C stops all of it;
    the market's log and everybody's keys stay in --home for the next time.

    With --devchain, money lies on a chain of your own: providers are paid by an escrow
    contract, and you have test USDC. A market has one rail for good: another --home
    for the other.
    """
    console = Console(highlight=False)
    tenant_home = Path(os.environ.get("SUBLET_HOME") or "~/.sublet").expanduser()
    check_asked = interrupt_once()
    market = LocalMarket(
        home.expanduser(),
        providers=providers,
        tenant_home=tenant_home,
        listen=listen,
        has_chain=has_chain,
        say=lambda text: console.print(text, style="dim"),
    )

    def check() -> None:
        check_asked()
        market.check()

    try:
        with market, WarmProcess(tenant_home):
            foot = Text(
                "In another terminal:  sublet run -- echo hello      Ctrl-C stops the "
                "market",
                style="dim",
            )
            if is_plain or not console.is_terminal:
                console.print(f"ready: {market.url}")
            follow_live(
                Watch(url=market.url),
                console=console,
                foot=foot,
                is_plain=is_plain,
                check=check,
            )
    except KeyboardInterrupt:
        console.print("stopped", style="dim")


class WarmProcess:
    """The fork server that makes ``sublet run`` quick, while the context lasts."""

    def __init__(self, tenant_home: Path) -> None:
        """Take the home that its socket lies in."""
        self._socket = tenant_home / SOCKET_NAME
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> None:
        program = "import sys; from sublet.cli.warm import serve_warm; serve_warm(sys.argv[1])"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(self._socket)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(WARM_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._socket.unlink(missing_ok=True)
