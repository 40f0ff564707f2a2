"""What a job may expect before anything is signed: the market's word, and clouds' prices."""

from collections.abc import Iterable

from sublet.core.document import Order
from sublet.core.gpu_kind import parse_kind
from sublet.core.outlook import Outlook
from sublet.core.pricing.catalogue import (
    CLOUDS,
    CloudPrice,
    Instance,
    find_cheapest,
)
from sublet.sdk.exchange import ask_outlook
from sublet.workload.client import AsyncClient


async def fetch_outlook(client: AsyncClient, order: Order) -> Outlook:
    """Ask when this order would begin, and when its work would be done.

    Raises:
        Unavailable: the market does not answer.
        Refused: the order means nothing.
    """
    await client.pin()
    return await client.connection.ask(ask_outlook(order))


def compare_clouds(
    instances: Iterable[Instance], order: Order
) -> tuple[CloudPrice, ...]:
    """Give what the large clouds would cost, and the cheapest other one.

    Each of ``CLOUDS`` is there, with prices of -1 where the catalogue has nothing of it
    that does. Nothing where the order is not for a GPU: there it has no machines.
    """
    if not order.gpu_count:
        return ()
    found = find_cheapest(
        instances,
        kinds=[parse_kind(kind, field="order.gpu_models") for kind in order.gpu_models],
        gpu_count=order.gpu_count,
        gpu_memory_bytes=order.gpu_memory_bytes,
        cpus_milli=order.cpus_milli,
        memory_bytes=order.memory_bytes,
    )
    large = {each.provider: each for each in found if each.provider in CLOUDS}
    others = [each for each in found if each.provider not in CLOUDS][:1]
    return (
        *(large.get(name) or CloudPrice(provider=name) for name in CLOUDS),
        *others,
    )
