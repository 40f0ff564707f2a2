"""``sublet prices``: what machines are offered for and were let for."""

import asyncio
import csv
import io
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sublet.base.errors import Refused
from sublet.cli.option import HOME, HomeOption, JsonOption, MarketOption, make_client
from sublet.core.gpu_model import NO_GPU

app = typer.Typer(rich_markup_mode=None)

ANYWHERE = "*"
BAR_LENGTH = 24  # characters of the longest bar
HOUR_S = 3_600
HOURS_SHOWN = 24  # in lines; the curve is as long as the terminal is wide
LEVELS_SHOWN = 12
_BARS = "▁▂▃▄▅▆▇█"
_PARTS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


class PricesCommand(TyperCommand):
    """Machines by default; ``sublet prices token`` is a command of its own."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Leave the words to the other command where it is named."""
        if args[:1] == ["token"]:
            return find_token_command().make_context(
                f"{info_name} token", args[1:], parent, **extra
            )
        return super().make_context(info_name, args, parent, **extra)


def find_token_command() -> Any:
    """Give the command ``sublet prices token``."""
    from typer.main import get_command

    from sublet.cli.token_prices import app as token_app

    return get_command(token_app)


@app.command(cls=PricesCommand)
def prices(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A GPU, such as h200, or cpu for machines without one; all by default.",
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region", metavar="CODE", help="DE, US with its parts, or US-CA alone."
        ),
    ] = None,
    is_depth: Annotated[
        bool, typer.Option("--depth", help="How much is offered at which price.")
    ] = False,
    is_history: Annotated[
        bool, typer.Option("--history", help="What was paid, hour by hour (UTC).")
    ] = False,
    as_json: JsonOption = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Comma-separated values; micro-USD.")
    ] = False,
    market: MarketOption = None,
    home: HomeOption = HOME,
) -> None:
    """Show what machines are offered for, and what was paid for them.

    All prices are for one GPU and hour (for one CPU where a machine has no GPU), with
    its share of the machine. ASKED is the lowest price of what is free now. PAID is
    what the jobs of the last 24 hours began at: of ten GPUs one was let for P10 or less,
    five for the median or less, nine for P90 or less.

    What tokens cost, such as RENDER, and at which sources: sublet prices token --help.

    \b
    Examples:
      sublet prices
      sublet prices h200 --depth
      sublet prices cpu --region DE --history
      sublet prices --history --csv > prices.csv
    """
    if (is_depth and is_history) or (as_json and as_csv):
        raise Refused(
            "give one of --depth and --history, and one of --json and --csv",
            code="bad_flags",
        )
    view = "depth" if is_depth else "history" if is_history else "prices"
    from sublet.workload.prices import fetch_prices

    async def ask() -> Any:
        async with make_client(market, home) as client:
            return await fetch_prices(client, view, model=model, region=region)

    found = asyncio.run(ask())
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(found).decode())
    elif as_csv:
        typer.echo(format_csv(view, found), nl=False)
    else:
        typer.echo(_SHOWN[view](found, width=shutil.get_terminal_size().columns))


# ---- for people -------------------------------------------------------------------


def format_overview(found: Any, *, width: int) -> str:
    """Lay out one line for each kind of machine."""
    from sublet.cli.output import format_table

    if not found.rows:
        return _NOTHING
    head = ("MODEL", "REGION", "FREE", "ASKED", "P10", "MEDIAN", "P90", "LAST", "DEALS")
    rows = [
        (
            name_model(row.model),
            name_region(row.region),
            f"{format_units(row.units_milli_free)}/{format_units(row.units_milli)}",
            *map(format_price, (row.ask, row.p10, row.median, row.p90, row.last)),
            str(row.deals),
        )
        for row in sorted(
            drop_doubles(found.rows), key=lambda row: (row.model, row.region)
        )
    ]
    return format_table(head, rows) + _tell_rest(found, len(found.rows))


def format_depth(found: Any, *, width: int) -> str:
    """Lay out bars: how much is offered at which price, and how much of it is free."""
    from sublet.cli.output import format_table

    blocks = []
    for kind in drop_doubles(found.kinds):
        most = max((row.units_milli for row in kind.rows), default=0)
        rows = [
            (
                format_price(row.price),
                str(row.machines),
                f"{format_units(row.units_milli_free)}/{format_units(row.units_milli)}",
                draw_bar(row.units_milli_free, most=most, length=BAR_LENGTH),
            )
            for row in kind.rows[:LEVELS_SHOWN]
        ]
        table = format_table(("ASKED", "MACHINES", "FREE", ""), rows)
        more = kind.levels - len(rows)
        rest = f"\n… and {more} higher prices" if more > 0 else ""
        blocks.append(f"{_title(kind)}\n{table}{rest}")
    return ("\n\n".join(blocks) or _NOTHING) + _tell_rest(found, len(found.kinds))


def format_history(found: Any, *, width: int) -> str:
    """Draw a curve of the medians, and list the last day's hours."""
    from sublet.cli.output import format_table

    blocks = []
    for kind in drop_doubles(found.kinds):
        if not kind.rows:
            continue
        hours = {row.from_s: row for row in kind.rows}
        newest_s = found.at_s // HOUR_S * HOUR_S
        count = min(width - len("median  "), 168)
        times = range(newest_s - (count - 1) * HOUR_S, newest_s + 1, HOUR_S)
        shown = [hours.get(at_s) for at_s in times]
        medians = [row.median if row else -1 for row in shown]
        deals = [row.deals if row else -1 for row in shown]
        rows = [
            (
                format_hour(row.from_s),
                str(row.deals),
                format_units(row.units_milli),
                *map(format_price, (row.p10, row.median, row.p90)),
                draw_bar(row.median, most=max(medians), length=BAR_LENGTH),
            )
            for row in kind.rows[-HOURS_SHOWN:]
        ]
        head = ("HOUR (UTC)", "DEALS", "UNITS", "P10", "MEDIAN", "P90", "")
        blocks.append(
            f"{_title(kind)}, the last {count} hours\n"
            f"median  {draw_curve(medians)}\n"
            f"deals   {draw_curve(deals)}\n" + format_table(head, rows)
        )
    return ("\n\n".join(blocks) or _NO_DEALS) + _tell_rest(found, len(found.kinds))


def drop_doubles(kinds: Sequence[Any]) -> list[Any]:
    """Leave out the sum over all regions where there is only one."""
    regions = Counter(kind.model for kind in kinds if kind.region != ANYWHERE)
    return [
        kind for kind in kinds if kind.region != ANYWHERE or regions[kind.model] != 1
    ]


def draw_bar(value: int, *, most: int, length: int) -> str:
    """Draw a value as a bar in eighths of a character; at most ``length`` long.

    >>> draw_bar(3, most=4, length=2)
    '█▌'
    """
    if value <= 0 or most <= 0:
        return ""
    eighths = max(1, min(value, most) * length * 8 // most)
    return "█" * (eighths // 8) + _PARTS[eighths % 8]


def draw_curve(values: Sequence[int]) -> str:
    """Draw values as a line of blocks from the lowest to the highest; -1 is a gap.

    >>> draw_curve([10, -1, 20, 30])
    '▁ ▄█'
    """
    there = [value for value in values if value >= 0]
    low, high = min(there, default=0), max(there, default=0)
    span = max(1, high - low)
    return "".join(
        " " if value < 0 else _BARS[(value - low) * (len(_BARS) - 1) // span]
        for value in values
    ).rstrip()


def format_price(price: int) -> str:
    """Write a price for a table: rounded to a hundredth of a cent below a dollar.

    >>> format_price(2_499_999), format_price(11_549), format_price(-1)
    ('$2.50', '$0.0115', '-')
    """
    if price < 0:
        return "-"
    dollars = price / 1_000_000
    return f"${dollars:.4f}" if price < 999_950 else f"${dollars:,.2f}"


def format_units(units_milli: int) -> str:
    """Write thousandths as a number with no more places than it needs.

    >>> format_units(8_000), format_units(2_500)
    ('8', '2.5')
    """
    return f"{units_milli / 1_000:.3f}".rstrip("0").rstrip(".")


def format_hour(at_s: int) -> str:
    """Write the hour that begins then, in UTC."""
    return time.strftime("%m-%d %H:00", time.gmtime(at_s))


def name_model(model: str) -> str:
    """Say which GPU, or that there is none."""
    return model or NO_GPU


def name_region(region: str) -> str:
    """Say where: everywhere, undeclared, or the code."""
    return "any" if region == ANYWHERE else region or "-"


_NOTHING = "nothing of that kind is offered, and nothing was let"
_NO_DEALS = "nothing of that kind was let in the last seven days"


def _title(kind: Any) -> str:
    from sublet.cli.output import clean

    return clean(f"{name_model(kind.model)}, region {name_region(kind.region)}")


def _tell_rest(found: Any, shown: int) -> str:
    more = found.total - shown
    if more <= 0:
        return ""
    return f"\n… and {more} more kinds of machine; name a MODEL or a --region"


# ---- for machines -----------------------------------------------------------------


def format_csv(view: str, found: Any) -> str:
    """Write a head, and a line for each row with the kind of machine before it."""
    from sublet.wire.prices import DepthRow, HourRow, PriceRow

    kinds: dict[str, Any] = {"prices": PriceRow, "depth": DepthRow, "history": HourRow}
    names = kinds[view].__struct_fields__
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if view == "prices":
        writer.writerow(names)
        rows: Iterable[tuple[tuple[str, ...], Any]] = (((), row) for row in found.rows)
    else:
        writer.writerow(("model", "region", *names))
        rows = (
            ((kind.model, kind.region), row)
            for kind in found.kinds
            for row in kind.rows
        )
    for before, row in rows:
        writer.writerow((*before, *(getattr(row, name) for name in names)))
    return text.getvalue()


_SHOWN = {
    "prices": format_overview,
    "depth": format_depth,
    "history": format_history,
}
