"""``sublet dispute propose`` and what follows: arbiters' cases against a stake."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sublet.base.errors import Refused
from sublet.cli.chain_option import RpcOption, StakeOption
from sublet.cli.dispute_chain import (
    FileArgument,
    KeyOption,
    ask,
    find_key,
    open_evidence,
    write_file,
    write_time,
)
from sublet.cli.log_option import MarketOption, read_file

if TYPE_CHECKING:
    from sublet.wire.case import CaseFile
    from sublet.workload.slashing import Slashing

CasesArgument = Annotated[
    list[Path],
    typer.Argument(metavar="CASE...", help="The signed copies of one case."),
]


def propose(
    file: FileArgument,
    amount: Annotated[
        str, typer.Option("--amount", metavar="USD", help="For the lease's tenant.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The case; default: case-….json."),
    ] = None,
    key: KeyOption = None,
    rpc: RpcOption = "",
    stake: StakeOption = "",
    market: MarketOption = "",
) -> None:
    """Write a case: a part of a provider's stake for a tenant, if arbiters agree.

    It names the evidence by its SHA-256. Arbiters get both files, and sign; a quorum of
    them opens the case, its provider has three days to appeal, and after an appeal a
    larger quorum has to uphold it.

    \b
    Examples:
      sublet dispute propose evidence.json --amount 12.50 -o case.json
      sublet dispute sign case.json evidence.json --key arbiter-1   (each on a copy)
      sublet dispute open case-1.json case-2.json
      sublet dispute execute case-1.json case-2.json    (three days later)
      sublet dispute collect                            (the tenant)
    """
    from sublet.base.units import format_money, parse_money
    from sublet.wire.case import make_case, write_case
    from sublet.wire.dispute import FILE_BYTES_MAX, hash_dispute

    wanted = parse_money(amount, field="--amount")
    opened, judgement = open_evidence(file)
    lease = judgement.retold.lease
    if lease is None:
        raise Refused(
            "the evidence shows no lease, so there is no provider to ask",
            code="no_lease",
            field="FILE",
        )
    evidence = hash_dispute(read_file(file, "FILE", FILE_BYTES_MAX))

    async def make(slashing: "Slashing") -> "CaseFile":
        free = (await slashing.stake.holding(lease.provider)).free
        if not 0 < wanted <= free:
            raise Refused(
                f"{lease.provider} has {format_money(free)} at stake that no case asks "
                "for yet; ask for no more, and above zero",
                code="over_stake",
                field="--amount",
            )
        return make_case(
            chain_id=opened.market.chain_id,
            stake=slashing.stake.address,
            provider=lease.provider,
            tenant=lease.tenant,
            amount=wanted,
            evidence=evidence,
            salt="0x" + secrets.token_hex(32),
        )

    case: CaseFile = ask(
        make, key=key, rpc=rpc, stake=stake, market=market, about=opened
    )
    place = output or Path(f"case-{case.id[2:14]}.json")
    write_file(place, write_case(case))
    typer.echo(
        f"{place}: {format_money(wanted)} of {case.provider} for {case.tenant}\n"
        f"case {case.id}\n"
        f"Arbiters sign copies of it: sublet dispute sign {place} {file}"
    )


def sign(
    case: Annotated[Path, typer.Argument(metavar="CASE", help="Of propose.")],
    file: FileArgument,
    is_confirming: Annotated[
        bool,
        typer.Option("--confirm", help="Uphold it after its provider has appealed."),
    ] = False,
    key: KeyOption = None,
) -> None:
    """Sign a case as an arbiter, having looked at its evidence; needs no network.

    The evidence is checked as by sublet dispute verify, and has to be about the case's
    parties. Whether it is worth the amount is for you to judge.
    """
    from sublet.adapter import private_file
    from sublet.wire.case import sign_case, write_case
    from sublet.wire.dispute import FILE_BYTES_MAX, hash_dispute

    found = _read(case)
    if hash_dispute(read_file(file, "FILE", FILE_BYTES_MAX)) != found.evidence:
        raise Refused(
            f"{file} is not the evidence of this case, whose SHA-256 is {found.evidence}",
            code="other_evidence",
            field="FILE",
        )
    lease = open_evidence(file)[1].retold.lease
    if lease is None or (lease.provider, lease.tenant) != (
        found.provider,
        found.tenant,
    ):
        raise Refused(
            "the evidence is about others than the case names; do not sign it",
            code="other_evidence",
            field="FILE",
        )
    signer, _ = find_key(key)
    signed = sign_case(found, key=signer, is_confirming=is_confirming)
    private_file.write(case, write_case(signed))
    whose = signed.confirming if is_confirming else signed.opening
    typer.echo(f"{signer.address} has signed; {len(whose)} signatures are in {case}")


def open_(
    cases: CasesArgument,
    key: KeyOption = None,
    rpc: RpcOption = "",
    market: MarketOption = "",
) -> None:
    """Open a case that a quorum of arbiters has signed; anybody may."""
    from sublet.base.units import format_money

    case = _merge(cases)
    found = ask(
        lambda slashing: slashing.open_case(case),
        key=key,
        rpc=rpc,
        market=market,
        about=case,
    )
    typer.echo(
        f"case {case.id} holds {format_money(found.amount)} of {found.provider}\n"
        f"it may be executed from {write_time(found.executable_at_s)} on; until then its "
        f"provider may appeal: sublet provider appeal {case.id}"
    )


def execute(
    cases: CasesArgument,
    key: KeyOption = None,
    rpc: RpcOption = "",
    market: MarketOption = "",
) -> None:
    """Grant the tenant what a case asks for, three days after it was opened."""
    from sublet.base.units import format_money

    case = _merge(cases)
    found = ask(
        lambda slashing: slashing.execute_case(case),
        key=key,
        rpc=rpc,
        market=market,
        about=case,
    )
    typer.echo(
        f"{format_money(found.amount)} of {found.provider} are granted to "
        f"{found.tenant}, who has it with: sublet dispute collect"
    )


def _merge(places: list[Path]) -> "CaseFile":
    from sublet.wire.case import merge_cases

    return merge_cases([_read(place) for place in places])


def _read(place: Path) -> "CaseFile":
    from sublet.wire.case import FILE_BYTES_MAX, read_case

    return read_case(read_file(place, "CASE", FILE_BYTES_MAX))
