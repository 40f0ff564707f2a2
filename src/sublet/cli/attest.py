"""``sublet attest`` and ``attestations``: vouch for providers, and see who does."""

import asyncio
import secrets
from typing import TYPE_CHECKING, Annotated

import typer

from sublet.cli.option import HOME, HomeOption, JsonOption, MarketOption, make_client

if TYPE_CHECKING:
    from sublet.core.document import Attestation
    from sublet.wire.message import Appended

app = typer.Typer(rich_markup_mode=None)

EXPIRES = "90d"
EXPIRES_S_MAX = 3 * 366 * 86_400
SALT_BITS = 62

ProviderArgument = Annotated[
    str, typer.Argument(metavar="PROVIDER", help="Its address.")
]


@app.command()
def attest(
    provider: ProviderArgument,
    attribute: Annotated[
        list[str] | None,
        typer.Option(
            "--attribute", metavar="KEY=VALUE", help="What you vouch for; repeat."
        ),
    ] = None,
    machine: Annotated[
        str, typer.Option("--machine", help="Of this machine alone; else of all.")
    ] = "",
    expires: Annotated[
        str,
        typer.Option("--expires", metavar="TIME", help="How long you vouch for it."),
    ] = EXPIRES,
    is_withdrawn: Annotated[
        bool, typer.Option("--withdraw", help="Take back what you have said of it.")
    ] = False,
    as_json: JsonOption = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Sign that something is true of a provider, with the key of this home.

    It stands in the market's log, in public, and counts for the orders that name your
    address (--auditor). What you say later of the same provider and machine replaces
    it, all of it.

    \b
    Examples:
      sublet attest 0x… --attribute soc2=type-2 --attribute site=frankfurt
      sublet attest 0x… --machine box --attribute gpu=seen --expires 30d
      sublet attest 0x… --withdraw
    """
    from sublet.base.errors import Refused
    from sublet.core.document import Attestation
    from sublet.workload.run.need import parse_span
    from sublet.workload.run.particular import parse_address

    if bool(attribute) == is_withdrawn:
        raise Refused(
            "say what you vouch for with --attribute KEY=VALUE, or --withdraw",
            code="no_attributes",
            field="--attribute",
        )
    subject = parse_address(provider, "PROVIDER")
    expires_s = parse_span(expires, "--expires", 60, EXPIRES_S_MAX)

    async def submit() -> "tuple[Attestation, Appended]":
        async with make_client(market, home) as client:
            await client.pin()
            now_s = client.now_s()
            document = Attestation(
                provider=subject,
                machine=machine,
                attributes=tuple(attribute or ()),
                expires_at_s=now_s + expires_s,
                signed_at_s=now_s,
                salt=secrets.randbits(SALT_BITS),
            )
            [result] = await client.connection.submit(document)
            return document, result

    document, result = asyncio.run(submit())
    if result.fault is not None:
        raise Refused(result.fault.message, code=result.fault.code)
    if as_json:
        import msgspec

        said = {"id": result.id, "index": result.index, "attestation": document}
        typer.echo(msgspec.json.encode(said).decode())
        return
    whom = f"{subject}, {machine}" if machine else subject
    if is_withdrawn:
        typer.echo(f"you vouch for nothing of {whom} any more")
    else:
        typer.echo(f"you vouch for {', '.join(document.attributes)} of {whom}")
    typer.echo(f"entry {result.index} of the log")


@app.command()
def attestations(
    provider: Annotated[
        str, typer.Argument(metavar="[PROVIDER]", help="Of this one alone.")
    ] = "",
    as_json: JsonOption = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """List what stands: who vouches for what, of whom, and until when.

    \b
    Example:
      sublet attestations
    """
    import msgspec

    from sublet.cli.output import format_table, format_time
    from sublet.sdk.exchange import ask_attestations
    from sublet.wire.message import Attestations
    from sublet.workload.run.particular import parse_address

    subject = parse_address(provider, "PROVIDER") if provider else ""

    async def ask() -> Attestations:
        async with make_client(market, home) as client:
            await client.pin()
            return await client.connection.ask(ask_attestations())

    found = asyncio.run(ask()).attestations
    shown = [one for one in found if subject in ("", one.provider)]
    if as_json:
        typer.echo(msgspec.json.encode(shown).decode())
        return
    rows = [
        (
            one.auditor,
            one.provider,
            one.machine or "all",
            " ".join(one.attributes),
            format_time(one.expires_at_s * 1_000),
        )
        for one in shown
    ]
    head = ("AUDITOR", "PROVIDER", "MACHINE", "VOUCHES FOR", "UNTIL")
    typer.echo(format_table(head, rows))
