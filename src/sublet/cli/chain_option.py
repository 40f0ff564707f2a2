"""Options of verbs that send to a chain, and what they read."""

import re
from typing import Annotated

import typer

from sublet.base.errors import Refused
from sublet.base.ids import Digest

RpcOption = Annotated[
    str,
    typer.Option(
        "--rpc",
        envvar="SUBLET_RPC",
        metavar="URL",
        help="Of the market's chain; default: the one that the market names.",
    ),
]
StakeOption = Annotated[
    str,
    typer.Option(
        "--stake",
        metavar="0x",
        help="The contract of providers' stake; default: the one that the market names.",
    ),
]


def parse_digest(text: str, field: str) -> Digest:
    """Read 32 bytes in hex.

    Raises:
        Refused: ``bad_digest``.
    """
    found = text.strip().lower()
    if re.fullmatch(r"0x[0-9a-f]{64}", found) is None:
        raise Refused(
            f"{field}: {text[:80]!r} is not 0x and 64 hexadecimal digits",
            code="bad_digest",
            field=field,
        )
    return found
