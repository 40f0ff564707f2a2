"""The quantities of SDL: thousandths of a CPU, bytes, decimal amounts. Pure, exact."""

import re
from decimal import Decimal

_CPU = re.compile(r"\A(?:([0-9]{1,9})m|([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9}))\Z")
_SIZE = re.compile(r"\A([0-9]{1,20}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(k|Ki|[MGTPE]i?)?\Z")
_POWER = {"k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6, "K": 1}


def find_cpus_milli(text: str) -> int | None:
    """Read ``0.5`` or ``500m`` as thousandths; None where it is neither.

    >>> find_cpus_milli("0.5"), find_cpus_milli("500m"), find_cpus_milli("-1")
    (500, 500, None)
    """
    match = _CPU.match(text)
    if match is None:
        return None
    return int(match[1]) if match[1] else int(Decimal(match[2]) * 1_000)


def find_bytes(text: str) -> int | None:
    """Read ``512Mi``, ``1.5Gi``, ``1G`` or bare bytes; None where it is none of them.

    >>> find_bytes("512Mi"), find_bytes("1.5k"), find_bytes("24GB")
    (536870912, 1500, None)
    """
    match = _SIZE.match(text)
    if match is None:
        return None
    unit = match[2] or ""
    base = 1_024 if unit.endswith("i") else 1_000
    return int(Decimal(match[1]) * base ** (_POWER[unit[0]] if unit else 0))


def format_amount(text: str) -> str:
    """Write a price with eighteen places, as the chain's decimals are.

    >>> format_amount("1000")
    '1000.000000000000000000'
    """
    whole, _, fraction = text.partition(".")
    return f"{int(whole)}.{fraction.ljust(18, '0')}"
