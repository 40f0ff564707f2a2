"""The official x402 client and this contract take each other's word.

Both contracts stand where x402's client expects its own: nothing in it is changed.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from x402.mechanisms.evm.batch_settlement import abi as x402_abi
from x402.mechanisms.evm.batch_settlement import constants
from x402.mechanisms.evm.batch_settlement.authorizer_signer import (
    LocalAuthorizerSigner,
    sign_claim_batch,
    sign_refund,
)
from x402.mechanisms.evm.batch_settlement.client.eip3009 import (
    create_batch_settlement_eip3009_deposit_payload,
)
from x402.mechanisms.evm.batch_settlement.facilitator.claim import (
    build_voucher_claim_args,
)
from x402.mechanisms.evm.batch_settlement.facilitator.deposit_eip3009 import (
    build_eip3009_deposit_collector_data,
)
from x402.mechanisms.evm.batch_settlement.facilitator.utils import (
    to_contract_channel_config,
    verify_batch_settlement_voucher_typed_data,
)
from x402.mechanisms.evm.batch_settlement.types import ChannelConfig, VoucherClaim
from x402.mechanisms.evm.batch_settlement.utils import compute_channel_id
from x402.mechanisms.evm.signers import EthAccountSigner
from x402.schemas import PaymentRequirements

from sublet.adapter.contract import load_contract
from sublet.core.document import Channel
from sublet.wire.signature import Key
from tests.contracts.escrow_house import (
    CLAIM_SIGNED,
    CONFIG,
    DEPOSIT,
    DOLLAR,
    NOBODY,
    REFUND_SIGNED,
    EscrowHouse,
    encode_channel,
    key,
    skipped,
)

VECTORS = Path(__file__).parents[1] / "vectors/x402-batch-settlement.json"
NETWORK = "eip155:1"


@pytest.fixture(scope="module")
def x402_house() -> EscrowHouse:
    house = EscrowHouse(at=constants.BATCH_SETTLEMENT_ADDRESS)
    collector = constants.ERC3009_DEPOSIT_COLLECTOR_ADDRESS
    house.evm.deploy("Eip3009Collector.vy", house.escrow, at=collector)
    # The client puts its own clock's time into what it signs.
    house.evm.env.timestamp = 1_790_000_000
    return house


def _config(channel: Channel) -> ChannelConfig:
    return ChannelConfig(
        payer=channel.payer,
        payer_authorizer=channel.payer_authorizer,
        receiver=channel.receiver,
        receiver_authorizer=channel.receiver_authorizer,
        token=channel.token,
        withdraw_delay=channel.withdraw_delay,
        salt=channel.salt,
    )


def _signer(one: Key) -> EthAccountSigner:
    return EthAccountSigner(Account.from_key(one.to_hex()))


def test_official_client_deposits_and_is_charged(x402_house: EscrowHouse) -> None:
    house, provider = x402_house, x402_house.provider
    channel = house.channel(salt="0x" + "42" * 32)
    config = _config(channel)
    house.mint(channel.payer, DOLLAR, approve=False)
    payload = create_batch_settlement_eip3009_deposit_payload(
        _signer(house.tenant),
        PaymentRequirements(
            scheme="batch-settlement",
            network=NETWORK,
            asset=house.token,
            amount="1000",
            pay_to=channel.receiver,
            max_timeout_seconds=600,
            extra={"name": "Test USD", "version": "2"},
        ),
        config,
        DOLLAR,
        300_000,
    )
    data = build_eip3009_deposit_collector_data(payload)
    collector = constants.ERC3009_DEPOSIT_COLLECTOR_ADDRESS
    encoded = to_contract_channel_config(config)
    done = house.call(DEPOSIT, encoded, DOLLAR, collector, data, by=NOBODY)
    assert done.ok, done.fault
    assert house.books(channel) == (DOLLAR, 0)

    assert payload.voucher is not None
    claim = VoucherClaim(config, "300000", payload.voucher.signature, "200000")
    authorizer = LocalAuthorizerSigner(Account.from_key(provider.to_hex()))
    signed = sign_claim_batch(authorizer, [claim], NETWORK)
    args = (build_voucher_claim_args([claim]), bytes.fromhex(signed[2:]))
    done = house.call(CLAIM_SIGNED, *args, by=NOBODY)
    assert done.ok and not skipped(done, house.escrow)
    assert house.books(channel) == (DOLLAR, 200_000)

    channel_id = compute_channel_id(config, NETWORK)
    signed = sign_refund(authorizer, channel_id, DOLLAR, 0, NETWORK)
    done = house.call(
        REFUND_SIGNED, encoded, DOLLAR, 0, bytes.fromhex(signed[2:]), by=NOBODY
    )
    assert done.ok, done.fault
    assert house.books(channel) == (200_000, 200_000)


def test_official_verifier_takes_our_vouchers(x402_house: EscrowHouse) -> None:
    house = x402_house
    channel = house.channel(payer_authorizer=key(7).address)
    voucher = house.voucher(channel, 123, signer=key(7))

    def is_good(amount: str, signature: bytes) -> bool:
        return verify_batch_settlement_voucher_typed_data(
            None,  # asked only for contracts that sign
            channel_id=house.channel_id(channel),
            max_claimable_amount=amount,
            payer_authorizer=channel.payer_authorizer,
            payer=channel.payer,
            signature="0x" + signature.hex(),
            chain_id=1,
        )

    assert is_good("123", voucher.signature)
    assert not is_good("124", voucher.signature)
    assert compute_channel_id(_config(channel), NETWORK) == house.channel_id(channel)


def test_contract_names_channels_as_x402_does(x402_house: EscrowHouse) -> None:
    house = x402_house
    channel = house.channel(salt="0x" + "43" * 32)
    asked = house.call(f"getChannelId({CONFIG})", encode_channel(channel), by=NOBODY)
    named = "0x" + asked.give("bytes32").hex()
    assert named == compute_channel_id(_config(channel), NETWORK)


_CASES = json.loads(VECTORS.read_text())["vectors"]


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case["channelId"][:10])
def test_contract_gives_the_vectors(x402_house: EscrowHouse, case: Any) -> None:
    """On the vectors' own chains, at the vectors' own address."""
    house, patch = x402_house, x402_house.evm.env.evm.patch
    was = patch.chain_id
    patch.chain_id = int(case["network"].partition(":")[2])
    try:
        config = case["config"]
        encoded = (*list(config.values())[:-1], bytes.fromhex(config["salt"][2:]))
        asked = house.call(f"getChannelId({CONFIG})", encoded, by=NOBODY)
        assert "0x" + asked.give("bytes32").hex() == case["channelId"]
        channel_id = bytes.fromhex(case["channelId"][2:])
        amount = int(case["maxClaimableAmount"])
        asked = house.call(
            "getVoucherDigest(bytes32,uint128)", channel_id, amount, by=NOBODY
        )
        assert "0x" + asked.give("bytes32").hex() == case["voucherDigest"]
    finally:
        patch.chain_id = was


def _shape(inputs: list[dict[str, Any]]) -> str:
    return ",".join(
        f"({_shape(item['components'])})" + item["type"].removeprefix("tuple")
        if item["type"].startswith("tuple")
        else item["type"]
        for item in inputs
    )


def test_has_every_function_of_x402() -> None:
    def signatures(abi: list[dict[str, Any]]) -> dict[str, list[str]]:
        return {
            f"{item['name']}({_shape(item['inputs'])})": [
                output["type"] for output in item.get("outputs", [])
            ]
            for item in abi
            if item["type"] in ("function", "event")
        }

    ours = signatures(load_contract("escrow").abi)
    theirs = signatures(x402_abi.BATCH_SETTLEMENT_ABI)
    assert len(theirs) > 15
    assert {name: ours.get(name) for name in theirs} == theirs
