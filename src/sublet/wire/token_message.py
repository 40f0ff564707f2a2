"""What a payer signs so that tokens move: EIP-2612 permits, EIP-3009 authorizations.

The domain is the token's own: its name and version are read from the chain, never
guessed, since the same coin is called differently from chain to chain. Each message
can be written as the JSON of ``eth_signTypedData_v4``, for a hardware wallet.

Not here: the calls that carry the signatures (``escrow_call``).
"""

import json
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from sublet.base.ids import Address, Digest
from sublet.wire.abi import encode_values
from sublet.wire.typed_data import (
    compile_struct,
    digest_of,
    domain_separator,
    keccak,
)

_TYPES = {
    "Permit": (
        ("owner", "address"),
        ("spender", "address"),
        ("value", "uint256"),
        ("nonce", "uint256"),
        ("deadline", "uint256"),
    ),
    "ReceiveWithAuthorization": (
        ("from", "address"),
        ("to", "address"),
        ("value", "uint256"),
        ("validAfter", "uint256"),
        ("validBefore", "uint256"),
        ("nonce", "bytes32"),
    ),
}
_DOMAIN = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("verifyingContract", "address"),
)


class TokenDomain(Struct, frozen=True):
    """In which a token's messages are signed."""

    name: str
    version: str
    chain_id: int
    token: Address

    @property
    def fields(self) -> Mapping[str, str | int]:
        """As EIP-712 names them."""
        return {
            "name": self.name,
            "version": self.version,
            "chainId": self.chain_id,
            "verifyingContract": self.token,
        }

    @property
    def separator(self) -> bytes:
        """32 bytes, as the token's ``DOMAIN_SEPARATOR()`` gives them."""
        return domain_separator(self.fields)


class TokenMessage(Struct, frozen=True):
    """A message for a token's owner to sign."""

    domain: TokenDomain
    kind: str  # "Permit" or "ReceiveWithAuthorization"
    message: Mapping[str, str | int]

    @property
    def digest(self) -> Digest:
        """What is signed."""
        kinds = {self.kind: _TYPES[self.kind]}
        hashed = compile_struct(self.kind, kinds)(self.message)
        return digest_of(separator=self.domain.separator, struct_hash=hashed)

    def to_json(self) -> str:
        """Write it for ``eth_signTypedData_v4``; numbers as decimal texts."""

        def members(of: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
            return [{"name": name, "type": abi} for name, abi in of]

        typed: dict[str, Any] = {
            "types": {
                "EIP712Domain": members(_DOMAIN),
                self.kind: members(_TYPES[self.kind]),
            },
            "primaryType": self.kind,
            "domain": dict(self.domain.fields),
            "message": {
                name: str(said) if isinstance(said, int) else said
                for name, said in self.message.items()
            },
        }
        return json.dumps(typed, indent=2)


def permit(
    domain: TokenDomain,
    *,
    owner: Address,
    spender: Address,
    amount: int,
    nonce: int,
    deadline_s: int,
) -> TokenMessage:
    """Let a contract take this much, once; ``nonce`` as the token's ``nonces`` says."""
    message: dict[str, str | int] = {
        "owner": owner,
        "spender": spender,
        "value": amount,
        "nonce": nonce,
        "deadline": deadline_s,
    }
    return TokenMessage(domain, "Permit", message)


def authorization(
    domain: TokenDomain,
    *,
    payer: Address,
    escrow: Address,
    channel_id: Digest,
    amount: int,
    valid_after_s: int,
    valid_before_s: int,
    salt: int,
) -> TokenMessage:
    """Move this much into one channel of the escrow; whoever sends it, it goes there."""
    nonce = keccak(encode_values("(bytes32,uint256)", (channel_id, salt)))
    message: dict[str, str | int] = {
        "from": payer,
        "to": escrow,
        "value": amount,
        "validAfter": valid_after_s,
        "validBefore": valid_before_s,
        "nonce": "0x" + nonce.hex(),
    }
    return TokenMessage(domain, "ReceiveWithAuthorization", message)
