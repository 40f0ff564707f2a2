"""``sublet dispute slash`` and its like: evidence that is brought to a chain."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.base.errors import Refused
from sublet.cli.chain_option import RpcOption, StakeOption
from sublet.cli.log_option import JsonOption, MarketOption, read_file

if TYPE_CHECKING:
    from sublet.wire.case import CaseFile
    from sublet.wire.dispute import Judgement, Opened
    from sublet.wire.signature import Key
    from sublet.workload.slashing import Slashing

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="Of sublet dispute.")
]
KeyOption = Annotated[
    Path | None,
    typer.Option("--key", help="Who pays the gas; default: your home's key."),
]


def slash(
    file: FileArgument,
    key: KeyOption = None,
    rpc: RpcOption = "",
    stake: StakeOption = "",
    market: MarketOption = "",
    as_json: JsonOption = False,
) -> None:
    """Take a provider's stake with a file that shows that it contradicts itself.

    Anybody may; it costs gas. The contract looks at the two documents itself: two terms
    of one lease, dated within five minutes, or two readings of one number. Half of the
    stake goes to the lease's tenant seven days later (sublet dispute collect), half is
    lost for everybody. What else is wrong is for arbiters: sublet dispute propose.

    \b
    Examples:
      sublet dispute verify evidence.json      (it shows an equivocation)
      sublet dispute slash evidence.json
      sublet dispute collect 3                 (seven days later)
    """
    import msgspec

    from sublet.base.units import format_money
    from sublet.wire.slash import find_slash

    opened, judgement = open_evidence(file)
    found = find_slash(opened, judgement)
    done = ask(
        lambda slashing: slashing.slash(found),
        key=key,
        rpc=rpc,
        stake=stake,
        market=market,
        about=opened,
    )
    if as_json:
        typer.echo(msgspec.json.encode(done).decode())
        return
    typer.echo(
        f"{done.provider} has lost {format_money(done.awarded + done.burnt)}\n"
        f"{format_money(done.awarded)} are for {done.tenant}, from "
        f"{write_time(done.payable_at_s)} on: sublet dispute collect {done.award}\n"
        f"transaction {done.transaction}"
    )


def collect(
    award: Annotated[
        int | None,
        typer.Argument(
            metavar="[AWARD]",
            min=0,
            help="Its number, as slash said; none: what cases granted you.",
        ),
    ] = None,
    key: KeyOption = None,
    rpc: RpcOption = "",
    stake: StakeOption = "",
    chain_id: Annotated[
        int,
        typer.Option("--chain-id", min=0, help="With --rpc and --stake: no market."),
    ] = 0,
    market: MarketOption = "",
) -> None:
    """Have a tenant paid out of a provider's stake; anybody may ask for an award."""
    from sublet.base.units import format_money

    async def take(slashing: "Slashing") -> int:
        if award is None:
            return await slashing.collect_owed()
        return await slashing.collect_award(award)

    amount: int = ask(
        take, key=key, rpc=rpc, stake=stake, market=market, chain_id=chain_id
    )
    whose = "your wallet" if award is None else "the tenant's wallet"
    typer.echo(f"{format_money(amount)} are in {whose}")


# ---- within -----------------------------------------------------------------------


def open_evidence(file: Path) -> "tuple[Opened, Judgement]":
    """Read a file of evidence, and check every byte of it.

    Raises:
        Refused: it cannot be read.
        PeerFault: something in it does not hold.
    """
    from sublet.wire.dispute import FILE_BYTES_MAX, judge, open_dispute

    opened = open_dispute(read_file(file, "FILE", FILE_BYTES_MAX))
    return opened, judge(opened)


def find_key(key: Path | None) -> "tuple[Key, Path]":
    """Give a key, and the folder that it lies in, where its journal is, too."""
    from sublet.adapter.key_file import load_key

    home = Path(os.environ.get("SUBLET_HOME") or "~/.sublet")
    place = (key or home / "key").expanduser()
    return load_key(place), place.parent


def ask(
    what: "Callable[[Slashing], Awaitable[Any]]",
    *,
    key: Path | None,
    rpc: str,
    market: str,
    stake: str = "",
    chain_id: int = 0,
    about: "Opened | CaseFile | None" = None,
) -> Any:
    """Do something at the stake contract with a key of this machine."""
    from sublet.adapter.home_folder import Home
    from sublet.sdk.nodes import parse_urls
    from sublet.wire.case import CaseFile
    from sublet.workload.run.particular import parse_address
    from sublet.workload.slashing import find_place, open_slashing

    signer, home = find_key(key)
    contract = parse_address(stake, "--stake") if stake else ""
    named = escrow = ""
    if isinstance(about, CaseFile):
        chain_id, contract = about.chain_id, about.stake
    elif about is not None:
        chain_id, named = about.market.chain_id, about.dispute.market
        escrow = about.market.contract
    folder = Path(os.environ.get("SUBLET_HOME") or "~/.sublet").expanduser()
    urls = parse_urls(market or Home(folder).read_config().market)

    async def run() -> Any:
        place = await find_place(
            urls, key=signer, rpc=rpc, stake=contract, chain_id=chain_id, market=named
        )
        async with open_slashing(place, key=signer, home=home, escrow=escrow) as it:
            return await what(it)

    return asyncio.run(run())


def write_time(at_s: int) -> str:
    """Write a chain's time for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_s))


def write_file(place: Path, raw: bytes) -> None:
    """Write what ``--output`` names.

    Raises:
        Refused: ``bad_output_file``.
    """
    try:
        place.expanduser().write_bytes(raw)
    except OSError as error:
        raise Refused(
            f"--output: {place} cannot be written ({error.strerror})",
            code="bad_output_file",
            field="--output",
        ) from error
