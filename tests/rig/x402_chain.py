"""The escrow where x402's client expects one: at the addresses that it has built in.

The contracts of a development chain are copied there. What their constructors computed
of their own address lies in their code, and is exchanged.
"""

from sublet.adapter.devchain import DevChain
from sublet.base.ids import NO_DIGEST, Address
from sublet.wire.typed_data import Domain
from tests.rig.anvil import Rig

ESCROW: Address = "0x4020074e9df2ce1dee5a9c1b5c3f541d02a10003"
COLLECTOR: Address = "0x4020806089470a89826cb9fb1f4059150b550004"


async def place_at_x402(devchain: DevChain, rig: Rig) -> None:
    """Copy escrow and collector to x402's addresses."""

    def separate(address: Address) -> bytes:
        return Domain(NO_DIGEST, devchain.chain_id, address).channel_separator

    for source, target, old, new in (
        (devchain.escrow, ESCROW, separate(devchain.escrow), separate(ESCROW)),
        (
            devchain.collector,
            COLLECTOR,
            bytes.fromhex(devchain.escrow[2:]),
            bytes.fromhex(ESCROW[2:]),
        ),
    ):
        code = await devchain.chain.code(source)
        assert code.count(old) == 1, "the constructor's word, once"
        rig.tell("anvil_setCode", target, f"0x{code.replace(old, new).hex()}")
