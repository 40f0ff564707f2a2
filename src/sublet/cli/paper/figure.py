"""Exact figures as text: nothing is rounded, and no float comes near money."""

from datetime import UTC, datetime

USD_PLACES = 6


def spell_decimal(amount: int, *, places: int) -> str:
    """Write an integer of the smallest unit as a decimal with all its places.

    >>> spell_decimal(-1_500, places=6), spell_decimal(7, places=0)
    ('-0.001500', '7')
    """
    if not places:
        return str(amount)
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), 10**places)
    return f"{sign}{whole}.{rest:0{places}d}"


def spell_usd(amount: int) -> str:
    """Write micro-USD as a plain decimal, without a currency sign."""
    return spell_decimal(amount, places=USD_PLACES)


def spell_time(at_s: int) -> str:
    """Write a moment, UTC; nothing where there was none.

    >>> spell_time(1_800_000_000), spell_time(0)
    ('2027-01-15 08:00:00', '')
    """
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d %H:%M:%S}" if at_s else ""


def spell_day(at_s: int) -> str:
    """Write the day of a moment, UTC."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d}"
