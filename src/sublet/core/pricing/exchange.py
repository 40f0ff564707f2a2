"""Tokens against dollars: what a maker gives for them, and what their owner takes.

A maker is whoever gives its own dollars for a stranger's tokens. Both look at prices of
their own, and neither believes the other's. Pure; times and prices are handed in.

Not here: what both sign and send (``wire.exchange``).
"""

from msgspec import Struct

from sublet.base.errors import Refused, Unavailable
from sublet.base.units import MicroUsd, format_money
from sublet.core.pricing.conversion import (
    Conversion,
    check_amount,
    check_guard,
    value_units,
)
from sublet.core.pricing.oracle import Guard, Watch
from sublet.core.pricing.reading import E8

WHOLE_BPS = 10_000


class MakerTerms(Struct, frozen=True, kw_only=True):
    """By what a maker gives quotes."""

    spread_bps: int  # that it keeps, in hundredths of a percent
    most: MicroUsd  # of one quote


def check_peg(dollar: Watch) -> None:
    """Check that a token may be taken for a dollar, before a channel is filled with it.

    Raises:
        Unavailable: ``off_peg``: its guard says halt.
    """
    if dollar.guard is Guard.HALT:
        raise Unavailable(
            f"{dollar.token} is no dollar now ({', '.join(dollar.reasons)}); what lies "
            "in channels can be claimed and withdrawn as ever. Wait, and ask: sublet "
            "prices token",
            code="off_peg",
            detail={"token": dollar.token},
        )


def offer_dollars(
    watch: Watch,
    dollar: Watch | None,
    *,
    units: int,
    decimals: int,
    at_s: int,
    terms: MakerTerms,
    free: MicroUsd,
) -> Conversion:
    """Say what a maker gives for so many units of a token.

    It counts the lower one of spot and average: the moment is the other's choice. What
    stands for a dollar is at most one.

    Args:
        watch: of the token.
        dollar: of what is given; None where nobody watches its peg.
        units: of the token's smallest.
        decimals: how many places the token has.
        at_s: now.
        terms: the maker's.
        free: dollars that it has, and that the converter may take.

    Raises:
        Refused: ``bad_deposit``: no such amount; ``over_limit``: the maker gives less
            in one quote.
        Unavailable: ``no_conversion``: a guard is up, or nobody has looked lately;
            ``off_peg``; ``no_inventory``: the maker has less.
    """
    check_amount(units, decimals=decimals)
    check_guard(watch, at_s=at_s)
    if dollar is not None:
        check_peg(dollar)
    price_e8 = min(watch.spot_e8, watch.average_e8)
    if watch.is_dollar:
        price_e8 = min(price_e8, E8)
    price_e8 = price_e8 * (WHOLE_BPS - terms.spread_bps) // WHOLE_BPS
    value = value_units(units, decimals=decimals, price_e8=price_e8) if price_e8 else 0
    if value <= 0:
        raise Refused(
            f"so little {watch.token} is worth no micro-dollar; give more",
            code="bad_deposit",
            field="units",
        )
    if value > terms.most:
        raise Refused(
            f"this would be {format_money(value)}, and the maker gives at most "
            f"{format_money(terms.most)} at once; convert in parts",
            code="over_limit",
            field="units",
            detail={"most": terms.most},
        )
    if value > free:
        raise Unavailable(
            f"the maker has {format_money(free)} left, and this would be "
            f"{format_money(value)}; convert less, or try again later",
            code="no_inventory",
            detail={"free": free},
        )
    return Conversion(
        token=watch.token,
        units=units,
        value=MicroUsd(value),
        price_e8=price_e8,
        at_s=at_s,
    )


def check_offer(own: Conversion, dollars: MicroUsd, *, slip_bps: int) -> None:
    """Check what a maker offers against what one's own sources say; more is welcome.

    Args:
        own: what the tokens are worth by one's own sources.
        dollars: that the maker gives.
        slip_bps: how much less that may be, in hundredths of a percent.

    Raises:
        Refused: ``offer_too_low``, with both amounts.
    """
    if dollars * WHOLE_BPS >= own.value * (WHOLE_BPS - slip_bps):
        return
    off_bps = WHOLE_BPS - dollars * WHOLE_BPS // own.value
    raise Refused(
        f"the maker gives {format_money(dollars)}, and by your own sources this is worth "
        f"{format_money(own.value)}: {off_bps / 100:.2f} % less, and you allow "
        f"{slip_bps / 100:.2f} %. Nothing was sent; wait, or allow more with --max-slip",
        code="offer_too_low",
        field="--max-slip",
        detail={"offered": dollars, "own": own.value},
    )
