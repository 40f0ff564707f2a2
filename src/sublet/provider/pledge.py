"""What binds a lease whatever a node says: the two parties' own signatures. Pure.

A node tells each side what the other has agreed to, so it could tell each something
else. Over the job channel, end to end, they show each other the originals: the
provider its terms and its offer (with the host key that the tenant must see), the
tenant its order (with the key that may log in).

Not here: what was matched (``commitment``), what the tenant checks (``workload.run``).
"""

from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import NO_DIGEST
from sublet.core.document import Offer, Order
from sublet.core.lease.phase import Lease
from sublet.core.lease.piece import is_lease_of
from sublet.provider.commitment import make_terms
from sublet.provider.surroundings import Surroundings, draw_salt
from sublet.wire import codec
from sublet.wire.message import Signed, Terms
from sublet.wire.typed_data import Domain

FIXED = (
    "id",
    "offer_id",
    "tenant",
    "provider",
    "machine",
    "price_hour",
    "duration_s",
    "cpus_milli",
    "memory_bytes",
    "disk_bytes",
    "gpu_uuids",
    "manifest",
    "sandbox",
    "features",
    "ssh_key",
    "ssh_host_key",
    "delegation",
    "delegate",
    "order",
    "spot_max",
    "notice_s",
)
"""Fields of a lease that nothing may change once it was taken on."""


def find_changes(before: Lease, after: Lease) -> list[str]:
    """Name the fixed fields in which a node now tells something else."""
    return [name for name in FIXED if getattr(before, name) != getattr(after, name)]


def make_pledge(lease: Lease, offer: Offer, around: Surroundings) -> Terms:
    """Sign what this provider has promised, for the tenant's own eyes."""
    terms = make_terms(lease, now_s=around.clock.now_s(), salt=draw_salt())
    return Terms(terms=around.sign(terms), offer=around.sign(offer))


def check_order(signed: Signed | None, lease: Lease, *, domain: Domain) -> None:
    """Check that a lease is what its tenant (or its delegate) ordered.

    Raises:
        Refused: no order came (``no_order``).
        PeerFault: it is another one's, or the node told another lease than was
            ordered (``lease_forged``).
    """
    if signed is None:
        raise Refused("deliver the signed order, too", code="no_order")
    try:
        id_, signer = codec.verify(signed, domain=domain)
    except Refused as fault:
        raise PeerFault(fault.message, code=fault.code) from fault
    order = signed.document
    if not isinstance(order, Order):
        raise PeerFault("this is no order", code="wrong_document")
    is_delegated = order.delegation != NO_DIGEST
    facts = {
        "id": id_ == lease.order and is_lease_of(lease.id, id_),
        "tenant": order.tenant == lease.tenant,
        "delegation": order.delegation == lease.delegation,
        "signer": signer == (lease.delegate if is_delegated else order.tenant),
        "manifest": order.manifest == lease.manifest,
        "ssh_key": order.ssh_key == lease.ssh_key,
        "price": lease.price_hour <= order.price_hour_max,
        "duration": lease.duration_s <= order.duration_s_max,
        "provider": lease.provider not in order.avoid,
    }
    if wrong := sorted(name for name, holds in facts.items() if not holds):
        raise PeerFault(
            "the node told this provider another lease than the tenant ordered: "
            f"{', '.join(wrong)}",
            code="lease_forged",
            detail={"lease": lease.id},
        )
