"""From tokens to US dollars, once: when a deposit is made.

What a deposit is worth is fixed then, in micro-USD, and vouchers count that; no later
price changes it. A token that stands for a dollar is worth a dollar, whatever a market says.
"""

from msgspec import Struct

from sublet.base.errors import Refused, Unavailable
from sublet.base.limits import CLOCK_SKEW_S_MAX
from sublet.base.units import MICRO_USD_PER_USD, MicroUsd
from sublet.core.pricing.average import HOLD_S_MAX
from sublet.core.pricing.oracle import Guard, Watch
from sublet.core.pricing.reading import E8

DECIMALS_MAX = 36
UNITS_MAX = (1 << 128) - 1  # that a channel of the contract holds


class Conversion(Struct, frozen=True, kw_only=True):
    """What a deposit was worth when it was made."""

    token: str
    units: int  # of the token's smallest
    value: MicroUsd
    price_e8: int
    at_s: int


def value_units(units: int, *, decimals: int, price_e8: int) -> MicroUsd:
    """Say what so many of a token's smallest units are worth; rounds down.

    >>> value_units(2_500_000_000_000_000_000, decimals=18, price_e8=183_487_211)
    4587180
    """
    return MicroUsd(units * price_e8 * MICRO_USD_PER_USD // (E8 * int(10**decimals)))


def count_units(value: MicroUsd, *, decimals: int, price_e8: int) -> int:
    """Count the fewest units that are worth at least so much; rounds up.

    So ``value_units(count_units(v)) >= v``, and one unit less is worth less than ``v``;
    and ``count_units(value_units(n)) <= n``: to and fro, nobody gains.

    >>> count_units(4_587_180, decimals=18, price_e8=183_487_211)
    2499999850125794326
    """
    return -(-value * E8 * int(10**decimals) // (price_e8 * MICRO_USD_PER_USD))


def convert_deposit(
    watch: Watch, *, units: int, decimals: int, at_s: int
) -> Conversion:
    """Fix what a deposit is worth, at the spot price of a token whose guard is ok.

    Args:
        watch: of the token; judged at most ``HOLD_S_MAX`` ago.
        units: of the token's smallest, positive.
        decimals: how many places the token has.
        at_s: now.

    Raises:
        Refused: ``bad_deposit``: no such amount or token can be.
        Unavailable: ``no_conversion``: the guard is up, or nobody has looked lately.
    """
    check_amount(units, decimals=decimals)
    if not watch.is_dollar or watch.guard is Guard.HALT:
        check_guard(watch, at_s=at_s)
    price_e8 = E8 if watch.is_dollar else watch.spot_e8
    value = value_units(units, decimals=decimals, price_e8=price_e8)
    return Conversion(
        token=watch.token, units=units, value=value, price_e8=price_e8, at_s=at_s
    )


def check_amount(units: int, *, decimals: int) -> None:
    """Check that there can be so many units of a token.

    Raises:
        Refused: ``bad_deposit``: there cannot.
    """
    if not (0 < units <= UNITS_MAX and 0 <= decimals <= DECIMALS_MAX):
        raise Refused(
            f"{units} units of a token with {decimals} places cannot be deposited; give "
            "a positive amount",
            code="bad_deposit",
            field="units",
        )


def check_guard(watch: Watch, *, at_s: int) -> None:
    """Check that a token's price may be used now.

    Raises:
        Unavailable: ``no_conversion``: the guard is up, or nobody has looked lately.
    """
    is_current = -CLOCK_SKEW_S_MAX <= at_s - watch.judged_at_s <= HOLD_S_MAX
    if is_current and watch.guard is Guard.OK:
        return
    why = ", ".join(watch.reasons) if is_current else "nobody has looked lately"
    raise Unavailable(
        f"{watch.token} is not converted now ({watch.guard}: {why}); wait, or "
        "deposit USDC",
        code="no_conversion",
        detail={"token": watch.token, "guard": watch.guard.value},
    )
