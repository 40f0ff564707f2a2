"""A contract that answers with what it is given, says it as an event, and hates silence.

The same one twice: in the EVM's own words, and for the chain in memory.
"""

from sublet.service.chain_port import Reverted
from tests.fakes.chain_memory import Message

# Nothing given: revert. Else: copy it, LOG1 with its first word as topic, return it.
RUNTIME = bytes.fromhex("36600757" + "5f5ffd5b" + "365f5f375f35365fa1365ff3")
CREATION = bytes.fromhex(f"60{len(RUNTIME):02x}8060093d393df3") + RUNTIME


class Echo:
    """It counts nothing: how often it was called, its events say."""

    def __init__(self, address: str, creation: bytes = b"") -> None:
        self.address = address

    def handle(self, message: Message) -> tuple[bytes, list[tuple[list[str], bytes]]]:
        if not message.data:
            raise Reverted("the contract refuses: it hates silence")
        topic = "0x" + message.data[:32].ljust(32, b"\0").hex()
        return message.data, [([topic], message.data)]
