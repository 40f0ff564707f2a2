"""What a sealed thing of a job is: the name that goes into its key. Pure.

Both ends compute it, so nothing can be shown as what it is not: outputs of another
lease, one stream as the other, a piece of a stream at another place.
"""

from sublet.base.ids import Digest

MANIFEST = "manifest"
INPUTS = "inputs"
CHECKPOINT = "checkpoint"


def outputs(lease_id: Digest) -> str:
    """Name the outputs of one lease."""
    return f"outputs|{lease_id}"


def stream(name: str, lease_id: Digest, offset: int) -> str:
    """Name a piece of stdout or stderr of one lease that begins at a byte."""
    return f"{name}|{lease_id}|{offset}"
