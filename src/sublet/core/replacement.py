"""The tenant's word for another program on a lease that runs: image, command, variables.

Not here: what else the parties say (``document``), what may change (``wire.replacing``).
"""

from sublet.base.ids import Digest
from sublet.core.member import Document, Salt, Seconds


class Replacement(Document, frozen=True, tag="Replacement"):
    """The tenant wants another program on the same lease; its price stays as it was.

    The provider answers with a Delivery of this manifest, once that program runs.
    """

    lease_id: Digest
    manifest: Digest  # the commitment, as an order has it
    signed_at_s: Seconds
    salt: Salt
