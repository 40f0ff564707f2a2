"""The particulars of a wish: which GPUs, which place, whose word, whose speed. Pure.

Each is refused by its own name, with the cure. Not here: sizes, counts and prices
(``need``), what the market makes of them (``core.book.wish``).
"""

import re
from collections.abc import Callable
from datetime import datetime

from sublet.base import limits
from sublet.base.ids import Address
from sublet.base.units import parse_duration, parse_money, parse_rate
from sublet.core.gpu_level import (
    INTERFACES,
    SHARINGS,
    VENDORS,
    parse_compute,
    parse_cuda,
    parse_driver,
    parse_share,
)
from sublet.core.wording import NAME, PAIR, check_text
from sublet.workload.run.wish import Collector, Particulars, T, Wish, refuse

DISK_CLASSES = ("hdd", "ssd", "nvme")
PRICINGS = ("second_score", "pay_as_bid")
WORKS = ("cpu", "disk", "gpu")
AVOID_MAX = 12  # so that a job can add those with whom it fared badly
ANY = "any"
DEADLINE_S_MAX = limits.WAIT_S_MAX + limits.LEASE_S_MAX

_REGION = re.compile(r"\A[A-Z]{2}(-[A-Z0-9]{1,3})?\Z")
_ADDRESS = re.compile(r"\A0x[0-9a-f]{40}\Z")
_LATENCY = re.compile(r"\A([^=]*)=\s*([0-9]{1,4})\s*(?:ms)?\Z")
_WISHES_OF_GPU = (
    *("gpu_vendor", "gpu_interface", "compute_capability", "driver", "cuda"),
    *("gpu_share", "gpu_sharing"),
)


def wants_gpu(wish: Wish) -> bool:
    """Say whether one of the particulars means nothing without a GPU."""
    return any(getattr(wish, name) is not None for name in _WISHES_OF_GPU)


def parse_particulars(wish: Wish, found: Collector, *, now_s: int) -> Particulars:
    """Read them; faults go into ``found``.

    Args:
        wish: as typed.
        found: where faults go.
        now_s: from which on a deadline that is a span counts.
    """
    near, near_price = found.take(("", 0), _parse_near, wish.near)
    return Particulars(
        disk_classes=parse_all(
            found, wish.disk_classes, "--disk-class", _of(DISK_CLASSES)
        ),
        gpu_vendor=_one(found, wish.gpu_vendor, "--gpu-vendor", _of(VENDORS), ""),
        gpu_interface=_one(
            found, wish.gpu_interface, "--gpu-interface", _of(INTERFACES), ""
        ),
        gpu_compute=_one(
            found,
            wish.compute_capability,
            "--compute-capability",
            lambda text, field: parse_compute(text, field=field),
            0,
        ),
        gpu_driver=_one(
            found,
            wish.driver,
            "--driver",
            lambda text, field: parse_driver(text, field=field),
            0,
        ),
        cuda=_one(
            found,
            wish.cuda,
            "--cuda",
            lambda text, field: parse_cuda(text, field=field),
            0,
        ),
        gpu_share_milli=_one(
            found, wish.gpu_share, "--gpu-share", _parse_share, limits.GPU_SHARE_WHOLE
        ),
        gpu_sharing=_one(found, wish.gpu_sharing, "--gpu-sharing", _of(SHARINGS), ""),
        jurisdictions=parse_all(
            found, wish.jurisdictions, "--jurisdiction", parse_region
        ),
        up_mbit_s=_one(found, wish.up, "--up", _parse_rate, 0),
        down_mbit_s=_one(found, wish.down, "--down", _parse_rate, 0),
        latencies=parse_all(found, wish.latencies, "--latency", _parse_latency),
        attributes=parse_all(found, wish.attributes, "--attribute", _parse_pair),
        auditors_any=parse_all(found, wish.auditors, "--auditor", parse_address),
        auditors_all=parse_all(
            found, wish.auditors_all, "--auditor-all", parse_address
        ),
        avoid=parse_all(found, wish.avoid, "--avoid", parse_address, most=AVOID_MAX),
        work=_one(found, wish.work, "--work", _of(WORKS), ""),
        near=near,
        near_price_hour=near_price,
        data_at=parse_all(found, wish.data_at, "--data-at", parse_address),
        data_price_hour=found.take(0, _parse_data_price, wish),
        pricing=_one(found, wish.pricing, "--pricing", _of(PRICINGS), PRICINGS[0]),
        deadline_s=found.take(0, _parse_deadline, wish.deadline, now_s),
    )


Parse = Callable[[str, str], T]  # of a text and its field


def _one(
    found: Collector, text: str | None, field: str, parse: Parse[T], default: T
) -> T:
    return default if text is None else found.take(default, parse, text, field)


def parse_all(
    found: Collector,
    texts: tuple[str, ...],
    field: str,
    parse: Parse[str],
    *,
    most: int = limits.LIST_LENGTH_MAX,
) -> tuple[str, ...]:
    """Read each of a list, without those that are said twice; faults go into ``found``."""
    words = tuple(found.take("", parse, text, field) for text in texts)
    distinct = tuple(dict.fromkeys(words))
    if len(distinct) > most:
        found.faults.append(
            refuse(
                field,
                f"{len(distinct)} are given; an order names at most {most}",
                code="too_many_named",
            )
        )
    return distinct


def _of(names: tuple[str, ...]) -> Parse[str]:
    def parse(text: str, field: str) -> str:
        name = text.strip().lower()
        if name not in names:
            raise refuse(
                field,
                f"there is no {text[:40]!a}; it is one of: {', '.join(names)}",
                code="bad_choice",
            )
        return name

    return parse


def parse_region(text: str, field: str) -> str:
    """Read an ISO 3166 code.

    Raises:
        Refused: ``bad_region``.

    >>> parse_region(" us-ca", "--region")
    'US-CA'
    """
    region = text.strip().upper()
    if _REGION.match(region) is None:
        raise refuse(
            field,
            f"{region[:40]!r} is not an ISO 3166 code; write it like DE or US-CA",
            code="bad_region",
        )
    return region


def parse_address(text: str, field: str) -> Address:
    """Read a party's address.

    Raises:
        Refused: ``bad_address``.
    """
    address = text.strip().lower()
    if _ADDRESS.match(address) is None:
        raise refuse(
            field,
            f"{text[:80]!a} is no address; write it like 0x and 40 digits",
            code="bad_address",
        )
    return address


def _parse_pair(text: str, field: str) -> str:
    check_text(text, PAIR, field=field)
    return text


def _parse_share(text: str, field: str) -> int:
    return 0 if text.strip().lower() == ANY else parse_share(text, field=field)


def _parse_rate(text: str, field: str) -> int:
    rate = parse_rate(text, field=field)
    if not 0 < rate <= limits.RATE_MBIT_S_MAX:
        what = "nothing" if not rate else "more than any machine has"
        raise refuse(field, f"{text[:40]!r} is {what}", code="out_of_range")
    return rate


def _parse_latency(text: str, field: str) -> str:
    match = _LATENCY.match(text.strip())
    if match is None or int(match[2]) > limits.LATENCY_MS_MAX:
        raise refuse(
            field,
            f"{text[:80]!a} is no latency; write it like frankfurt=30ms, of at most "
            f"{limits.LATENCY_MS_MAX} ms",
            code="bad_latency",
        )
    check_text(match[1], NAME, field=field)
    return f"{match[1]}={int(match[2])}"


def _parse_near(text: str | None) -> tuple[str, int]:
    """Read ``PLACE=USD``: what each millisecond to the place is worth an hour."""
    if text is None:
        return "", 0
    place, equals, price = text.strip().partition("=")
    if not equals:
        raise refuse(
            "--near",
            f"{text[:80]!a} says no price; write it like frankfurt=0.001: dollars an "
            "hour that each millisecond to there weighs",
            code="bad_near",
        )
    check_text(place, NAME, field="--near")
    return place, _parse_weight(price, "--near")


def _parse_weight(text: str, field: str) -> int:
    weight = parse_money(text, field=field)
    if weight > limits.PRICE_PER_HOUR_MAX:
        raise refuse(field, f"{text!r} is more than any machine", code="out_of_range")
    return weight


def _parse_data_price(wish: Wish) -> int:
    if (wish.data_price is None) == bool(wish.data_at):
        raise refuse(
            "--data-price",
            "goes together with --data-at: where the data is, and what it costs an "
            "hour to bring it elsewhere",
            code="bad_data",
        )
    if wish.data_price is None:
        return 0
    return _parse_weight(wish.data_price, "--data-price")


def _parse_deadline(text: str | None, now_s: int) -> int:
    """Read a span from now on, or an instant with its zone."""
    if text is None:
        return 0
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        at_s = now_s + parse_duration(text, field="--deadline")
    else:
        if at.tzinfo is None:
            raise refuse(
                "--deadline",
                f"{text[:40]!r} has no zone; write it like 2030-01-31T18:00Z, or 6h",
                code="bad_deadline",
            )
        at_s = int(at.timestamp())
    if not now_s < at_s <= now_s + DEADLINE_S_MAX:
        raise refuse(
            "--deadline",
            f"{text[:40]!r} is over, or more than {DEADLINE_S_MAX // 86_400} days ahead",
            code="bad_deadline",
        )
    return at_s
