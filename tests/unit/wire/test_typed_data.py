"""EIP-712: the same digests and signatures as everybody else's."""

import gzip
import json
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from msgspec import Meta, Struct, structs

from sublet.base.errors import Refused
from sublet.base.ids import NO_DIGEST
from sublet.core.document import AnyDocument, Channel, Market, Tick, Voucher
from sublet.wire.signature import BadSignature, Key, recover
from sublet.wire.typed_data import (
    Domain,
    Types,
    compile_class,
    compile_struct,
    digest,
    digest_of,
    domain_separator,
    encode_type,
    keccak,
    market_id,
)

VECTORS = Path(__file__).parents[2] / "vectors"
ADDRESS = "0x" + "ab" * 20
CONTRACT = "0x4020074e9df2ce1dee5a9c1b5c3f541d02a10003"
MARKET = Market(
    "lab", 31337, CONTRACT, ADDRESS, "note+key", 1, 2, 3, 4, 5, 6, 900, 1_790_000_000, 7
)


def _read(name: str) -> Any:
    path = VECTORS / name
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        return json.load(file)


def _types(table: dict[str, list[dict[str, str]]]) -> Types:
    return {
        name: tuple((member["name"], member["type"]) for member in members)
        for name, members in table.items()
        if name != "EIP712Domain"
    }


def _shape(value: Any, abi: str, types: Types) -> Any:
    """Turn the decimal strings of a vector's integers into integers."""
    if abi in types:
        return {name: _shape(value[name], inner, types) for name, inner in types[abi]}
    if abi.endswith("]"):
        return [_shape(item, abi.rpartition("[")[0], types) for item in value]
    return int(value) if abi.startswith(("uint", "int")) else value


def _digest(case: dict[str, Any], message: Any) -> str:
    types = _types(case["types"])
    primary = case["primaryType"]
    hash_struct = compile_struct(primary, types)
    return digest_of(
        separator=domain_separator(case["domain"]),
        struct_hash=hash_struct(_shape(message, primary, types)),
    )


# ---- the encoder, on tables of others -----------------------------------------------


def test_mail_example_of_the_standard() -> None:
    case = _read("eip712-mail.json")
    data = case["typedData"]
    types = _types(data["types"])
    assert encode_type("Mail", types) == case["encodeType"]
    assert "0x" + keccak(case["encodeType"].encode()).hex() == case["typeHash"]
    struct_hash = compile_struct("Mail", types)(data["message"])
    assert "0x" + struct_hash.hex() == case["structHash"]
    separator = domain_separator(data["domain"])
    assert "0x" + separator.hex() == case["domainSeparator"]
    assert digest_of(separator=separator, struct_hash=struct_hash) == case["digest"]
    signature = Key.from_hex(case["privateKey"]).sign(case["digest"])
    assert "0x" + signature.hex() == case["signature"]


def test_all_cases_of_ethers() -> None:
    cases = _read("ethers-eip712.json.gz")
    assert len(cases) > 1_000
    for case in cases:
        assert _digest(case, case["data"]) == case["digest"], case["name"]


SIGNED_CASES = [
    case
    for name in (
        "voucher-unidirectional.json",
        "eip3009-authorization.json",
        "eip2612-permit.json",
    )
    for case in _read(name)
]


@pytest.mark.parametrize("case", SIGNED_CASES, ids=lambda case: case["name"])
def test_signatures_of_known_documents(case: dict[str, Any]) -> None:
    types = _types(case["types"])
    assert encode_type(case["primaryType"], types) == case["typeString"]
    separator = domain_separator(case["domain"])
    assert "0x" + separator.hex() == case["domainSeparator"]
    found = _digest(case, case["message"])
    assert found == case["digest"]
    key = Key.from_hex(case["privateKey"])
    assert "0x" + key.sign(found).hex() == case["signature"]
    assert recover(found, bytes.fromhex(case["signature"][2:])) == key.address
    assert key.address == case["signer"].lower()


@pytest.mark.parametrize("case", SIGNED_CASES, ids=lambda case: case["name"])
def test_rejected_signatures_of_known_documents(case: dict[str, Any]) -> None:
    reject = case["reject"]
    signer = case["signer"].lower()
    for name in ("highS", "v0", "truncated"):
        with pytest.raises(BadSignature):
            recover(case["digest"], bytes.fromhex(reject[name][2:]))
    # The other parity is some other key's signature, or nobody's; never the signer's.
    wrong_v = bytes.fromhex(reject["wrongV"][2:])
    try:
        assert recover(case["digest"], wrong_v) != signer
    except BadSignature as error:
        assert error.code == "signature_unrecoverable"
    other_chain = reject["otherChainDigest"]
    assert recover(other_chain, bytes.fromhex(case["signature"][2:])) != signer


@pytest.mark.parametrize(
    ("abi", "value"),
    [
        ("uint8", 256),
        ("uint8", -1),
        ("uint128", 1 << 128),
        ("int8", 128),
        ("int8", -129),
        ("address", "0x" + "ab" * 19),
        ("address", "0x" + "zz" * 20),
        ("bytes32", "0x" + "ab" * 33),
        ("bytes32", "0x" + "ab" * 31 + " b"),  # bytes.fromhex would skip the space
        ("bytes", "0xa"),
        ("string", "\ud800"),
        ("string[2]", ["one"]),
    ],
)
def test_values_must_fit_their_types(abi: str, value: object) -> None:
    hash_struct = compile_struct("Box", {"Box": (("value", abi),)})
    with pytest.raises(Refused) as error:
        hash_struct({"value": value})
    assert error.value.code == "bad_member"


# ---- our documents --------------------------------------------------------------------

X402 = _read("x402-batch-settlement.json")


@pytest.mark.parametrize("case", X402["vectors"])
def test_channels_and_vouchers_are_those_of_x402(case: dict[str, Any]) -> None:
    chain_id = int(case["network"].removeprefix("eip155:"))
    domain = Domain("0x" + "77" * 32, chain_id, X402["contract"].lower())
    config = case["config"]
    lowered = [v.lower() if isinstance(v, str) else v for v in config.values()]
    channel_id = digest(Channel(*lowered), domain)
    assert channel_id == case["channelId"]
    voucher = Voucher(channel_id, int(case["maxClaimableAmount"]))
    found = digest(voucher, domain)
    assert found == case["voucherDigest"]
    key = Key.from_hex(case["voucherSignerKey"])
    assert key.address == case["voucherSigner"].lower()
    assert "0x" + key.sign(found).hex() == case["voucherSignature"]
    assert recover(found, key.sign(found)) == key.address


def test_document_types_are_read_off_classes() -> None:
    class Reading(Struct):
        sensor_id: Annotated[str, Meta(extra={"abi": "bytes32"})]
        values_read: Annotated[tuple[str, ...], Meta(extra={"abi": "string[]"})]

    table = {"Reading": (("sensorId", "bytes32"), ("valuesRead", "string[]"))}
    by_table = compile_struct("Reading", table)
    sensor = "0x" + "01" * 32
    assert compile_class(Reading)(Reading(sensor, ("a", "b"))) == by_table(
        {"sensorId": sensor, "valuesRead": ["a", "b"]}
    )


def test_fields_need_an_abi_type() -> None:
    class Loose(Struct):
        number: int

    with pytest.raises(TypeError):
        compile_class(Loose)


@pytest.mark.parametrize("kind", get_args(AnyDocument), ids=lambda kind: kind.__name__)
def test_every_document_compiles(kind: type[Struct]) -> None:
    assert callable(compile_class(kind))


DOMAIN = Domain.of(MARKET, market_id(MARKET))
TICK = Tick(1_790_000_000, 1)


@pytest.mark.parametrize(
    "other",
    [
        Domain(NO_DIGEST, DOMAIN.chain_id, DOMAIN.contract),
        Domain(DOMAIN.market, 1, DOMAIN.contract),
        Domain(DOMAIN.market, DOMAIN.chain_id, ADDRESS),
    ],
    ids=["another market", "another chain", "another contract"],
)
def test_no_document_holds_elsewhere(other: Domain) -> None:
    assert digest(TICK, DOMAIN) != digest(TICK, other)


def test_market_has_a_domain_of_its_own() -> None:
    assert digest(MARKET, DOMAIN) == digest(MARKET, None) == market_id(MARKET)
    renamed = structs.replace(MARKET, name="another")
    assert market_id(renamed) != market_id(MARKET)


def test_other_documents_need_a_market() -> None:
    with pytest.raises(Refused) as error:
        digest(TICK, None)
    assert error.value.code == "no_market"


def test_every_field_enters_the_digest() -> None:
    for name in MARKET.__struct_fields__:
        value = getattr(MARKET, name)
        changed = value + 1 if isinstance(value, int) else value[:-1] + "0"
        other = structs.replace(MARKET, **{name: changed})
        assert market_id(other) != market_id(MARKET), name
