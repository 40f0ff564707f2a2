"""What a maker's key has on the chain, and what it lets the converter take of it."""

from msgspec import Struct

from sublet.adapter.chain_place import open_chain
from sublet.adapter.converter_chain import (
    check_converter,
    deploy_converter,
    find_allowance,
    find_converter,
)
from sublet.adapter.escrow_chain import find_balance
from sublet.adapter.key_file import load_key
from sublet.base.errors import Refused
from sublet.base.ids import Address
from sublet.node.config import NodeConfig
from sublet.wire.escrow_call import approve
from sublet.workload.courier import open_courier

JOURNAL_FILE = "maker.db"


class MakerWallet(Struct, frozen=True):
    """What a maker can give; dollars in the token's smallest unit, a micro-USD."""

    address: Address
    converter: Address
    dollars: int  # that it has
    allowed: int  # of them, that the converter may take
    gas_wei: int


async def read_wallet(
    config: NodeConfig, *, allow: int | None = None, is_deploying: bool = False
) -> MakerWallet:
    """Say what the key of ``[convert]`` has; first do with it what is asked.

    Args:
        config: of the node.
        allow: so many of its dollars may the converter take from now on.
        is_deploying: put the converter on the chain, where nobody has.

    Raises:
        Refused: the node has no ``[convert]``, nobody deployed the converter, or the
            chain does not take it.
        Unavailable: the chain does not answer.
    """
    rules, convert = config.market, config.convert
    if convert is None or rules.token is None:
        raise Refused(
            "this node gives no quotes: its config.toml has no table [convert]",
            code="no_maker",
            field="convert",
        )
    key = load_key(config.home / convert.key_file)
    async with open_chain(config.chain, chain_id=rules.chain_id) as chain:
        calls = []
        if is_deploying and not await chain.code(find_converter(rules.contract)):
            calls.append(deploy_converter(rules.contract))
        if allow is not None:
            spender = find_converter(rules.contract)
            calls.append(approve(rules.token, spender=spender, amount=allow))
        async with open_courier(
            chain, config.chain, key=key, journal=config.home / JOURNAL_FILE
        ) as courier:
            for call in calls:
                await courier.send("maker", call)
        converter = await check_converter(chain, rules.contract)
        return MakerWallet(
            address=key.address,
            converter=converter,
            dollars=await find_balance(chain, rules.token, key.address),
            allowed=await find_allowance(
                chain, rules.token, owner=key.address, spender=converter
            ),
            gas_wei=await chain.balance(key.address),
        )
