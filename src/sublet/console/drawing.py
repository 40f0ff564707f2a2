"""Draw a picture of a market for a terminal. Pure: values in, renderables out.

Names and reasons come from strangers, so every string goes in as ``Text``: markup in
it is shown, never obeyed.
"""

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sublet.base.units import format_money, format_size
from sublet.console.picture import EventLine, LeaseLine, Picture, ProviderLine

LEASES_SHOWN = 8
EVENTS_SHOWN = 8

_PHASE_STYLE = {
    "matched": "yellow",
    "accepted": "yellow",
    "preparing": "yellow",
    "running": "green",
    "closing": "cyan",
    "settling": "cyan",
    "settled": "dim",
}


def draw(picture: Picture) -> RenderableType:
    """Draw the whole market: a head line, providers, leases, the last events."""
    return Group(
        draw_head(picture),
        "",
        draw_providers(picture.providers),
        "",
        draw_leases(picture.leases[:LEASES_SHOWN]),
        "",
        draw_events(picture.events[-EVENTS_SHOWN:]),
    )


def draw_head(picture: Picture) -> Text:
    """Say which market this is and how much its log holds."""
    up = sum(line.is_up for line in picture.providers)
    return Text.assemble(
        (f"{picture.name} ", "bold"),
        f"at {picture.url}   ",
        f"{up} of {len(picture.providers)} machines up   ",
        f"{picture.size:,} entries in the log   ",
        (f"{format_time(picture.now_s)} UTC", "dim"),
    )


def draw_providers(lines: tuple[ProviderLine, ...]) -> RenderableType:
    """List the machines on offer with what is free of them and what they cost."""
    if not lines:
        return Text("no machine is on offer yet", style="dim")
    table = _table("machine", "state", "free", "price an hour", "leases", "earned")
    for line in lines:
        style, word = ("green", "up") if line.is_up else ("red", "down")
        table.add_row(
            Text(line.machine),
            Text(word, style),
            Text(format_free(line)),
            Text(format_price(line)),
            Text(str(line.leases_open)),
            Text(format_money(line.earned)),
        )
    return table


def draw_leases(lines: tuple[LeaseLine, ...]) -> RenderableType:
    """List leases: where each runs, for how long, what it owes, how it ended."""
    if not lines:
        return Text("no lease yet; try: sublet run -- echo hello", style="dim")
    table = _table("lease", "machine", "phase", "ran", "cost", "")
    for line in lines:
        table.add_row(
            Text(line.id[2:10]),
            Text(line.machine),
            Text(line.phase, _PHASE_STYLE.get(line.phase, "")),
            Text(f"{line.ran_ms / 1_000:.1f} s"),
            Text(format_money(line.owed)),
            Text(format_end(line), "red" if line.fault == "provider" else ""),
        )
    return table


def draw_events(lines: tuple[EventLine, ...]) -> Text:
    """Give the last entries of the log in words, newest last."""
    return Text("\n".join(format_event(line) for line in lines), style="dim")


def format_event(line: EventLine) -> str:
    """Write an event as one plain line.

    >>> format_event(EventLine(at_s=3_661, index=7, text="lease 0a1b2c3d runs"))
    '01:01:01      7  lease 0a1b2c3d runs'
    """
    return f"{format_time(line.at_s)} {line.index:6}  {line.text}"


def format_time(at_s: int) -> str:
    """Write the time of day, UTC."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S")


def format_free(line: ProviderLine) -> str:
    """Say how much of a machine nobody uses."""
    parts = [
        f"{line.cpus_milli_free / 1_000:g} of {line.cpus_milli / 1_000:g} CPUs",
        f"{format_size(line.memory_bytes_free)} of {format_size(line.memory_bytes)}",
    ]
    if line.gpus:
        parts.insert(0, f"{line.gpus_free} of {line.gpus} {line.gpu_model}")
    return ", ".join(parts)


def format_price(line: ProviderLine) -> str:
    """Say what the owner asks for, per unit."""
    parts = [
        f"{format_money(line.cpu_price_hour)} a CPU",
        f"{format_money(line.memory_price_hour)} a GiB",
    ]
    if line.gpus:
        parts.insert(0, f"{format_money(line.gpu_price_hour)} a GPU")
    return ", ".join(parts)


def format_end(line: LeaseLine) -> str:
    """Say why a lease ended and at whose fault; "" while it is open."""
    if not line.reason:
        return ""
    reason = line.reason.replace("_", " ")
    return reason if line.fault == "nobody" else f"{reason} (fault: {line.fault})"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name)
    return table
