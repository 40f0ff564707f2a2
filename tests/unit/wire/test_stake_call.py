"""Calls and events of the stake contract against the ABI that it is deployed with."""

import re
from typing import Any

import eth_abi
import pytest
from msgspec.structs import astuple

from sublet.adapter.contract import load_contract
from sublet.base.ids import NO_DIGEST
from sublet.core.document import LeaseTerms, UsageRecord
from sublet.core.rail.transaction import Call
from sublet.core.stake import event as ev
from sublet.core.stake.state import Award, Case, Holding
from sublet.wire import stake_call
from sublet.wire.abi import BadAnswer
from sublet.wire.stake_call import SignedTerms, SignedUsage
from sublet.wire.typed_data import compile_class, encode_type, keccak

STAKE, ONE, TWO = "0x" + "5a" * 20, "0x" + "01" * 20, "0x" + "02" * 20
NAME, OTHER = "0x" + "a1" * 32, "0x" + "b2" * 32
SIGNATURE = bytes(range(65))
TERMS = LeaseTerms(NAME, OTHER, ONE, TWO, 7, 60, 1_790_000_000, 9)
USAGE = UsageRecord(NAME, 4, 5, 6, 7, 1_790_000_000, 9)

_ABI = load_contract("stake").abi


def abi_type(of: dict[str, Any]) -> str:
    if not of["type"].startswith("tuple"):
        return str(of["type"])
    inside = ",".join(map(abi_type, of["components"]))
    return f"({inside}){of['type'][len('tuple') :]}"


def entries(kind: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in _ABI if each["type"] == kind}


def signature_of(entry: dict[str, Any]) -> str:
    return f"{entry['name']}({','.join(map(abi_type, entry['inputs']))})"


FUNCTIONS, EVENTS = entries("function"), entries("event")


def raw(value: Any) -> Any:
    """Write hex of 32 bytes as eth_abi takes it, in whatever it stands."""
    if isinstance(value, tuple | list):
        return type(value)(map(raw, value))
    is_word = isinstance(value, str) and re.fullmatch("0x[0-9a-f]{64}", value)
    return bytes.fromhex(value[2:]) if is_word else value


_CASE = {
    "provider": ONE,
    "tenant": TWO,
    "amount": 5,
    "evidence": NAME,
    "salt": 2**200,
}
_SIGNED = (SignedTerms(TERMS, SIGNATURE), SignedUsage(USAGE, SIGNATURE))
_TERMS = (astuple(TERMS), SIGNATURE)
_USAGE = (astuple(USAGE), SIGNATURE)

CALLS: tuple[tuple[Call, str, tuple[Any, ...]], ...] = (
    (stake_call.put(STAKE, ONE, 5), "stake", (ONE, 5)),
    (stake_call.unbond(STAKE, 5), "unbond", (5,)),
    (stake_call.withdraw(STAKE, ONE), "withdraw", (ONE,)),
    (
        stake_call.slash_terms(STAKE, OTHER, _SIGNED[0], _SIGNED[0]),
        "slashTerms",
        (OTHER, *_TERMS, *_TERMS),
    ),
    (
        stake_call.slash_usage(STAKE, OTHER, _SIGNED[1], _SIGNED[1], _SIGNED[0]),
        "slashUsage",
        (OTHER, *_USAGE, *_USAGE, *_TERMS),
    ),
    (stake_call.pay_award(STAKE, 3), "payAward", (3,)),
    (
        stake_call.open_case(STAKE, **_CASE, signatures=[SIGNATURE, SIGNATURE]),
        "openCase",
        (*_CASE.values(), [SIGNATURE, SIGNATURE]),
    ),
    (stake_call.appeal(STAKE, NAME), "appeal", (NAME,)),
    (
        stake_call.execute_case(STAKE, NAME, [SIGNATURE]),
        "executeCase",
        (NAME, [SIGNATURE]),
    ),
    (stake_call.drop_case(STAKE, NAME), "dropCase", (NAME,)),
    (stake_call.pay(STAKE, ONE), "pay", (ONE,)),
    (stake_call.ask_holding(STAKE, ONE), "holdings", (ONE,)),
    (stake_call.ask_award(STAKE, 3), "awards", (3,)),
    (stake_call.ask_case(STAKE, NAME), "cases", (NAME,)),
    (stake_call.ask_owed(STAKE, ONE), "owed", (ONE,)),
    *(
        (call, {"token": "TOKEN", "escrow": "ESCROW", "quorum": "QUORUM",
                "appeal_quorum": "APPEAL_QUORUM"}.get(name, name), ())
        for name, (call, _) in stake_call.ask_terms(STAKE).items()
    ),
)  # fmt: skip


@pytest.mark.parametrize(("call", "name", "values"), CALLS)
def test_call_is_as_the_abi_has_it(
    call: Call, name: str, values: tuple[Any, ...]
) -> None:
    entry = FUNCTIONS[name]
    types = [abi_type(one) for one in entry["inputs"]]
    expected = keccak(signature_of(entry).encode())[:4]
    assert call == Call(STAKE, expected + eth_abi.encode(types, raw(values)))


def test_only_what_is_computed_here_is_not_asked() -> None:
    left_out = {"stakeOf", "getCaseId", "getConfirmDigest", "awardCount", "burnt"}
    assert {name for _, name, _ in CALLS} == FUNCTIONS.keys() - left_out


def test_construction_is_as_the_abi_has_it() -> None:
    [entry] = [each for each in _ABI if each["type"] == "constructor"]
    types = [abi_type(one) for one in entry["inputs"]]
    said = stake_call.construct(
        token=ONE, escrow=TWO, arbiters=[ONE, TWO], quorum=1, appeal_quorum=2
    )
    assert said == eth_abi.encode(types, (ONE, TWO, [ONE, TWO], 1, 2))


def test_answers_are_read_as_the_abi_has_them() -> None:
    def answer(name: str, *values: Any) -> bytes:
        [output] = FUNCTIONS[name]["outputs"]
        return eth_abi.encode([abi_type(output)], [raw(values)])

    holding = stake_call.read_holding(answer("holdings", 1, 2, 3, 4, 5))
    assert holding == Holding(1, 2, 3, 4, reserved=5)
    with pytest.raises(BadAnswer):
        stake_call.read_holding(answer("holdings", 1, 2, 3, 4, 8))
    award = stake_call.read_award(answer("awards", ONE, TWO, 5, 6))
    assert award == Award(ONE, TWO, 5, 6)
    case = stake_call.read_case(answer("cases", ONE, TWO, 5, NAME, 6, True, False))
    assert case == Case(ONE, TWO, 5, NAME, 6, is_appealed=True, is_open=False)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("Staked", (ONE, 5), ev.Staked(ONE, 5)),
        ("Unbonding", (ONE, 5, 6), ev.Unbonding(ONE, 5, 6)),
        ("Withdrawn", (ONE, 5), ev.Withdrawn(ONE, 5)),
        (
            "Contradicted",
            (ONE, TWO, NAME, 1, 2, 3, OTHER),
            ev.Contradicted(ONE, TWO, NAME, 1, 2, 3, OTHER),
        ),
        ("AwardPaid", (3, ONE, 5), ev.AwardPaid(3, ONE, 5)),
        (
            "CaseOpened",
            (NAME, ONE, TWO, 5, OTHER, 6),
            ev.CaseOpened(NAME, ONE, TWO, 5, OTHER, 6),
        ),
        ("CaseAppealed", (NAME,), ev.CaseAppealed(NAME)),
        ("CaseClosed", (NAME, True, 5), ev.CaseClosed(NAME, True, 5)),
        ("Paid", (ONE, 5), ev.Paid(ONE, 5)),
    ],
)
def test_event_is_as_the_abi_has_it(
    name: str, values: tuple[Any, ...], expected: ev.Event
) -> None:
    entry = EVENTS[name]
    topics, types, data = ["0x" + keccak(signature_of(entry).encode()).hex()], [], []
    for one, value in zip(entry["inputs"], values, strict=True):
        if one["indexed"]:
            word = eth_abi.encode([abi_type(one)], [raw(value)])
            topics.append("0x" + word.hex())
        else:
            types.append(abi_type(one))
            data.append(raw(value))
    assert stake_call.read_event(topics, eth_abi.encode(types, data)) == expected
    with pytest.raises(BadAnswer):
        stake_call.read_event(topics[:-1], eth_abi.encode(types, data))


def test_every_event_is_read() -> None:
    read = set(stake_call._BY_TOPIC)
    said = {"0x" + keccak(signature_of(one).encode()).hex() for one in EVENTS.values()}
    assert read == said


def test_topics_that_are_looked_for() -> None:
    for name, topic in (
        ("Contradicted", stake_call.CONTRADICTED),
        ("CaseOpened", stake_call.CASE_OPENED),
    ):
        assert topic == "0x" + keccak(signature_of(EVENTS[name]).encode()).hex()
    assert stake_call.provider_topic(ONE) == "0x" + "00" * 12 + "01" * 20


def test_documents_are_typed_as_the_contract_types_them() -> None:
    """The tuples of its ABI have the fields of our documents, in their order."""
    for function, place, document in (
        ("slashTerms", 1, TERMS),
        ("slashUsage", 1, USAGE),
        ("slashUsage", 5, TERMS),
    ):
        parts = FUNCTIONS[function]["inputs"][place]["components"]
        primary = type(document).__name__
        members = tuple((one["name"], abi_type(one)) for one in parts)
        kind = keccak(encode_type(primary, {primary: members}).encode())
        words = eth_abi.encode(
            [abi for _, abi in members], raw(list(astuple(document)))
        )
        assert compile_class(type(document))(document) == keccak(kind + words)


def test_two_digests_have_one_name() -> None:
    said = stake_call.hash_evidence(NAME, NO_DIGEST)
    assert said == "0x" + keccak(bytes.fromhex("a1" * 32 + "00" * 32)).hex()
