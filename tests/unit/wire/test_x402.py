"""x402's messages: read strictly, and written as its own client reads them."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sublet.core.document import Channel, Voucher
from sublet.core.escrow.state import ChannelState
from sublet.wire import x402
from sublet.wire.signature import Key
from sublet.wire.typed_data import digest
from sublet.wire.x402 import BadPayment, Payment, Terms
from tests.style.tree import ROOT

PAYER, HOT, PROVIDER = (Key.generate(bytes([n]) * 32) for n in (1, 2, 3))
TERMS = Terms(
    chain_id=31_337,
    escrow="0x4020074e9df2ce1dee5a9c1b5c3f541d02a10003",
    receiver=PROVIDER.address,
    receiver_authorizer=PROVIDER.address,
    token="0x" + "aa" * 20,
    token_name="USDC",
    token_version="2",
    withdraw_delay_s=86_400,
    deposit_min=500,
)
CHANNEL = Channel(
    payer=PAYER.address,
    payer_authorizer=HOT.address,
    receiver=PROVIDER.address,
    receiver_authorizer=PROVIDER.address,
    token=TERMS.token,
    withdraw_delay=86_400,
    salt="0x" + "00" * 32,
)
ID = digest(CHANNEL, TERMS.domain)
STATE = ChannelState(balance=1_000)
HALF_ORDER_TWICE = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def sign(most: int, *, channel_id: str = ID, key: Key = HOT) -> bytes:
    voucher = Voucher(channel_id=channel_id, max_claimable_amount=most)
    return key.sign(digest(voucher, TERMS.domain))


def write(
    most: int = 100, *, channel: Channel = CHANNEL, **changes: Any
) -> dict[str, Any]:
    """Write a payment as x402's client does; ``changes`` are members of its voucher."""
    channel_id = digest(channel, TERMS.domain)
    config = {
        "payer": channel.payer,
        "payerAuthorizer": channel.payer_authorizer,
        "receiver": channel.receiver,
        "receiverAuthorizer": channel.receiver_authorizer,
        "token": channel.token,
        "withdrawDelay": channel.withdraw_delay,
        "salt": channel.salt,
    }
    voucher = {
        "channelId": channel_id,
        "maxClaimableAmount": str(most),
        "signature": f"0x{sign(most, channel_id=channel_id).hex()}",
    }
    return {
        "x402Version": 2,
        "accepted": {"scheme": "batch-settlement", "network": "eip155:31337"},
        "payload": {
            "type": "voucher",
            "channelConfig": config,
            "voucher": {**voucher, **changes},
        },
    }


def add_deposit(said: dict[str, Any], amount: str = "500") -> dict[str, Any]:
    authorization = {
        "validAfter": "0",
        "validBefore": "1800000000",
        "salt": "0x" + "05" * 32,
        "signature": "0x" + "11" * 65,
    }
    deposit = {
        "amount": amount,
        "authorization": {"erc3009Authorization": authorization},
    }
    return {
        **said,
        "payload": {**said["payload"], "type": "deposit", "deposit": deposit},
    }


def pack(said: Any) -> str:
    return base64.b64encode(json.dumps(said).encode()).decode()


def read(said: Any) -> Payment:
    return x402.read_payment(pack(said), TERMS)


def find_reason(
    said: Any, *, price: int = 100, charged: int = 0, state: ChannelState = STATE
) -> str:
    """Give why a payment is not taken; "" where it is."""
    try:
        payment = read(said)
        x402.check_voucher(payment, TERMS)
        x402.check_amount(payment, TERMS, price=price, charged=charged, state=state)
    except BadPayment as fault:
        return fault.reason.removeprefix("invalid_batch_settlement_evm_")
    return ""


def test_takes_a_voucher_that_pays() -> None:
    assert find_reason(write(100)) == ""
    assert find_reason(write(1_000), charged=900) == ""
    assert find_reason(add_deposit(write(1_400)), charged=1_300) == ""


def alter(channel: Channel = CHANNEL, **changes: Any) -> Channel:
    return msgspec.structs.replace(channel, **changes)


def malleate(signature: bytes) -> str:
    """Give the other signature of the same key for the same digest."""
    s = HALF_ORDER_TWICE - int.from_bytes(signature[32:64])
    return f"0x{(signature[:32] + s.to_bytes(32) + bytes([55 - signature[64]])).hex()}"


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    # a payment, what is known of its channel, and why it is not taken
    (write(100), {"charged": 100}, "cumulative_amount_mismatch"),  # replayed
    (write(100), {"charged": 400}, "cumulative_amount_mismatch"),  # stale
    (write(99), {}, "cumulative_amount_mismatch"),  # too small
    (write(101), {}, "cumulative_amount_mismatch"),  # too large: not what is owed
    (write(1_100), {"charged": 1_000}, "cumulative_exceeds_balance"),
    (write(100), {"state": ChannelState()}, "channel_not_found"),
    (
        write(600),
        {"charged": 500, "state": ChannelState(balance=1_000, withdrawing=500)},
        "cumulative_exceeds_balance",  # what goes back to the payer covers nothing
    ),
    (
        write(200),
        {"charged": 100, "state": ChannelState(balance=1_000, claimed=200)},
        "cumulative_below_claimed",
    ),
    (add_deposit(write(100), "499"), {}, "deposit_below_min_deposit"),
    (
        add_deposit(write(1_600)),
        {"charged": 1_500, "state": STATE},
        "cumulative_exceeds_balance",
    ),
    (write(100, signature=f"0x{sign(100, key=PAYER).hex()}"), {}, "voucher_signature"),
    (write(100, signature=f"0x{sign(101).hex()}"), {}, "voucher_signature"),
    (write(100, signature=malleate(sign(100))), {}, "voucher_signature"),
    (
        write(100, signature=f"0x{sign(100)[:64].hex()}{sign(100)[64] - 27:02x}"),
        {},
        "voucher_signature",
    ),
    (write(100, signature="0x"), {}, "voucher_signature"),
    (write(100, signature="0x" + "00" * 65), {}, "voucher_signature"),
    (write(100, channelId="0x" + "ab" * 32), {}, "channel_id_mismatch"),
    (write(100, channel=alter(receiver=PAYER.address)), {}, "receiver_mismatch"),
    (
        write(100, channel=alter(receiver_authorizer=HOT.address)),
        {},
        "receiver_authorizer_mismatch",
    ),
    (write(100, channel=alter(token="0x" + "bb" * 20)), {}, "token_mismatch"),
    (write(100, channel=alter(withdraw_delay=900)), {}, "withdraw_delay_mismatch"),
    (
        write(100, channel=alter(payer_authorizer="0x" + "00" * 20)),
        {},
        "voucher_signature",
    ),
    ({**write(100), "x402Version": 1}, {}, "payload_type"),
    (
        {**write(100), "accepted": {"scheme": "exact", "network": "eip155:31337"}},
        {},
        "payload_type",
    ),
    (
        {
            **write(100),
            "accepted": {"scheme": "batch-settlement", "network": "eip155:1"},
        },
        {},
        "network_mismatch",
    ),
    ({**write(100), "payload": {"type": "refund"}}, {}, "payload_type"),
    (write(100, maxClaimableAmount="1" * 39), {}, "cumulative_amount_mismatch"),
    (write(100, maxClaimableAmount="-1"), {}, "payload_type"),
    (write(100, maxClaimableAmount=100), {}, "payload_type"),
    (write(100, maxClaimableAmount="٣"), {}, "payload_type"),
    (write(100, signature="0x" + "00" * 2_000), {}, "payload_type"),
    ([], {}, "payload_type"),
    ({"a" * 7_000: 1}, {}, "payload_type"),
]


@pytest.mark.parametrize(("said", "known", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_says_why_it_is_not_taken(
    said: Any, known: dict[str, Any], reason: str
) -> None:
    assert find_reason(said, **known) == reason


@pytest.mark.parametrize("header", ["", "%%%", "e30", "W10=", "/w==", "A" * 9_000, "é"])
def test_refuses_headers_that_are_none(header: str) -> None:
    with pytest.raises(BadPayment):
        x402.read_payment(header, TERMS)


def test_one_authorization_is_one_deposit() -> None:
    one, same = read(add_deposit(write(100))), read(add_deposit(write(200)))
    assert one.name_deposit() == same.name_deposit()
    other = read(add_deposit(write(100, channel=alter(salt="0x" + "01" * 32))))
    assert one.name_deposit() != other.name_deposit()


def test_speaks_as_the_official_package_does() -> None:
    """What we write, its models read, and its encoder writes the same deposit."""
    encoding = pytest.importorskip("x402.mechanisms.evm.batch_settlement.encoding")
    from x402.http.utils import (
        decode_payment_required_header,
        decode_payment_response_header,
    )

    known = x402.describe_channel(ID, STATE, charged=5, signed=6, signature=b"\x01")
    said = decode_payment_required_header(
        x402.write_required(TERMS, price=7, url="http://x", error="e", known=known)
    )
    (asked,) = said.accepts
    assert (said.error, asked.amount, asked.pay_to) == ("e", "7", PROVIDER.address)
    assert asked.extra["minDeposit"] == "500"
    assert asked.extra["channelState"]["chargedCumulativeAmount"] == "5"
    assert asked.extra["voucherState"]["signature"] == "0x01"
    payment = read(add_deposit(write(100)))
    assert payment.deposit is not None
    answer = decode_payment_response_header(
        x402.write_response(
            TERMS, payment, STATE, charged=107, taken=7, transaction="0x" + "00" * 32
        )
    )
    assert answer.success
    assert answer.extra["chargedAmount"] == "7"
    signed = payment.deposit.authorization
    assert payment.deposit.encode() == encoding.build_erc3009_collector_data(
        signed.valid_after, signed.valid_before, signed.salt, signed.signature
    )
    nonce = encoding.build_erc3009_deposit_nonce(ID, signed.salt)
    assert payment.name_deposit() == f"x402-deposit-{nonce[2:]}"


def test_vectors_of_the_official_package() -> None:
    place = Path(ROOT / "tests/vectors/x402-batch-settlement.json")
    vectors = json.loads(place.read_text())["vectors"]
    for vector in vectors:
        config = vector["config"]
        chain_id = int(vector["network"].partition(":")[2])
        terms = msgspec.structs.replace(
            TERMS,
            chain_id=chain_id,
            receiver=config["receiver"].lower(),
            receiver_authorizer=config["receiverAuthorizer"].lower(),
            token=config["token"].lower(),
            withdraw_delay_s=config["withdrawDelay"],
        )
        said = {
            "x402Version": 2,
            "accepted": {"scheme": "batch-settlement", "network": vector["network"]},
            "payload": {
                "type": "voucher",
                "channelConfig": config,
                "voucher": {
                    "channelId": vector["channelId"],
                    "maxClaimableAmount": vector["maxClaimableAmount"],
                    "signature": vector["voucherSignature"],
                },
            },
        }
        if int(vector["maxClaimableAmount"]) <= x402.AMOUNT_MAX:
            x402.check_voucher(x402.read_payment(pack(said), terms), terms)
    assert len(vectors) > 3
