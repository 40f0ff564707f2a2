"""Where the converter of an escrow is: everybody computes it, and nobody has to say.

It is made by the well-known CREATE2 deployer, so its address follows from its code and
from the escrow alone. Whoever is told of another one need not believe it, and at this
address nothing but this code can ever be.
"""

from sublet.adapter.contract import load_contract
from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST, Address
from sublet.core.rail.transaction import Call
from sublet.service.chain_port import Chain
from sublet.wire.abi import decode_values, encode_call, encode_values
from sublet.wire.transaction import compute_fixed_contract

# Arachnid's deterministic deployment proxy, at the same address on every chain.
DEPLOYER: Address = "0x4e59b44847b379578588920ca78fbf26c0b4956c"


def find_converter(escrow: Address) -> Address:
    """Compute where the converter of an escrow is, or would be."""
    return compute_fixed_contract(DEPLOYER, _code(escrow), salt=NO_DIGEST)


def deploy_converter(escrow: Address) -> Call:
    """Make it; anybody may, once."""
    return Call(DEPLOYER, bytes.fromhex(NO_DIGEST[2:]) + _code(escrow))


async def check_converter(chain: Chain, escrow: Address) -> Address:
    """Give the converter of an escrow, if it is there.

    Raises:
        Refused: ``no_converter``: nobody has deployed it.
        Unavailable, ChainLied: as the chain's port says.
    """
    converter = find_converter(escrow)
    if await chain.code(converter):
        return converter
    raise Refused(
        f"nobody has deployed the converter of the escrow {escrow} on chain "
        f"{chain.chain_id}, so no token is converted there; deposit the market's dollar "
        "token, or ask the operator",
        code="no_converter",
    )


async def find_allowance(
    chain: Chain, token: Address, *, owner: Address, spender: Address
) -> int:
    """Ask how much of a token somebody may take of its owner's."""
    data = encode_call("allowance(address,address)", owner, spender)
    amount: int = decode_values("(uint256)", await chain.call(Call(token, data)))[0]
    return amount


def _code(escrow: Address) -> bytes:
    code = bytes.fromhex(load_contract("converter").bytecode[2:])
    return code + encode_values("(address)", [escrow])
