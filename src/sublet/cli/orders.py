"""``sublet orders``, ``bids``, ``choose`` and ``cancel``: orders that wait."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.cli.option import HOME, HomeOption, JsonOption, MarketOption, make_client

if TYPE_CHECKING:
    from sublet.core.book.open_order import OpenOrder
    from sublet.wire.message import OfferRow

app = typer.Typer(rich_markup_mode=None)

OrderArgument = Annotated[
    str, typer.Argument(metavar="ORDER", help="Its id, or how that begins.")
]


@app.command()
def orders(
    is_all: Annotated[
        bool, typer.Option("--all", "-a", help="Those that have ended, too.")
    ] = False,
    as_json: JsonOption = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """List your orders that wait: for bids, for your choice, for supply, for a time.

    HELD is what is set aside for what such an order may still cost.

    \b
    Example:
      sublet orders --all
    """
    import msgspec

    from sublet.workload.orders import fetch_orders

    async def ask() -> Any:
        async with make_client(market, home) as client:
            await client.pin()
            return await fetch_orders(client.connection), client.now_s()

    found, now_s = asyncio.run(ask())
    shown = [one for one in found if is_all or one.phase != "ended"]
    if as_json:
        typer.echo(msgspec.json.encode(shown).decode())
        return
    if not shown:
        typer.echo("no order of yours waits; sublet orders --all shows those that did")
        return
    typer.echo(format_orders(shown, now_s=now_s))


@app.command()
def bids(
    order: OrderArgument,
    as_json: JsonOption = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """List the bids for one of your live orders, the best one first.

    \b
    Example:
      sublet bids 0x12ab34cd
    """
    import msgspec

    from sublet.workload.orders import find_order
    from sublet.workload.run.wait_text import describe_wait

    async def ask() -> Any:
        async with make_client(market, home) as client:
            await client.pin()
            found = await find_order(client.connection, order)
            return found, await client.connection.offers(), client.now_s()

    found, offers, now_s = asyncio.run(ask())
    if as_json:
        rows = [msgspec.structs.asdict(one) for one in found.bids]
        typer.echo(msgspec.json.encode(rows).decode())
        return
    if found.bids:
        typer.echo(format_bids(found, offers))
    typer.echo(describe_wait(found, now_s=now_s), err=True)


@app.command()
def choose(
    order: OrderArgument,
    bid: Annotated[
        str,
        typer.Argument(metavar="BID", help="Its number in sublet bids, or its id."),
    ],
    as_json: JsonOption = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Take one of the bids for an order of yours that was placed with a time to choose.

    You pay that bid as it is. The job that waits for it (``sublet run``) goes on.

    \b
    Example:
      sublet choose 0x12ab34cd 1
    """
    import msgspec

    from sublet.base.units import format_money
    from sublet.cli.output import clean
    from sublet.workload.orders import choose_bid, find_bid, find_order

    async def ask() -> Any:
        async with make_client(market, home) as client:
            await client.pin()
            found = await find_order(client.connection, order)
            chosen = find_bid(found, bid)
            return await choose_bid(
                client.connection,
                order_id=found.id,
                bid_id=chosen.id,
                at_s=client.now_s(),
            )

    lease = asyncio.run(ask()).lease
    if as_json:
        typer.echo(msgspec.json.encode(lease).decode())
    elif lease is not None:
        typer.echo(
            f"{clean(lease.machine)} of {lease.provider[:10]}… at "
            f"{format_money(lease.price_hour)}/h"
        )


@app.command()
def cancel(
    order: OrderArgument,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Take an order back that waits; what was set aside for it is yours again.

    Leases that it already has go on: sublet stop ends their jobs.

    \b
    Example:
      sublet cancel 0x12ab34cd
    """
    from sublet.workload.orders import cancel_order, find_order

    async def ask() -> str:
        async with make_client(market, home) as client:
            await client.pin()
            found = await find_order(client.connection, order)
            await cancel_order(
                client.connection, order_id=found.id, at_s=client.now_s()
            )
            return found.id

    typer.echo(f"cancelled {asyncio.run(ask())}")


def format_orders(found: "list[OpenOrder]", *, now_s: int) -> str:
    """Lay out orders, one a line."""
    from sublet.base.units import format_duration, format_money
    from sublet.cli.output import format_table
    from sublet.workload.run.wait_text import SHORT_LENGTH

    head = ("ORDER", "MODE", "STATE", "MAX/H", "BIDS", "LEASES", "HELD", "LEFT")
    rows = [
        (
            one.id[:SHORT_LENGTH],
            one.order.mode,
            one.reason or one.phase.value,
            format_money(one.order.price_hour_max),
            str(len(one.bids)),
            str(len(one.leases)),
            format_money(one.hold),
            format_duration(max(0, one.deadline_s - now_s)) if one.deadline_s else "-",
        )
        for one in found
    ]
    return format_table(head, rows)


def format_bids(order: "OpenOrder", offers: "tuple[OfferRow, ...]") -> str:
    """Lay out an order's bids, the best first, with what is known of each machine."""
    from sublet.base.units import format_money
    from sublet.cli.output import format_table

    machines = {(row.provider, row.machine): row for row in offers}
    rows = []
    for number, bid in enumerate(order.bids, start=1):
        row = machines.get((bid.provider, bid.machine))
        rows.append(
            (
                str(number),
                format_money(bid.price_hour),
                bid.provider,
                bid.machine if row else "withdrawn",
                (row.region if row else "") or "-",
                (row.gpu_model if row else "") or "-",
                str(row.cpu_score) if row else "-",
                bid.id[:12],
            )
        )
    head = ("#", "PRICE/H", "PROVIDER", "MACHINE", "REGION", "GPU", "CPU SCORE", "BID")
    return format_table(head, rows)
