"""``sublet provider stake``: what a provider risks for its word."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.cli.provider_option import DEFAULT_HOME, HomeOption, JsonOption

if TYPE_CHECKING:
    from sublet.provider.staking import StakeView, Staking

_GWEI = 10**9


def stake(
    usd: Annotated[
        str | None,
        typer.Argument(metavar="[USD]", help="How much more; none: show it."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Put money up for your word, or show what is up, and the cases against it.

    A provider that signs two documents which contradict each other loses all of it, to
    whoever shows them; a quorum of arbiters may take a part of it for a tenant, after
    three days in which you may appeal. Nothing else takes it, and the market cannot.

    \b
    Examples:
      sublet provider stake
      sublet provider stake 500.00
      sublet provider unstake 200.00    (it comes after seven days)
      sublet provider unstake           (to take what is free by now)
    """
    from sublet.base.units import format_money, parse_money

    if usd is not None:
        amount = parse_money(usd, field="USD")
        _ask(home, lambda staking: staking.put(amount))
        typer.echo(f"{format_money(amount)} more are staked", err=as_json)
    _show(_ask(home, lambda staking: staking.read()), as_json=as_json)


def unstake(
    usd: Annotated[
        str | None,
        typer.Argument(
            metavar="[USD]", help="How much to ask back; none: take what is free."
        ),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Ask stake back, and take it seven days later; until then it stays at risk.

    Asking for more starts the seven days anew for all that was asked back.
    """
    from sublet.base.units import format_money, parse_money

    if usd is None:
        amount = _ask(home, lambda staking: staking.withdraw())
        typer.echo(f"{format_money(amount)} are in your wallet again")
        return
    amount = parse_money(usd, field="USD")
    ready_s = _ask(home, lambda staking: staking.unbond(amount))
    typer.echo(f"asked back; yours from {_time(ready_s)} on: sublet provider unstake")


def appeal(
    case: Annotated[
        str, typer.Argument(metavar="CASE", help="Its id, as stake lists it.")
    ],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Disagree with an arbiters' case, within its three days.

    It then comes to nothing, unless the larger quorum of arbiters upholds it.
    """
    from sublet.cli.chain_option import parse_digest

    case_id = parse_digest(case, "CASE")
    _ask(home, lambda staking: staking.appeal(case_id))
    typer.echo("appealed: now the larger quorum of arbiters has to uphold it")


def _ask(home: Path, ask: "Callable[[Staking], Awaitable[Any]]") -> Any:
    from sublet.provider.staking import open_staking

    place = home.expanduser()

    async def run() -> Any:
        async with open_staking(place) as staking:
            return await ask(staking)

    return asyncio.run(run())


def _time(at_s: int) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_s))


def _show(found: "StakeView", *, as_json: bool) -> None:
    import msgspec

    from sublet.base.units import format_money

    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    typer.echo(
        f"provider   {found.provider}\n"
        f"contract   {found.contract} on chain {found.chain_id}\n"
        f"arbiters   {found.quorum} of {len(found.arbiters)} open a case, "
        f"{found.appeal_quorum} uphold one: {', '.join(found.arbiters)}\n"
        f"wallet     {format_money(found.wallet)}, gas {found.gas_wei // _GWEI} gwei\n"
        f"staked     {format_money(found.bonded)}"
    )
    if found.unbonding:
        is_free = found.now_s >= found.unbonded_at_s
        when = "now" if is_free else f"from {_time(found.unbonded_at_s)} on"
        typer.echo(f"asked back {format_money(found.unbonding)}, yours {when}")
    if found.awarded:
        typer.echo(f"lost       {format_money(found.awarded)}, not paid to tenants yet")
    for case in found.cases:
        state = "appealed" if case.is_appealed else "open"
        typer.echo(
            f"case       {case.id}\n"
            f"           {format_money(case.amount)} for {case.tenant}, {state}; "
            f"it may be executed from {_time(case.executable_at_s)} on\n"
            f"           evidence {case.evidence}"
        )
