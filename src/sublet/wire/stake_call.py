"""The stake contract in bytes: its calls, its answers, its events, what arbiters sign.

Not here: what they do (``core.stake``), where the bytes go (``adapter.stake_chain``).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple

from sublet.base.ids import Address, Digest
from sublet.core.document import LeaseTerms, UsageRecord
from sublet.core.rail.transaction import Call
from sublet.core.stake import event as ev
from sublet.core.stake.state import Award, Case, Holding
from sublet.wire.abi import (
    BadAnswer,
    decode_values,
    encode_call,
    encode_values,
    event_topic,
)
from sublet.wire.typed_data import (
    compile_struct,
    digest_of,
    domain_separator,
    keccak,
)

_TERMS = "(bytes32,bytes32,address,address,uint64,uint32,uint64,uint64)"
_USAGE = "(bytes32,uint64,uint64,uint64,uint64,uint64,uint64)"

_TYPES = {
    "Case": (
        ("provider", "address"),
        ("tenant", "address"),
        ("amount", "uint256"),
        ("evidence", "bytes32"),
        ("salt", "uint256"),
    ),
    "Confirm": (("caseId", "bytes32"),),
}


class SignedTerms(Struct, frozen=True):
    """Terms of a lease, with the signature of its provider."""

    document: LeaseTerms
    signature: bytes


class SignedUsage(Struct, frozen=True):
    """A reading, with the signature of its provider."""

    document: UsageRecord
    signature: bytes


# ---- calls that change something --------------------------------------------------


def construct(
    *,
    token: Address,
    escrow: Address,
    arbiters: Sequence[Address],
    quorum: int,
    appeal_quorum: int,
) -> bytes:
    """Encode what the contract is deployed with; arbiters in ascending order."""
    types = "(address,address,address[],uint256,uint256)"
    return encode_values(types, (token, escrow, arbiters, quorum, appeal_quorum))


def put(stake: Address, provider: Address, amount: int) -> Call:
    """Put the sender's tokens, which it has approved, up for a provider."""
    return Call(stake, encode_call("stake(address,uint256)", provider, amount))


def unbond(stake: Address, amount: int) -> Call:
    """Ask for this much back, as the provider."""
    return Call(stake, encode_call("unbond(uint256)", amount))


def withdraw(stake: Address, provider: Address) -> Call:
    """Have a provider paid what is unbonded."""
    return Call(stake, encode_call("withdraw(address)", provider))


def slash_terms(
    stake: Address, market: Digest, first: SignedTerms, second: SignedTerms
) -> Call:
    """Show two terms of one lease that contradict each other."""
    signature = f"slashTerms(bytes32,{_TERMS},bytes,{_TERMS},bytes)"
    return Call(stake, encode_call(signature, market, *_write(first), *_write(second)))


def slash_usage(
    stake: Address,
    market: Digest,
    first: SignedUsage,
    second: SignedUsage,
    terms: SignedTerms,
) -> Call:
    """Show two readings that contradict each other, and the terms of their lease."""
    signature = f"slashUsage(bytes32,{_USAGE},bytes,{_USAGE},bytes,{_TERMS},bytes)"
    said = (*_write(first), *_write(second), *_write(terms))
    return Call(stake, encode_call(signature, market, *said))


def _write(signed: SignedTerms | SignedUsage) -> tuple[Any, bytes]:
    # A document's fields stand in the order of its EIP-712 type, as the contract's do.
    return astuple(signed.document), signed.signature


def pay_award(stake: Address, award_id: int) -> Call:
    """Have a tenant paid what a contradiction brought it."""
    return Call(stake, encode_call("payAward(uint256)", award_id))


def open_case(
    stake: Address,
    *,
    provider: Address,
    tenant: Address,
    amount: int,
    evidence: Digest,
    salt: int,
    signatures: Sequence[bytes],
) -> Call:
    """Open a case; signatures by ascending address of the arbiters."""
    name = "openCase(address,address,uint256,bytes32,uint256,bytes[])"
    data = encode_call(name, provider, tenant, amount, evidence, salt, signatures)
    return Call(stake, data)


def appeal(stake: Address, case_id: Digest) -> Call:
    """Disagree with a case, as its provider."""
    return Call(stake, encode_call("appeal(bytes32)", case_id))


def execute_case(
    stake: Address, case_id: Digest, signatures: Sequence[bytes] = ()
) -> Call:
    """Grant what a case asks for; signatures of its confirmation after an appeal."""
    return Call(stake, encode_call("executeCase(bytes32,bytes[])", case_id, signatures))


def drop_case(stake: Address, case_id: Digest) -> Call:
    """Say that a case has run out."""
    return Call(stake, encode_call("dropCase(bytes32)", case_id))


def pay(stake: Address, tenant: Address) -> Call:
    """Have a tenant paid what cases granted it."""
    return Call(stake, encode_call("pay(address)", tenant))


# ---- what arbiters sign -----------------------------------------------------------


def case_digest(
    stake: Address,
    *,
    chain_id: int,
    provider: Address,
    tenant: Address,
    amount: int,
    evidence: Digest,
    salt: int,
) -> Digest:
    """Give a case's id: what arbiters sign to open it."""
    message = {
        "provider": provider,
        "tenant": tenant,
        "amount": amount,
        "evidence": evidence,
        "salt": salt,
    }
    return _digest("Case", message, stake=stake, chain_id=chain_id)


def confirm_digest(stake: Address, *, chain_id: int, case_id: Digest) -> Digest:
    """Give what arbiters sign to uphold a case after an appeal."""
    return _digest("Confirm", {"caseId": case_id}, stake=stake, chain_id=chain_id)


def _digest(
    kind: str, message: Mapping[str, Any], *, stake: Address, chain_id: int
) -> Digest:
    separator = domain_separator(
        {
            "name": "Sublet Stake",
            "version": "1",
            "chainId": chain_id,
            "verifyingContract": stake,
        }
    )
    hashed = compile_struct(kind, {kind: _TYPES[kind]})(message)
    return digest_of(separator=separator, struct_hash=hashed)


def hash_evidence(first: Digest, second: Digest) -> Digest:
    """Give what the contract calls two documents that contradict each other."""
    return "0x" + keccak(bytes.fromhex(first[2:] + second[2:])).hex()


# ---- questions --------------------------------------------------------------------


def ask_terms(stake: Address) -> Mapping[str, tuple[Call, str]]:
    """Ask with what the contract was deployed: by name, a call and its answer's types."""
    return {
        name: (Call(stake, encode_call(f"{question}()")), types)
        for name, question, types in (
            ("token", "TOKEN", "(address)"),
            ("escrow", "ESCROW", "(address)"),
            ("arbiters", "arbiters", "(address[])"),
            ("quorum", "QUORUM", "(uint256)"),
            ("appeal_quorum", "APPEAL_QUORUM", "(uint256)"),
        )
    }


def ask_holding(stake: Address, provider: Address) -> Call:
    """Ask what is there of a provider's; for ``read_holding``."""
    return Call(stake, encode_call("holdings(address)", provider))


def ask_award(stake: Address, award_id: int) -> Call:
    """Ask for an award; for ``read_award``."""
    return Call(stake, encode_call("awards(uint256)", award_id))


def ask_case(stake: Address, case_id: Digest) -> Call:
    """Ask for a case; for ``read_case``."""
    return Call(stake, encode_call("cases(bytes32)", case_id))


def ask_owed(stake: Address, tenant: Address) -> Call:
    """Ask what cases granted a tenant; read with ``(uint256)``."""
    return Call(stake, encode_call("owed(address)", tenant))


def read_holding(answer: bytes) -> Holding:
    """Read what is there of a provider's.

    Raises:
        BadAnswer: it cannot be; likewise below.
    """
    holding = Holding(
        *decode_values("(uint256,uint256,uint256,uint256,uint256)", answer)
    )
    if holding.free < 0:
        raise BadAnswer("a contract says that cases hold more than there is")
    return holding


def read_award(answer: bytes) -> Award:
    """Read an award; all zeros where there is none."""
    return Award(*decode_values("(address,address,uint256,uint256)", answer))


def read_case(answer: bytes) -> Case:
    """Read a case; all zeros where there is none."""
    types = "(address,address,uint256,bytes32,uint256,bool,bool)"
    return Case(*decode_values(types, answer))


# ---- events -----------------------------------------------------------------------

_Reader = Callable[[tuple[Digest, ...], tuple[Any, ...]], ev.Event]


def _address(topic: Digest) -> Address:
    if topic[2:26] != "0" * 24:
        raise BadAnswer("an event names what is no address")
    return "0x" + topic[26:]


# By signature: how many topics follow the first, the data's types, the reader.
_EVENTS: Mapping[str, tuple[int, str, _Reader]] = {
    "Staked(address,uint256)": (
        1,
        "(uint256)",
        lambda at, of: ev.Staked(_address(at[0]), *of),
    ),
    "Unbonding(address,uint256,uint256)": (
        1,
        "(uint256,uint256)",
        lambda at, of: ev.Unbonding(_address(at[0]), *of),
    ),
    "Withdrawn(address,uint256)": (
        1,
        "(uint256)",
        lambda at, of: ev.Withdrawn(_address(at[0]), *of),
    ),
    "Contradicted(address,address,bytes32,uint256,uint256,uint256,bytes32)": (
        3,
        "(uint256,uint256,uint256,bytes32)",
        lambda at, of: ev.Contradicted(_address(at[0]), _address(at[1]), at[2], *of),
    ),
    "AwardPaid(uint256,address,uint256)": (
        2,
        "(uint256)",
        lambda at, of: ev.AwardPaid(int(at[0], 16), _address(at[1]), *of),
    ),
    "CaseOpened(bytes32,address,address,uint256,bytes32,uint256)": (
        3,
        "(uint256,bytes32,uint256)",
        lambda at, of: ev.CaseOpened(at[0], _address(at[1]), _address(at[2]), *of),
    ),
    "CaseAppealed(bytes32)": (1, "()", lambda at, of: ev.CaseAppealed(at[0])),
    "CaseClosed(bytes32,bool,uint256)": (
        1,
        "(bool,uint256)",
        lambda at, of: ev.CaseClosed(at[0], *of),
    ),
    "Paid(address,uint256)": (
        1,
        "(uint256)",
        lambda at, of: ev.Paid(_address(at[0]), *of),
    ),
}
_BY_TOPIC = {event_topic(signature): entry for signature, entry in _EVENTS.items()}

CONTRADICTED, CASE_OPENED = (
    next(event_topic(one) for one in _EVENTS if one.startswith(name))
    for name in ("Contradicted", "CaseOpened")
)


def provider_topic(provider: Address) -> Digest:
    """Write a provider as a topic of an event."""
    return "0x" + "0" * 24 + provider[2:]


def read_event(topics: Sequence[Digest], data: bytes) -> ev.Event:
    """Read an event of the stake contract.

    Raises:
        BadAnswer: it is none of this contract's.
    """
    entry = _BY_TOPIC.get(topics[0]) if topics else None
    if entry is None or len(topics) != entry[0] + 1:
        raise BadAnswer("an event is none of the stake contract's")
    _, types, read = entry
    return read(tuple(topics[1:]), decode_values(types, data))
