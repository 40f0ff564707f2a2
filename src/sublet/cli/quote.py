"""What ``sublet quote`` says besides the price: when, how sure, and what clouds take."""

import textwrap
from collections.abc import Sequence

from sublet.base.limits import LATENCY_MS_MAX
from sublet.base.units import format_duration, format_money
from sublet.cli.output import clean, format_table
from sublet.cli.prices import format_price
from sublet.core.book.mode import PAY_AS_BID
from sublet.core.book.score_terms import Standing
from sublet.core.document import Order
from sublet.core.outlook import MILLION, Outlook
from sublet.core.pricing.catalogue import CloudPrice
from sublet.wire.message import Quote

HOUR_S = 3_600
WIDTH_MIN = 40  # columns; a narrower terminal breaks lines itself


def format_machines(found: Quote) -> str:
    """Say which machine it would be, or machines, and what they cost."""
    members = found.members or (found,)
    lines = [
        f"{format_money(member.price_hour)}/h on {clean(member.machine)} of "
        + member.provider
        + (f" in {clean(member.region)}" if member.region else "")
        for member in members
    ]
    if found.members:
        lines.append(
            f"{format_money(found.price_hour)}/h for all {len(lines)}, or none of them"
        )
    return "\n".join(lines)


def count_offers(matching: int) -> str:
    """Say how many offers match."""
    return "1 offer matches" if matching == 1 else f"{matching} offers match"


def format_outlook(outlook: Outlook, *, width: int) -> str:
    """Say when a job begins and when it is done, and on what that rests."""
    lines = [f"begins  {_tell_wait(outlook)}"]
    if outlook.wait_basis == "nothing_fits":
        pass  # nothing is prepared where nothing begins
    elif outlook.samples:
        lines.append(
            f"        {format_duration(outlook.prepare_s)} to prepare (median of the last "
            f"{outlook.samples} here)"
        )
    else:
        lines.append(
            "        nothing has run here yet that could tell how long preparing takes; "
            f"at most {format_duration(outlook.prepare_s_max)}"
        )
    if outlook.finish_s >= 0:
        lines += [
            f"done    in {format_duration(outlook.finish_s)}; at best in "
            f"{format_duration(outlook.finish_s_min)}, nine of ten within "
            f"{format_duration(outlook.finish_s_max)}",
            f"        for {format_duration(outlook.run_s)} of work{_tell_speed(outlook)}",
            f"        {_tell_chance(outlook)}",
        ]
    return "\n".join(
        textwrap.fill(line, max(width, WIDTH_MIN), subsequent_indent=" " * 8)
        for line in lines
    )


def _tell_wait(outlook: Outlook) -> str:
    if outlook.wait_basis == "free":
        return "now: a machine is free"
    if outlook.wait_basis == "leases_end":
        return (
            f"in {format_duration(outlook.wait_s)}, at most "
            f"{format_duration(outlook.wait_s_max)}: when {outlook.leases_before} of the "
            "open leases have ended"
        )
    return "nobody can tell: no machine here meets the order, even if all were free"


def _tell_speed(outlook: Outlook) -> str:
    if not outlook.speed_ppm:
        return ""
    hundredths = outlook.speed_ppm * 100 // MILLION
    return f" (measured speed: {hundredths} % of the median of its kind)"


def _tell_chance(outlook: Outlook) -> str:
    ended = outlook.leases_completed + outlook.leases_at_fault
    percent = outlook.chance_ppm * 100 // MILLION
    rests = (
        f"{outlook.leases_completed} of its {ended} leases went well"
        if ended
        else "it has no history; nine of ten is assumed"
    )
    return (
        f"the machine lasts with {percent} % ({rests}); "
        f"a loss costs {format_duration(outlook.restart_s)} and, without checkpoints, "
        "the work so far"
    )


def format_clouds(clouds: Sequence[CloudPrice], *, run_s: int) -> str:
    """Lay out what clouds take, with the source and date of each price."""
    rows = []
    for each in clouds:
        if not each.as_of:
            rows.append((each.provider, "not in the catalogue", *[""] * 4))
            continue
        rows.append(
            (
                each.provider,
                each.instance or "-",
                f"{each.gpu_count} x {each.gpu}",
                format_price(each.on_demand_hour),
                format_price(each.spot_hour),
                format_price(_price(each.on_demand_hour, run_s)),
            )
        )
    head = (
        *("CLOUD", "INSTANCE", "GPUS", "ON DEMAND/H", "SPOT/H"),
        f"FOR {format_duration(run_s)}",
    )
    dates = sorted({(each.source, each.as_of) for each in clouds if each.as_of})
    sources = "; ".join(f"{source}, {as_of}" for source, as_of in dates)
    said = f"\nprices of whole instances: {sources}" if dates else ""
    return format_table(head, rows) + said


def _price(hour: int, run_s: int) -> int:
    return -1 if hour < 0 else hour * run_s // HOUR_S


def format_score(found: Quote, order: Order) -> str:
    """Lay out each term of the score: of winner and runner-up, or of each member."""
    if found.winner is None:
        return ""
    sides = [("winner", found.winner, found.price_hour)]
    if found.members:
        sides = [(one.machine, one.winner, one.price_hour) for one in found.members]
    rows = [
        (whose, *_list_terms(one, order), format_money(paid))
        for whose, one, paid in sides
    ]
    if found.runner_up is not None:
        rows.append(("runner-up", *_list_terms(found.runner_up, order), "-"))
    heads = ("SCORE", *_list_heads(order), "PAID/H")
    return f"{format_table(heads, rows)}\n{_tell_pricing(found, order)}"


def _list_heads(order: Order) -> list[str]:
    penalties = [f"{order.near.upper()}/H"] if order.near_price_hour else []
    penalties += ["DATA/H"] if order.data_price_hour else []
    speed = [f"{order.work.upper()} SPEED"] if order.work else []
    return ["ASKED/H", *penalties, *speed, "FINISHES", "FINISHED/H"]


def _list_terms(one: Standing, order: Order) -> list[str]:
    """List the terms in the order of their heads; one that nobody asked for is not."""
    terms = [format_money(one.asked_hour)]
    if order.near_price_hour:
        penalty = format_money(one.latency_penalty_hour)
        known = one.latency_ms < LATENCY_MS_MAX
        terms.append(
            f"+{penalty} ({f'{one.latency_ms} ms' if known else 'undeclared'})"
        )
    if order.data_price_hour:
        terms.append(f"+{format_money(one.data_penalty_hour)}")
    if order.work:
        terms.append(str(one.speed))
    percent = f"{one.chance_ppm * 100 / MILLION:.2f} %"
    return [*terms, percent, format_money(one.cost_hour)]


def _tell_pricing(found: Quote, order: Order) -> str:
    if order.pricing == PAY_AS_BID:
        return "paid is what the owner asks, as you ordered"
    if found.members:
        return (
            "paid is what ties with the best gang without that owner, if there is one"
        )
    if found.runner_up is None:
        return "paid is what is asked, or your maximum where all rivals are above that"
    return "paid is the price with which the winner would just tie the runner-up"
