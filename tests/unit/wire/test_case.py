"""A case's file: signed apart, brought together, and believed in nothing."""

import pytest
from msgspec.structs import replace

from sublet.base.errors import PeerFault, Refused
from sublet.wire.abi import decode_values
from sublet.wire.case import (
    BadCase,
    keep_arbiters,
    make_case,
    merge_cases,
    read_case,
    sign_case,
    write_case,
)
from sublet.wire.signature import recover
from tests.fakes.world import make_key

ARBITERS = sorted(
    (make_key(f"arbiter {number}") for number in range(4)), key=lambda key: key.address
)
CASE = make_case(
    chain_id=31_337,
    stake="0x" + "5a" * 20,
    provider="0x" + "01" * 20,
    tenant="0x" + "02" * 20,
    amount=12_500_000,
    evidence="0x" + "e1" * 32,
    salt="0x" + "f1" * 32,
)


def test_copies_come_together_in_the_contracts_order() -> None:
    copies = [sign_case(CASE, key=key) for key in reversed(ARBITERS[:3])]
    copies = [read_case(write_case(copy)) for copy in copies]
    case = merge_cases(copies)
    types = "(address,address,uint256,bytes32,uint256,bytes[])"
    *said, signatures = decode_values(types, case.write_opening().data[4:])
    assert said == [
        CASE.provider,
        CASE.tenant,
        CASE.amount,
        CASE.evidence,
        int(CASE.salt, 16),
    ]
    signers = [recover(case.id, signature) for signature in signatures]
    assert signers == [key.address for key in ARBITERS[:3]]


def test_confirmation_is_another_signature() -> None:
    case = sign_case(CASE, key=ARBITERS[0])
    case = sign_case(case, key=ARBITERS[1], is_confirming=True)
    types = "(bytes32,bytes[])"
    for is_appealed, count in ((True, 1), (False, 0)):
        call = case.write_execution(is_appealed=is_appealed)
        case_id, signatures = decode_values(types, call.data[4:])
        assert (case_id, len(signatures)) == (CASE.id, count)
    [signature] = case.confirming.values()
    assert recover(case.confirmation, bytes.fromhex(signature[2:])) == (
        ARBITERS[1].address
    )
    with pytest.raises(BadCase):  # what opens a case does not uphold it
        read_case(write_case(replace(case, confirming=case.opening)))


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 99_000_000},
        {"tenant": "0x" + "66" * 20},
        {"evidence": "0x" + "e2" * 32},
        {"stake": "0x" + "5b" * 20},
        {"chain_id": 1},
    ],
)
def test_signature_is_for_one_case(changes: dict[str, object]) -> None:
    signed = sign_case(CASE, key=ARBITERS[0])
    other = replace(signed, **changes)
    with pytest.raises(BadCase):
        read_case(write_case(other))
    with pytest.raises(Refused) as refused:
        merge_cases([signed, other])
    assert refused.value.code == "other_case"


def test_stranger_is_left_out() -> None:
    case = sign_case(sign_case(CASE, key=ARBITERS[0]), key=make_key("stranger"))
    kept = keep_arbiters(case, [key.address for key in ARBITERS])
    assert list(kept.opening) == [ARBITERS[0].address]


def test_what_is_no_case_is_refused() -> None:
    for raw in (b"", b"{}", b"[]", write_case(CASE).replace(b"sublet-case", b"x")):
        with pytest.raises(PeerFault):
            read_case(raw)
