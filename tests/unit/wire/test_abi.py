"""The contract ABI, against what eth-abi writes, and against hostile answers."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.base.errors import Refused
from sublet.wire.abi import (
    BadAnswer,
    decode_values,
    encode_call,
    encode_values,
    event_topic,
)

VECTORS = Path(__file__).parents[2] / "vectors"
CASES = json.loads((VECTORS / "eth-abi-and-transactions.json").read_text())["abi"]
ALL = "(address,uint128,int64,bool,bytes32,bytes,string,(uint8,bytes)[],uint16[2])"


def thaw(value: Any) -> Any:
    """Read values as the vectors write them."""
    if isinstance(value, list):
        return tuple(thaw(part) for part in value)
    if isinstance(value, dict):
        return bytes.fromhex(value["bytes"])
    return value


def as_ours(types: str, values: Any) -> Any:
    """Fixed bytes are hex texts here."""
    if types in ("(bytes[],uint256)", "(bytes,string,bool)"):
        return values
    if isinstance(values, tuple):
        return tuple(as_ours(types, part) for part in values)
    if isinstance(values, bytes) and len(values) in (4, 32):
        return "0x" + values.hex()
    return values


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["types"][:30])
def test_writes_what_eth_abi_writes(case: dict[str, Any]) -> None:
    values = as_ours(case["types"], thaw(case["values"]))
    assert encode_values(case["types"], values).hex() == case["hex"]
    assert decode_values(case["types"], bytes.fromhex(case["hex"])) == values


def test_names_functions_and_events() -> None:
    called = encode_call("transfer(address,uint256)", "0x" + "11" * 20, 5)
    assert called[:4].hex() == "a9059cbb" and len(called) == 68
    assert event_topic("Transfer(address,address,uint256)") == (
        "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    )


@pytest.mark.parametrize(
    ("types", "values"),
    [
        ("(uint8)", (256,)),  # too large
        ("(uint8)", (-1,)),  # negative
        ("(address)", ("0x11",)),  # too short
        ("(address)", ("0x" + "zz" * 20,)),  # no hex
        ("(bytes4)", ("0x1122",)),
        ("(uint8,uint8)", (1,)),  # one is missing
    ],
)
def test_refuses_values_that_do_not_fit(types: str, values: Any) -> None:
    with pytest.raises(Refused):
        encode_values(types, values)


@pytest.mark.parametrize(
    ("types", "words"),
    [
        ("(uint256)", []),  # nothing there
        ("(uint8)", [256]),  # too large for its type
        ("(bool)", [2]),
        ("(address)", [1 << 160]),
        ("(bytes4)", [1]),  # padding that is not zero
        ("(bytes)", [1 << 255, 0]),  # an offset into nowhere
        ("(bytes)", [32, 1 << 200]),  # a length of nobody's memory
        ("(uint256[])", [32, 1 << 64]),
        ("(uint256[])", [32, 2, 1]),  # one item is missing
        ("(string)", [32, 1, 0xFF << 248]),  # no UTF-8
    ],
)
def test_refuses_hostile_answers(types: str, words: list[int]) -> None:
    content = b"".join(word.to_bytes(32, "big") for word in words)
    with pytest.raises(BadAnswer):
        decode_values(types, content)


@given(st.binary(max_size=600))
def test_any_bytes_are_values_or_refused(content: bytes) -> None:
    with suppress(BadAnswer):
        decode_values(ALL, content)


@settings(max_examples=30)
@given(
    st.tuples(
        st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()),
        st.integers(0, 2**128 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.booleans(),
        st.binary(min_size=32, max_size=32).map(lambda raw: "0x" + raw.hex()),
        st.binary(max_size=70),
        st.text(max_size=40),
        st.lists(
            st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=4
        ).map(tuple),
        st.tuples(st.integers(0, 65_535), st.integers(0, 65_535)),
    )
)
def test_reads_what_it_wrote(values: tuple[Any, ...]) -> None:
    assert decode_values(ALL, encode_values(ALL, values)) == values
