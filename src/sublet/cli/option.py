"""Options that several verbs share, and the client that they make."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sublet.workload.client import AsyncClient

MarketOption = Annotated[
    str | None,
    typer.Option(
        "--market",
        envvar="SUBLET_MARKET",
        metavar="URL",
        help="The market, or several of its nodes with commas between; default: as "
        "config.toml says, or http://127.0.0.1:8470.",
    ),
]
HomeOption = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar="SUBLET_HOME",
        metavar="FOLDER",
        help="Where your key, jobs and channels are kept.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]

HOME = Path("~/.sublet")

ImageOption = Annotated[
    str | None,
    typer.Option(
        "--image",
        metavar="REF",
        help="An image to run in: python:3.12, ghcr.io/owner/name@sha256:…, or a file "
        "of yours: oci-archive:FILE, docker-archive:FILE, dir:FILE (a root folder as "
        "one tar).",
    ),
]
MaxTotalOption = Annotated[
    str | None,
    typer.Option(
        "--max-total", metavar="USD", help="Most that it may cost.  [default: 1.00]"
    ),
]
TimeoutOption = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="Longest run.  [default: 1h]"),
]
MachinesOption = Annotated[
    int | None,
    typer.Option(
        "--machines",
        metavar="N",
        help="So many machines at once, each with what is asked for: all or none.",
    ),
]
ApartOption = Annotated[
    list[str] | None,
    typer.Option(
        "--apart",
        metavar="THING",
        help="Of these no two machines share one: provider, region or network.",
    ),
]
TogetherOption = Annotated[
    str | None,
    typer.Option(
        "--together",
        metavar="TIME",
        help="Longest latency between two machines, such as 10ms.",
    ),
]


def make_client(market: str | None, home: Path) -> "AsyncClient":
    """Make the tenant's client; a new key is told of."""
    from sublet.workload.client import AsyncClient

    client = AsyncClient(market, home=home)
    if client.is_new:
        typer.echo(
            f"sublet: made a key for you: {client.key.address}\n"
            f"sublet: it is kept in {client.home.key_path}; whoever has it spends your "
            "money",
            err=True,
        )
    return client


def parse_listen(text: str, *, example: str) -> tuple[str, int]:
    """Read ``--listen``: a host, in brackets where it is IPv6, and a port.

    Raises:
        Refused: ``bad_listen``; the message shows the example.
    """
    from sublet.base.errors import Refused

    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) >= 1 << 16:
        raise Refused(
            f"--listen: {text[:80]!r} is not HOST:PORT, such as {example}",
            code="bad_listen",
            field="--listen",
        )
    return host.strip("[]"), int(port)
