"""The key of a scratch: half of it from the tenant, and wiped as far as that goes.

Neither half alone gives the key. The tenant's half comes over the encrypted channel
with the delivery and is never written down here; the tenant destroys its own copy when
the job is over.

What wiping does not mean: a half arrives as text in a JSON message, and Python has
copied it before anybody could wipe it. Such copies die with this process or are
overwritten as memory is reused; that is why swap must be off.
"""

import hashlib
import secrets

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sublet.base.ids import Digest

KEY_BYTES = 32
_INFO = b"sublet scratch v1"
_ID_BYTES = 16


class ScratchKey:
    """A key in memory, for as long as a ``with`` lasts. Shows its id, nothing else."""

    def __init__(self, tenant_half: bytes, *, lease_id: Digest) -> None:
        """Draw this side's half and derive the key; the halves are wiped at once."""
        self.bytes = bytearray(KEY_BYTES)
        halves = bytearray(secrets.token_bytes(KEY_BYTES) + tenant_half)
        try:
            salt = bytes.fromhex(lease_id[2:])
            hkdf = HKDF(hashes.SHA256(), KEY_BYTES, salt=salt, info=_INFO)
            hkdf.derive_into(halves, self.bytes)
        finally:
            wipe(halves)
        name = hashlib.sha256(b"sublet key id" + self.bytes)
        self.id = name.hexdigest()[: 2 * _ID_BYTES]

    def __enter__(self) -> "ScratchKey":
        return self

    def __exit__(self, *_: object) -> None:
        wipe(self.bytes)

    def __repr__(self) -> str:
        return f"ScratchKey({self.id})"


def wipe(secret: bytearray) -> None:
    """Overwrite a secret where it lies."""
    secret[:] = bytes(len(secret))
