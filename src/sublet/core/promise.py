"""What an offer promises of an order's wishes, by its owner's own signed words.

Who holds offer and order needs nobody else to see whether they fit: a tenant holds a match
against it, whatever the market says. The book asks the same of many offers at a time
(``book.wish``). Not here: room and price, and what auditors say: that stands elsewhere
in the log.
"""

from collections.abc import Iterable

from sublet.core.document import Offer, Order
from sublet.core.gpu_kind import fits_any

_AT_LEAST = ("up_mbit_s", "down_mbit_s")
_AT_LEAST_GPU = (
    *("gpu_memory_bytes", "gpu_share_milli", "gpu_compute", "gpu_driver", "cuda"),
)
_SCORES = {"cpu": "cpu_score", "disk": "disk_score", "gpu": "gpu_score"}


def find_unmet(offer: Offer, order: Order) -> tuple[str, ...]:
    """Name the order's wishes that this offer does not promise to meet.

    Raises:
        Refused: ``bad_gpu``: the order's kinds mean nothing.
    """
    words = set(offer.attributes)
    is_vouched = bool(order.auditors_any or order.auditors_all)
    facts = {
        **_of_kind(offer, order),
        **{name: getattr(offer, name) >= getattr(order, name) for name in _AT_LEAST},
        "disk_class": _is_any(offer.disk_class, order.disk_classes),
        "region": not order.regions or is_within(offer.region, order.regions),
        "jurisdiction": not order.jurisdictions
        or is_within(offer.jurisdiction, order.jurisdictions),
        "latency": all(_is_near(offer, text) for text in order.latencies),
        "sandbox": not order.sandbox or order.sandbox in offer.sandboxes,
        "features": set(order.features) <= set(offer.features),
        "attributes": is_vouched or set(order.attributes) <= words,
        "speed": not order.work or getattr(offer, _SCORES[order.work]) > 0,
        "refused": order.tenant not in offer.refuses,
    }
    return tuple(name for name, is_met in facts.items() if not is_met)


def _of_kind(offer: Offer, order: Order) -> dict[str, bool]:
    if not order.gpu_count:
        return {}
    return {
        "gpu_model": fits_any(offer, order.gpu_models),
        "gpu_vendor": order.gpu_vendor in ("", offer.gpu_vendor),
        "gpu_interface": order.gpu_interface in ("", offer.gpu_interface),
        "gpu_sharing": not order.gpu_sharing
        or offer.gpu_sharing in ("", order.gpu_sharing),
        **{n: getattr(offer, n) >= getattr(order, n) for n in _AT_LEAST_GPU},
    }


def is_within(region: str, wanted: Iterable[str]) -> bool:
    """Say whether a region is one of these, or a part of one.

    >>> is_within("US-CA", ["DE", "US"]), is_within("", ["US"])
    (True, False)
    """
    return any(region == one or region.startswith(f"{one}-") for one in wanted)


def _is_any(word: str, wanted: tuple[str, ...]) -> bool:
    return not wanted or word in wanted


def _is_near(offer: Offer, wanted: str) -> bool:
    place, _, ms_max = wanted.partition("=")
    said = (text.partition("=") for text in offer.latencies)
    return any(where == place and int(ms) <= int(ms_max) for where, _, ms in said)
