"""A stake contract with its arbiters, and documents signed as a provider signs them."""

from typing import Any

from msgspec.structs import astuple, replace

from sublet.base.ids import Address, Digest
from sublet.core.document import LeaseTerms, UsageRecord
from sublet.wire.signature import Key
from sublet.wire.typed_data import Domain, digest
from tests.contracts.escrow_house import DOLLAR, USDC, key
from tests.contracts.evm import Done, Evm

DAY_S = 86_400
TERMS = "(bytes32,bytes32,address,address,uint64,uint32,uint64,uint64)"
USAGE = "(bytes32,uint64,uint64,uint64,uint64,uint64,uint64)"
SLASH_TERMS = f"slashTerms(bytes32,{TERMS},bytes,{TERMS},bytes)"
SLASH_USAGE = f"slashUsage(bytes32,{USAGE},bytes,{USAGE},bytes,{TERMS},bytes)"
OPEN = "openCase(address,address,uint256,bytes32,uint256,bytes[])"
MARKET: Digest = "0x" + "4d" * 32
LEASE: Digest = "0x" + "1e" * 32
ESCROW: Address = "0x" + "e5" * 20
EVIDENCE = bytes(range(32))
NOW_S = 1_790_000_000
STAKE = 100 * DOLLAR


class StakeHouse:
    """One stake contract with five arbiters: three open a case, four uphold it."""

    def __init__(self, evm: Evm | None = None) -> None:
        self.evm = evm or Evm()
        self.token = self.evm.deploy(USDC)
        self.arbiters = sorted((key(n) for n in range(20, 25)), key=lambda k: k.address)
        addresses = [arbiter.address for arbiter in self.arbiters]
        args = (self.token, ESCROW, addresses, 3, 4)
        self.stake = self.evm.deploy("Stake.vy", *args)
        self.provider, self.tenant = key(2), key(1)
        self.domain = Domain(MARKET, self.evm.chain_id, ESCROW)

    def put(self, amount: int) -> Done:
        """The provider puts this much up."""
        me = self.provider.address
        for signature, *args in (
            ("mint(address,uint256)", me, amount),
            ("approve(address,uint256)", self.stake, amount),
        ):
            done = self.evm.call(self.token, signature, *args, sender=me)
            assert done.ok, done.fault
        return self.call("stake(address,uint256)", me, amount, by=me)

    def call(self, signature: str, *args: Any, by: Address = ESCROW) -> Done:
        return self.evm.call(self.stake, signature, *args, sender=by)

    def balance(self, party: Address) -> int:
        done = self.evm.call(self.token, "balanceOf(address)", party)
        return int(done.give("uint256"))

    def free(self) -> int:
        done = self.call("stakeOf(address)", self.provider.address)
        return int(done.give("uint256"))

    # ---- documents ------------------------------------------------------------

    def terms(self, **changes: Any) -> LeaseTerms:
        base = LeaseTerms(
            lease_id=LEASE,
            offer_id="0x" + "0f" * 32,
            tenant=self.tenant.address,
            provider=self.provider.address,
            price_hour=2_500_000,
            duration_s=3_600,
            signed_at_s=NOW_S,
            salt=1,
        )
        return replace(base, **changes)

    def usage(self, **changes: Any) -> UsageRecord:
        base = UsageRecord(LEASE, NOW_S * 1_000, 60_000, 1_000, 1 << 20, NOW_S, 1)
        return replace(base, **changes)

    def sign(self, document: Any, signer: Key | None = None) -> list[Any]:
        signature = (signer or self.provider).sign(digest(document, self.domain))
        fields = [
            bytes.fromhex(field[2:])
            if isinstance(field, str) and len(field) == 66
            else field
            for field in astuple(document)
        ]
        return [tuple(fields), signature]

    def slash_terms(self, one: LeaseTerms, two: LeaseTerms, **signers: Key) -> Done:
        market = bytes.fromhex(MARKET[2:])
        second = self.sign(two, signers.get("second"))
        return self.call(SLASH_TERMS, market, *self.sign(one), *second)

    def slash_usage(self, one: UsageRecord, two: UsageRecord, **more: Any) -> Done:
        terms = self.sign(more.get("terms", self.terms()), more.get("signer"))
        signed = (*self.sign(one), *self.sign(two), *terms)
        return self.call(SLASH_USAGE, bytes.fromhex(MARKET[2:]), *signed)

    # ---- cases ----------------------------------------------------------------

    def open_case(
        self, amount: int, *, by: list[Key] | None = None
    ) -> tuple[Done, bytes]:
        case = (self.provider.address, self.tenant.address, amount, EVIDENCE, amount)
        named = self.call("getCaseId(address,address,uint256,bytes32,uint256)", *case)
        case_id = named.give("bytes32")
        signatures = [one.sign("0x" + case_id.hex()) for one in by or self.arbiters[:3]]
        return self.call(OPEN, *case, signatures), case_id

    def execute(self, case_id: bytes, *, by: list[Key] | None = None) -> Done:
        confirmed = self.call("getConfirmDigest(bytes32)", case_id).give("bytes32")
        signatures = [one.sign("0x" + confirmed.hex()) for one in by or []]
        return self.call("executeCase(bytes32,bytes[])", case_id, signatures)
