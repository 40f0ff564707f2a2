"""What one unit of a machine is asked for, with its share of all the rest of it.

A **unit** is one GPU or, of a machine without, one CPU. Not here: what is free of it, and
what others ask (``prices``).
"""

from sublet.core.document import Offer

_GIB_BITS = 30


def find_ask(offer: Offer) -> tuple[int, int]:
    """Give the price of one unit, rounded up, and the machine's units in thousandths."""
    units_milli = len(offer.gpu_uuids) * offer.gpu_share_milli or offer.cpus_milli
    whole = -(-offer.cpus_milli * offer.cpu_price_hour // 1_000)
    whole += -(-offer.memory_bytes * offer.memory_price_hour >> _GIB_BITS)
    whole += len(offer.gpu_uuids) * offer.gpu_price_hour
    return -(-whole * 1_000 // units_milli), units_milli
