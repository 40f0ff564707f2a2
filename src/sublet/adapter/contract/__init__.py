"""The contracts as they are deployed: ABI and bytecode, made by ``make contracts``.

Not here: their sources (``contracts/``), talking to a chain (``adapter.chain_rpc``).
"""

from functools import cache
from importlib import resources
from typing import Any, Literal

import msgspec
from msgspec import Struct

Name = Literal["escrow", "collector", "stake", "converter", "usdc", "render"]


class Artifact(Struct, frozen=True):
    """One contract, compiled."""

    source: str  # its path in the repository
    source_sha256: str
    compiler: str
    evm: str  # the oldest chain that runs it
    optimize: str
    abi: list[dict[str, Any]]
    bytecode: str  # that deploys it, hex with 0x; arguments of the constructor follow


@cache
def load_contract(name: Name) -> Artifact:
    """Read a contract's artifact out of the package."""
    content = resources.files(__name__).joinpath(f"{name}.json").read_bytes()
    return msgspec.json.decode(content, type=Artifact)
