"""Names of things: addresses of parties, digests of documents.

Both are lower-case hex strings with ``0x``; the EIP-55 mixed case is for eyes only
and never enters a document.
"""

from typing import Annotated

from msgspec import Meta

Address = Annotated[
    str,
    Meta(
        pattern=r"\A0x[0-9a-f]{40}\Z",
        description="an EVM address, the identity of a party",
        extra={"abi": "address"},
    ),
]

Digest = Annotated[
    str,
    Meta(
        pattern=r"\A0x[0-9a-f]{64}\Z",
        description="32 bytes: a document's EIP-712 digest or a content hash",
        extra={"abi": "bytes32"},
    ),
]

NO_ADDRESS: Address = "0x" + "0" * 40
NO_DIGEST: Digest = "0x" + "0" * 64
