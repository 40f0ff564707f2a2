"""An arbiters' case as a small file, which they sign apart from each other.

It names provider, tenant, amount and the SHA-256 of the evidence; each arbiter adds its
signature to a copy, and whoever opens or executes the case brings the copies together.
Pure. Not here: what the contract makes of it (``core.stake``), sending.
"""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from sublet.base.errors import PeerFault, Refused
from sublet.base.ids import Address, Digest
from sublet.core.member import Amount
from sublet.core.rail.transaction import Call
from sublet.wire import stake_call
from sublet.wire.codec import decode, encode
from sublet.wire.message import PROTOCOL_VERSION
from sublet.wire.signature import Key, recover

FILE_BYTES_MAX = 16_384
_ARBITERS_MAX = 16  # that a stake contract can have

Signature = Annotated[str, Meta(pattern=r"\A0x[0-9a-f]{130}\Z")]
Signatures = Annotated[dict[Address, Signature], Meta(max_length=_ARBITERS_MAX)]


class BadCase(PeerFault):
    """This file of a case does not hold: a signature in it is not whose it says."""

    code = "bad_case"


class CaseFile(Struct, frozen=True, forbid_unknown_fields=True):
    """What arbiters ask of a stake, and who has signed."""

    v: int
    type: Annotated[str, Meta(pattern=r"\Asublet-case\Z")]
    chain_id: Annotated[int, Meta(ge=1, le=1 << 53)]
    stake: Address  # the contract
    provider: Address
    tenant: Address
    amount: Amount  # the token's smallest unit, a micro-USD
    evidence: Digest  # SHA-256 of the file of evidence
    salt: Digest  # so that the same can be asked another time
    opening: Signatures = {}
    confirming: Signatures = {}  # after an appeal

    @property
    def id(self) -> Digest:
        """What arbiters sign to open it, and its name on the chain."""
        return stake_call.case_digest(
            self.stake,
            chain_id=self.chain_id,
            provider=self.provider,
            tenant=self.tenant,
            amount=self.amount,
            evidence=self.evidence,
            salt=int(self.salt, 16),
        )

    @property
    def confirmation(self) -> Digest:
        """What arbiters sign to uphold it after an appeal."""
        return stake_call.confirm_digest(
            self.stake, chain_id=self.chain_id, case_id=self.id
        )

    def write_opening(self) -> Call:
        """Write the call that opens it."""
        return stake_call.open_case(
            self.stake,
            provider=self.provider,
            tenant=self.tenant,
            amount=self.amount,
            evidence=self.evidence,
            salt=int(self.salt, 16),
            signatures=_in_order(self.opening),
        )

    def write_execution(self, *, is_appealed: bool) -> Call:
        """Write the call that executes it."""
        signatures = _in_order(self.confirming) if is_appealed else []
        return stake_call.execute_case(self.stake, self.id, signatures)


def make_case(
    *,
    chain_id: int,
    stake: Address,
    provider: Address,
    tenant: Address,
    amount: int,
    evidence: Digest,
    salt: Digest,
) -> CaseFile:
    """Make a case that nobody has signed yet."""
    return CaseFile(
        v=PROTOCOL_VERSION,
        type="sublet-case",
        chain_id=chain_id,
        stake=stake,
        provider=provider,
        tenant=tenant,
        amount=amount,
        evidence=evidence,
        salt=salt,
    )


def sign_case(case: CaseFile, *, key: Key, is_confirming: bool = False) -> CaseFile:
    """Add an arbiter's signature: to open the case, or to uphold it after an appeal."""
    said = case.confirmation if is_confirming else case.id
    signature = {key.address: "0x" + key.sign(said).hex()}
    if is_confirming:
        return replace(case, confirming=case.confirming | signature)
    return replace(case, opening=case.opening | signature)


def write_case(case: CaseFile) -> bytes:
    """Write the file."""
    return encode(case) + b"\n"


def read_case(raw: bytes) -> CaseFile:
    """Read a file, and check each signature in it.

    Raises:
        PeerFault: it is no such file, or a signature is not whose it says.
        UnsupportedVersion: of another version.
    """
    case: CaseFile = decode(raw.rstrip(b"\n"), CaseFile, size_max=FILE_BYTES_MAX)
    for said, signatures in (
        (case.id, case.opening),
        (case.confirmation, case.confirming),
    ):
        for arbiter, signature in signatures.items():
            if recover(said, bytes.fromhex(signature[2:])) != arbiter:
                raise BadCase(f"{arbiter} did not sign this case as it is")
    return case


def merge_cases(copies: Sequence[CaseFile]) -> CaseFile:
    """Bring copies of one case together, with all signatures that any of them has.

    Raises:
        Refused: ``other_case``, they are not of one case.
    """
    first, *others = copies
    for one in others:
        if one.id != first.id:
            raise Refused(
                f"these files are of two cases, {first.id} and {one.id}; name copies "
                "of one",
                code="other_case",
                field="CASE",
            )
        first = replace(
            first,
            opening=first.opening | one.opening,
            confirming=first.confirming | one.confirming,
        )
    return first


def keep_arbiters(case: CaseFile, arbiters: Sequence[Address]) -> CaseFile:
    """Leave out who is no arbiter of the contract: it would refuse all of them."""

    def keep(signatures: dict[Address, str]) -> dict[Address, str]:
        return {who: said for who, said in signatures.items() if who in arbiters}

    return replace(case, opening=keep(case.opening), confirming=keep(case.confirming))


def _in_order(signatures: dict[Address, str]) -> list[bytes]:
    # Addresses are lower-case hex of one length: their order is that of the numbers.
    return [bytes.fromhex(signatures[who][2:]) for who in sorted(signatures)]
