"""What the book remembers of an attestation, and shows to whoever asks. Plain values.

Not here: who may say what (``by_auditor``), what it is worth to an order (``wish``).
"""

from msgspec import Struct

from sublet.base.ids import Address


class AttestationRecord(Struct, frozen=True):
    """What an auditor vouches for, of a provider or of one machine of it."""

    auditor: Address
    provider: Address
    machine: str  # "" for all of them
    attributes: tuple[str, ...]  # empty: revoked
    expires_at_s: int
    signed_at_s: int  # an older one replaces nothing
