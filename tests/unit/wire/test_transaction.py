"""Transactions, byte for byte as eth-account writes them."""

import json
from pathlib import Path
from typing import Any

import pytest

from sublet.core.rail.transaction import Call, Fees, Transaction
from sublet.wire.signature import Key
from sublet.wire.transaction import encode_rlp, sign_transaction

VECTORS = Path(__file__).parents[2] / "vectors"
CASES = json.loads((VECTORS / "eth-abi-and-transactions.json").read_text())
KEY = Key.generate(b"\x01" * 32)


@pytest.mark.parametrize(
    "case", CASES["transactions"], ids=lambda case: case["hash"][:8]
)
def test_signs_as_eth_account_does(case: dict[str, Any]) -> None:
    given = case["transaction"]
    data = bytes.fromhex(given["data"][2:])
    signed = sign_transaction(
        Transaction(
            chain_id=given["chainId"],
            nonce=given["nonce"],
            call=Call(given.get("to"), data, given["value"]),
            gas=given["gas"],
            fees=Fees(given["maxFeePerGas"], given["maxPriorityFeePerGas"]),
        ),
        KEY,
    )
    assert signed.raw.hex() == case["raw"].removeprefix("0x")
    assert signed.hash == case["hash"]


@pytest.mark.parametrize(
    ("item", "written"),
    [  # the examples of the Ethereum wiki's page on RLP
        (b"dog", "83646f67"),
        ([b"cat", b"dog"], "c88363617483646f67"),
        (b"", "80"),
        ([], "c0"),
        (0, "80"),
        (b"\x00", "00"),
        (15, "0f"),
        (1_024, "820400"),
        ([[], [[]], [[], [[]]]], "c7c0c1c0c3c0c1c0"),
        (b"Lorem ipsum dolor sit amet, consectetur adipisicing elit", "b838"),
    ],
)
def test_writes_rlp(item: Any, written: str) -> None:
    assert encode_rlp(item).hex().startswith(written)
