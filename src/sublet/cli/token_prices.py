"""``sublet prices token``: what tokens cost, at which sources, and what may be done at it."""

import asyncio
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sublet.base.errors import Refused
from sublet.base.units import format_money, parse_duration
from sublet.cli.option import HOME, HomeOption, JsonOption
from sublet.cli.token_text import (
    Point,
    Seen,
    format_csv,
    format_e8,
    format_json,
    format_line,
    format_token,
)

if TYPE_CHECKING:
    from sublet.adapter.price_history import PriceHistory
    from sublet.adapter.price_settings import PriceSettings
    from sublet.core.pricing.oracle import Watch
    from sublet.core.pricing.reading import Round

app = typer.Typer(rich_markup_mode=None, add_completion=False)

SINCE = "6h"
_AMOUNT = re.compile(r"\A([0-9]{1,30})(?:\.([0-9]{1,36}))?\Z", re.ASCII)


@app.command()
def token(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[TOKEN]", help="Such as RENDER; all by default."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="NAME",
            help="Show what one source said, such as pyth, instead of the median.",
        ),
    ] = None,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="How far back to look.")
    ] = SINCE,
    feeds: Annotated[
        Path | None,
        typer.Option(
            "--feeds",
            metavar="FILE",
            help="Tokens and their sources; default: prices.toml in your home.",
        ),
    ] = None,
    amount: Annotated[
        str | None,
        typer.Option(
            "--amount", metavar="N", help="Say what a deposit of N tokens is worth now."
        ),
    ] = None,
    is_watching: Annotated[
        bool, typer.Option("--watch", help="Ask again and again, until Ctrl-C.")
    ] = False,
    as_json: JsonOption = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Comma-separated values; 10^-8 US dollars.")
    ] = False,
    home: HomeOption = HOME,
) -> None:
    """Show what a token costs, who says so, and whether deposits are converted at it.

    SPOT is the median of the sources that are believed, at least two; AVERAGE is of the
    last half hour. The guard is ok, warn (no deposit is converted: fewer than two
    sources, no average yet, or 5 % off it) or halt (no channel is opened either: 15 %
    off it, or silence for ten minutes). Claims, refunds and withdrawals need no price.
    Each call asks once and keeps the answers in the home; --watch keeps asking, which
    the average needs.

    \b
    Examples:
      sublet prices token --feeds examples/prices/feeds.toml
      sublet prices token RENDER --since 24h
      sublet prices token RENDER --amount 250
      sublet prices token --watch
      sublet prices token RENDER --source pyth --csv > pyth.csv
    """
    if as_json and as_csv:
        raise Refused("give one of --json and --csv", code="bad_flags")
    if amount and not name:
        raise Refused("--amount needs a TOKEN", code="bad_flags")
    from sublet.adapter.price_history import PriceHistory
    from sublet.adapter.price_settings import read_price_settings
    from sublet.adapter.price_watch import HISTORY_FILE, SETTINGS_FILE

    home = home.expanduser()
    settings = read_price_settings(feeds or home / SETTINGS_FILE)
    tokens = _choose(settings, name)
    history = PriceHistory(home / HISTORY_FILE)
    if is_watching:
        asyncio.run(watch_tokens(settings, history, tokens, as_json=as_json))
        return
    rounds = asyncio.run(ask_once(settings, history))
    since_s = parse_duration(since, field="--since")
    seen = [follow(rounds, settings, each, since_s=since_s) for each in tokens]
    if source:
        seen = [show_source(each, rounds, source) for each in seen]
    if amount:
        decimals = settings.file.tokens[tokens[0]].decimals
        typer.echo(convert(seen[0].watch, amount, decimals, as_json=as_json))
    elif as_json:
        typer.echo(format_json(seen))
    elif as_csv:
        typer.echo(format_csv(seen), nl=False)
    else:
        columns = shutil.get_terminal_size().columns
        typer.echo("\n\n".join(format_token(each, width=columns) for each in seen))
        if settings.recorded:
            at = time.strftime("%Y-%m-%d %H:%M", time.gmtime(rounds[-1].at_s))
            typer.echo(f"\na recording, as it ended on {at} UTC; nothing was asked now")


def _choose(settings: "PriceSettings", name: str | None) -> list[str]:
    known = sorted(settings.file.tokens)
    if name is None:
        return known
    if name not in known:
        raise Refused(
            f"{name!r} is not among the tokens of the settings: {', '.join(known)}",
            code="unknown_token",
            field="TOKEN",
        )
    return [name]


# ---- asking -----------------------------------------------------------------------


async def ask_once(
    settings: "PriceSettings", history: "PriceHistory"
) -> "tuple[Round, ...]":
    """Ask once, keep it, and give all that is known; of a recording, all of it."""
    from sublet.adapter.price_watch import gather_rounds, open_feeds

    async with open_feeds(settings) as feeds:
        return await gather_rounds(settings, history, feeds)


async def watch_tokens(
    settings: "PriceSettings",
    history: "PriceHistory",
    tokens: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Ask every so often; one line a token each time."""
    from sublet.adapter.price_watch import open_feeds
    from sublet.core.pricing.oracle import take_round as judge
    from sublet.service.price_port import take_round

    if settings.recorded:
        raise Refused("a recording does not go on; leave --watch out", code="bad_flags")
    rounds = history.read()
    watches = {each: follow(rounds, settings, each, since_s=0).watch for each in tokens}
    async with open_feeds(settings) as feeds:
        while True:
            at_s = int(time.time())
            taken = await take_round(feeds, list(settings.file.tokens), at_s=at_s)
            history.append(taken)
            for each in tokens:
                watches[each] = judge(watches[each], taken)
                seen = Seen(watches[each], [], find_unheard(taken, each))
                typer.echo(format_json([seen]) if as_json else format_line(seen))
            await asyncio.sleep(max(0, at_s + settings.every_s - time.time()))


def follow(
    rounds: "Sequence[Round]", settings: "PriceSettings", name: str, *, since_s: int
) -> Seen:
    """Fold the rounds into what is known of one token, and its last ``since_s``."""
    from sublet.core.pricing.oracle import Watch, take_round

    watch = Watch(token=name, is_dollar=settings.file.tokens[name].dollar)
    first_s = rounds[-1].at_s - since_s if rounds else 0
    points = []
    for taken in rounds:
        watch = take_round(watch, taken)
        if taken.at_s >= first_s:
            points.append(
                Point(taken.at_s, watch.spot_e8, watch.average_e8, watch.guard.value)
            )
    return Seen(watch, points, find_unheard(rounds[-1], name) if rounds else {})


def find_unheard(taken: "Round", name: str) -> dict[str, str]:
    """Name the sources that gave no price of a token in a round, and why not."""
    return {fault.source: fault.why for fault in taken.faults if fault.token == name}


def show_source(seen: Seen, rounds: "Sequence[Round]", source: str) -> Seen:
    """Put what one source said in the place of the median; its average is unknown."""
    said = {
        taken.at_s: reading.price_e8
        for taken in rounds
        for reading in taken.readings
        if (reading.token, reading.source) == (seen.watch.token, source)
    }
    if not said:
        known = sorted({x.source for taken in rounds for x in taken.readings})
        raise Refused(
            f"--source: {source!r} said nothing of {seen.watch.token}; there is: "
            + (", ".join(known) or "nothing yet"),
            code="unknown_source",
            field="--source",
        )
    return seen._replace(
        points=[
            Point(point.at_s, said.get(point.at_s, 0), 0, point.guard)
            for point in seen.points
        ]
    )


def convert(watch: "Watch", amount: str, decimals: int, *, as_json: bool) -> str:
    """Say what a deposit is worth as of the last round."""
    from sublet.core.pricing.conversion import convert_deposit

    units = parse_units(amount, decimals, name=watch.token, field="--amount")
    made = convert_deposit(
        watch, units=units, decimals=decimals, at_s=watch.judged_at_s
    )
    if as_json:
        import msgspec

        return msgspec.json.encode(made).decode()
    price = format_e8(made.price_e8)
    return f"{amount} {made.token} is worth {format_money(made.value)} now, at {price}"


def parse_units(amount: str, decimals: int, *, name: str, field: str) -> int:
    """Read an amount of a token as its smallest units.

    Raises:
        Refused: ``bad_deposit``: it is none, or has more places than the token.

    >>> parse_units("2.5", 6, name="T", field="--amount")
    2500000
    """
    match = _AMOUNT.match(amount)
    places = (match[2] or "") if match else ""
    if match is None or len(places) > decimals:
        raise Refused(
            f"{field}: {amount[:40]!r} is not an amount of {name}; write it like "
            f"2.5, with at most {decimals} places",
            code="bad_deposit",
            field=field,
        )
    return int(match[1] + places.ljust(decimals, "0"))
