"""Money, sizes, durations: how people write them, how Sublet holds them.

Inside, money is integer micro-USD, a size is integer bytes, a duration is integer
seconds. Nothing here reads a clock.
"""

import re
from typing import NewType

from sublet.base.errors import Refused

MicroUsd = NewType("MicroUsd", int)

MICRO_USD_PER_USD = 1_000_000
MS_PER_HOUR = 3_600_000

# ASCII digits, and so few that no number is too long to be read.
_SIZE = re.compile(r"\A([0-9]{1,18}(?:\.[0-9]{1,6})?)\s*([kKMGTP]i?B?|B)\Z")
_MONEY = re.compile(r"\A\$?([0-9]{1,12})(?:\.([0-9]{1,6}))?\Z")
_RATE = re.compile(r"\A([0-9]{1,9})(?:\.([0-9]{1,3}))?\s*(M|G|T)bit(?:/s|ps)?\Z")
_DURATION = re.compile(r"\A([0-9]{1,12})(s|m|h|d)\Z")

_POWER = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_size(text: str, *, field: str) -> int:
    """Read ``24GB`` (10^9), ``24GiB`` or ``24Gi`` (2^30) as bytes.

    Raises:
        Refused: no unit, no number, or something else.

    >>> parse_size("24GB", field="--vram"), parse_size("1.5Gi", field="--memory")
    (24000000000, 1610612736)
    """
    match = _SIZE.match(text.strip())
    if match is None:
        raise Refused(
            f"{field}: {text!r} is not a size; write a number and a unit, "
            "such as 24GB (10^9 bytes) or 24GiB (2^30 bytes)",
            code="bad_size",
            field=field,
        )
    number, unit = match.groups()
    if unit == "B":
        base, power = 1, 0
    else:
        base = 1_024 if "i" in unit else 1_000
        power = _POWER[unit[0].upper()]
    whole, _, fraction = number.partition(".")
    scaled = int(whole + fraction) * int(base**power)
    return int(scaled // 10 ** len(fraction))


def parse_rate(text: str, *, field: str) -> int:
    """Read ``100Mbit``, ``2.5Gbit/s`` as 10^6 bits a second.

    Raises:
        Refused: no unit, or something else, bytes for example.

    >>> parse_rate("100Mbit", field="--up"), parse_rate("2.5Gbit/s", field="--up")
    (100, 2500)
    """
    match = _RATE.match(text.strip())
    if match is None or (match[3] == "M" and match[2]):
        raise Refused(
            f"{field}: {text[:40]!r} is not a bandwidth; write it like 100Mbit or "
            "2.5Gbit (10^6 and 10^9 bits a second)",
            code="bad_rate",
            field=field,
        )
    thousandths = int(match[1]) * 1_000 + int((match[2] or "").ljust(3, "0"))
    return thousandths * {"M": 1, "G": 1_000, "T": 1_000_000}[match[3]] // 1_000


def parse_money(text: str, *, field: str) -> MicroUsd:
    """Read ``0.40`` or ``$0.40`` as micro-USD.

    Raises:
        Refused: not a plain, positive decimal with at most six places.

    >>> parse_money("$0.40", field="--max-price")
    400000
    """
    match = _MONEY.match(text.strip())
    if match is None:
        raise Refused(
            f"{field}: {text!r} is not an amount in US dollars; write it like 0.40, "
            "with at most six decimal places",
            code="bad_money",
            field=field,
        )
    whole, fraction = match.groups()
    return MicroUsd(
        int(whole) * MICRO_USD_PER_USD + int((fraction or "").ljust(6, "0"))
    )


def parse_duration(text: str, *, field: str) -> int:
    """Read ``90s``, ``15m``, ``2h`` or ``1d`` as seconds.

    Raises:
        Refused: no unit, or something else.

    >>> parse_duration("15m", field="--timeout")
    900
    """
    match = _DURATION.match(text.strip())
    if match is None:
        raise Refused(
            f"{field}: {text!r} is not a duration; write it like 90s, 15m, 2h or 1d",
            code="bad_duration",
            field=field,
        )
    number, unit = match.groups()
    return int(number) * _SECONDS[unit]


def format_money(amount: int) -> str:
    """Write micro-USD as dollars: at least two places, never rounded.

    >>> format_money(400_000), format_money(1_234_567), format_money(-5)
    ('$0.40', '$1.234567', '-$0.000005')
    """
    sign = "-" if amount < 0 else ""
    whole, fraction = divmod(abs(amount), MICRO_USD_PER_USD)
    places = f"{fraction:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole}.{places}"


def format_size(size_bytes: int) -> str:
    """Write bytes in the largest binary unit that keeps one decimal.

    >>> format_size(1_610_612_736), format_size(900)
    ('1.5 GiB', '900 B')
    """
    value, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1_024:
            break
        value, unit = value / 1_024, larger
    return f"{size_bytes} B" if unit == "B" else f"{value:.1f} {unit}"


def spell_size(size_bytes: int) -> str:
    """Write bytes so that ``parse_size`` reads the same number again.

    >>> spell_size(60 << 30), spell_size(100_000_000_000), spell_size(1_537)
    ('60GiB', '100GB', '1537B')
    """
    spelt = [f"{size_bytes}B"]
    for base, infix in ((1_024, "i"), (1_000, "")):
        for letter, power in _POWER.items():
            count, rest = divmod(size_bytes, base**power)
            if count and not rest:
                spelt.append(f"{count}{letter}{infix}B")
    return min(spelt, key=len)


def format_duration(duration_s: int) -> str:
    """Write seconds as people say them.

    >>> format_duration(59), format_duration(3_725)
    ('59s', '1h 2m 5s')
    """
    parts = []
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        count, duration_s = divmod(duration_s, length_s)
        if count:
            parts.append(f"{count}{unit}")
    if duration_s or not parts:
        parts.append(f"{duration_s}s")
    return " ".join(parts)


def compute_owed(*, price_hour: int, ran_ms: int) -> MicroUsd:
    """Price the time that a lease ran. Rounds down, in the tenant's favour.

    Computed from the start of the lease each time, never as a sum of rounded ticks.

    >>> compute_owed(price_hour=360_000, ran_ms=1_500)
    150
    """
    return MicroUsd(price_hour * ran_ms // MS_PER_HOUR)
