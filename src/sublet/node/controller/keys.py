"""The keys of one detached job's controller, made of the operator's. Pure.

Every node of a market holds the operator's key, so each can take a job over, and
nothing secret has to be kept or passed on. Each job has keys of its own: what one
job's delegate signs can be spent under that job's delegation and nowhere else.
"""

import asyncssh
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from sublet.base.ids import Address, Digest
from sublet.sdk.job_channel import ClientKey
from sublet.wire.signature import Key


class ControllerKeys:
    """Derives what a controller signs and dials with."""

    def __init__(self, operator: Key, market: Digest) -> None:
        """Take the operator's key, and the market that it is for."""
        self._secret = bytes.fromhex(operator.to_hex()[2:])
        self._market = market

    def __repr__(self) -> str:
        return "ControllerKeys()"

    def delegate(self, tenant: Address, job: str) -> Key:
        """Give the key that orders and pays for one job."""
        return Key.generate(self._derive("delegate", tenant, job))

    def ssh(self, tenant: Address, job: str) -> ClientKey:
        """Give the key that the job's leases admit."""
        private = Ed25519PrivateKey.from_private_bytes(self._derive("ssh", tenant, job))
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        return ClientKey(asyncssh.import_private_key(pem))

    def _derive(self, use: str, tenant: Address, job: str) -> bytes:
        info = f"sublet controller v1|{self._market}|{use}|{tenant}|{job}".encode()
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=info)
        return derived.derive(self._secret)
