"""A chain in this process (titanoboa), spoken to in raw calls: what a test hands over is
exactly what a transaction would carry, and a revert is an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boa
import eth_abi
from boa.environment import Env

from sublet.base.ids import Address
from sublet.wire.typed_data import keccak

CONTRACTS = Path(__file__).parents[2] / "contracts"
BLOCK_S = 12


@dataclass(frozen=True)
class Log:
    """One log entry."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True)
class Done:
    """What came of a call: ``fault`` is the reason of a revert, "" without one."""

    ok: bool
    output: bytes
    logs: tuple[Log, ...]
    fault: str
    gas: int

    def give(self, *types: str) -> Any:
        """Decode what was returned; a single value comes bare."""
        assert self.ok, self.fault
        values = eth_abi.decode(list(types), self.output)
        return values[0] if len(values) == 1 else values


@cache
def compiled(source: str) -> Any:
    """Compile a contract once a process; a path below ``contracts``, or a source."""
    if source.endswith(".vy"):
        return boa.load_partial(str(CONTRACTS / source))
    return boa.loads_partial(source)


def find_slot(source: str, name: str) -> int:
    """Find in which storage slot a contract keeps a variable."""
    layout = compiled(source).compiler_data.storage_layout
    return int(layout["storage_layout"][name]["slot"])


@cache
def selector(signature: str) -> bytes:
    return keccak(signature.encode())[:4]


class Evm:
    """One chain, alone in its own environment."""

    chain_id = 1  # what titanoboa calls itself

    def __init__(self) -> None:
        self.env = Env()

    @property
    def now_s(self) -> int:
        return self.env.timestamp

    def pass_s(self, seconds: int) -> None:
        """Let time pass: at least one block."""
        self.env.evm.patch.timestamp += seconds
        self.env.evm.patch.block_number += 1

    def deploy(self, source: str, *args: Any, at: Address = "") -> Address:
        """Deploy a contract; ``at`` puts it where others expect one."""
        place = boa.util.abi.Address(at) if at else None
        with boa.swap_env(self.env):
            contract = compiled(source).deploy(*args, override_address=place)
        return str(contract.address).lower()

    def read(self, target: Address, slot: int, *keys: bytes) -> int:
        """Read storage: a slot, or what a mapping there holds under these keys."""
        for one in keys:
            slot = int.from_bytes(
                keccak(slot.to_bytes(32, "big") + one.rjust(32, b"\0")), "big"
            )
        return int(self.env.get_storage(target, slot))

    def call(
        self,
        target: Address,
        signature: str,
        *args: Any,
        sender: Address = "0x" + "99" * 20,
    ) -> Done:
        """Call a function, such as ``settle(address,address)``."""
        types = split_types(signature)
        data = selector(signature) + eth_abi.encode(types, args)
        return self.send(target, data, sender=sender)

    def send(self, target: Address, data: bytes, *, sender: Address) -> Done:
        """Send raw bytes, as one transaction of its own: reverted whole or not at all."""
        state = self.env.evm.vm.state
        done = self.env.execute_code(to_address=target, sender=sender, data=data)
        state.clear_transient_storage()
        logs = () if done.is_error else done.get_log_entries()
        return Done(
            ok=not done.is_error,
            output=b"" if done.is_error else done.output,
            logs=tuple(
                Log(
                    "0x" + address.hex(),
                    tuple(t.to_bytes(32, "big") for t in topics),
                    d,
                )
                for address, topics, d in logs
            ),
            fault=_reason(done.error.args[0]) if done.is_error else "",
            gas=done.get_gas_used(),
        )


def _reason(output: object) -> str:
    if not isinstance(output, bytes):
        return str(output)
    if output[:4] == selector("Error(string)"):
        return str(eth_abi.decode(["string"], output[4:])[0])
    return "0x" + output.hex()


def split_types(signature: str) -> Sequence[str]:
    """Give the types of the arguments of a function, as they stand in its signature."""
    inside = signature[signature.index("(") + 1 : -1]
    types, depth, start = [], 0, 0
    for at, letter in enumerate(inside):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            types.append(inside[start:at])
            start = at + 1
    return [*types, inside[start:]] if inside else []
