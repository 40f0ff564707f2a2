# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
# SPDX-License-Identifier: Apache-2.0
"""
@title Stake of providers
@license Apache-2.0
@notice What a provider puts at risk for its word. It is taken in two ways, and no other:

        - by anybody, at once, with two signed documents of the provider's key that
          contradict each other: all of it. Half goes to the lease's tenant, after the
          same seven days and as exposed as if it were being unbonded; half stays here
          for ever. So to slash oneself is never quicker, safer or cheaper than to leave.
        - by a quorum of arbiters, for everything else (an SLA that was broken, say):
          a case names tenant, amount and the hash of its evidence, waits three days, and
          where the provider appeals needs the larger quorum to go through.

        Token, arbiters and quorums never change; there is no owner and no pause.
"""

from ethereum.ercs import IERC20


struct LeaseTerms:
    leaseId: bytes32
    offerId: bytes32
    tenant: address
    provider: address
    priceHour: uint64
    durationS: uint32
    signedAtS: uint64
    salt: uint64

struct UsageRecord:
    leaseId: bytes32
    sequence: uint64
    ranMs: uint64
    cpuMs: uint64
    memoryBytesMax: uint64
    signedAtS: uint64
    salt: uint64

struct Holding:
    bonded: uint256
    unbonding: uint256
    unbondedAt: uint256  # seconds; when the unbonding part may leave
    awarded: uint256  # to tenants, for contradictions; not paid yet
    reserved: uint256  # of all that, for open cases

struct Award:
    provider: address
    tenant: address
    amount: uint256
    payableAt: uint256

struct Case:
    provider: address
    tenant: address
    amount: uint256
    evidence: bytes32  # hash of the file that third parties verify
    executableAt: uint256  # 0 for no such case
    isAppealed: bool
    isOpen: bool


event Staked:
    provider: indexed(address)
    amount: uint256

event Unbonding:
    provider: indexed(address)
    amount: uint256
    unbondedAt: uint256

event Withdrawn:
    provider: indexed(address)
    amount: uint256

event Contradicted:
    provider: indexed(address)
    tenant: indexed(address)
    leaseId: indexed(bytes32)
    awardId: uint256
    awarded: uint256
    burnt: uint256
    evidence: bytes32  # hash of the two digests

event AwardPaid:
    awardId: indexed(uint256)
    tenant: indexed(address)
    amount: uint256

event CaseOpened:
    caseId: indexed(bytes32)
    provider: indexed(address)
    tenant: indexed(address)
    amount: uint256
    evidence: bytes32
    executableAt: uint256

event CaseAppealed:
    caseId: indexed(bytes32)

event CaseClosed:
    caseId: indexed(bytes32)
    isExecuted: bool
    amount: uint256

event Paid:
    tenant: indexed(address)
    amount: uint256


UNBONDING_S: constant(uint256) = 7 * 86_400
TIMELOCK_S: constant(uint256) = 3 * 86_400
EXPIRY_S: constant(uint256) = 14 * 86_400  # after the timelock; then a case is void
# An honest provider remembers a lease for longer than this, so that no market can
# make it sign the same one twice with other terms.
TERMS_WINDOW_S: constant(uint64) = 300
# Of secp256k1; written in decimal, since Vyper takes 32 bytes in hex for bytes32.
HALF_ORDER: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)

DOCUMENT_DOMAIN_TYPEHASH: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
)
DOMAIN_TYPEHASH: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
TERMS_TYPEHASH: constant(bytes32) = keccak256(
    "LeaseTerms(bytes32 leaseId,bytes32 offerId,address tenant,address provider,uint64 priceHour,uint32 durationS,uint64 signedAtS,uint64 salt)"
)
USAGE_TYPEHASH: constant(bytes32) = keccak256(
    "UsageRecord(bytes32 leaseId,uint64 sequence,uint64 ranMs,uint64 cpuMs,uint64 memoryBytesMax,uint64 signedAtS,uint64 salt)"
)
CASE_TYPEHASH: constant(bytes32) = keccak256(
    "Case(address provider,address tenant,uint256 amount,bytes32 evidence,uint256 salt)"
)
CONFIRM_TYPEHASH: constant(bytes32) = keccak256("Confirm(bytes32 caseId)")

TOKEN: public(immutable(address))
ESCROW: public(immutable(address))  # names the markets whose documents count here
ARBITERS: immutable(DynArray[address, 16])
QUORUM: public(immutable(uint256))
APPEAL_QUORUM: public(immutable(uint256))

holdings: public(HashMap[address, Holding])
awards: public(HashMap[uint256, Award])
awardCount: public(uint256)
cases: public(HashMap[bytes32, Case])
owed: public(HashMap[address, uint256])  # to tenants, by closed cases
burnt: public(uint256)  # stays here, and is nobody's


@deploy
def __init__(
    token: address,
    escrow: address,
    arbiters: DynArray[address, 16],
    quorum: uint256,
    appeal_quorum: uint256,
):
    """
    @param arbiters In ascending order, each once.
    @param quorum How many open a case.
    @param appeal_quorum How many more is needed once the provider has appealed.
    """
    assert quorum > 0 and quorum < appeal_quorum, "bad_quorum"
    assert appeal_quorum <= len(arbiters), "bad_quorum"
    last: address = empty(address)
    for arbiter: address in arbiters:
        assert convert(arbiter, uint160) > convert(last, uint160), "bad_arbiters"
        last = arbiter
    TOKEN = token
    ESCROW = escrow
    ARBITERS = arbiters
    QUORUM = quorum
    APPEAL_QUORUM = appeal_quorum


@external
@view
def arbiters() -> DynArray[address, 16]:
    return ARBITERS


@external
@view
def stakeOf(provider: address) -> uint256:
    """
    @return what can still be taken for a new fault: bonded or unbonding, and in no case
    """
    return self._free(self.holdings[provider])


# ---- in and out ------------------------------------------------------------------


@external
@nonreentrant
def stake(provider: address, amount: uint256):
    """
    @notice Put up stake for a provider; anybody may, out of its own approved tokens.
    """
    assert amount > 0, "zero_amount"
    before: uint256 = staticcall IERC20(TOKEN).balanceOf(self)
    assert extcall IERC20(TOKEN).transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "transfer_failed"
    arrived: uint256 = staticcall IERC20(TOKEN).balanceOf(self) - before
    assert arrived >= amount, "short_transfer"
    self.holdings[provider].bonded += amount
    log Staked(provider=provider, amount=amount)


@external
@nonreentrant
def unbond(amount: uint256):
    """
    @notice The provider wants this much back: in seven days, and at risk until then.
            Asking for more starts the days anew for all that is under way.
    """
    assert amount > 0, "zero_amount"
    assert amount <= self.holdings[msg.sender].bonded, "over_balance"
    self.holdings[msg.sender].bonded -= amount
    self.holdings[msg.sender].unbonding += amount
    self.holdings[msg.sender].unbondedAt = block.timestamp + UNBONDING_S
    log Unbonding(
        provider=msg.sender, amount=amount, unbondedAt=block.timestamp + UNBONDING_S
    )


@external
@nonreentrant
def withdraw(provider: address):
    """
    @notice Pay a provider what is unbonded, less what open cases ask for; anybody may.
    """
    holding: Holding = self.holdings[provider]
    assert holding.unbonding > 0, "not_unbonding"
    assert block.timestamp >= holding.unbondedAt, "too_early"
    amount: uint256 = min(holding.unbonding, self._free(holding))
    assert amount > 0, "case_open"
    self.holdings[provider].unbonding -= amount
    log Withdrawn(provider=provider, amount=amount)
    self._push(provider, amount)


# ---- contradictions --------------------------------------------------------------


@external
@nonreentrant
def slashTerms(
    market: bytes32,
    first: LeaseTerms,
    firstSignature: Bytes[65],
    second: LeaseTerms,
    secondSignature: Bytes[65],
):
    """
    @notice Two terms of one lease, signed within five minutes, that differ in more than
            time and salt. The first one's tenant is paid.
    """
    separator: bytes32 = self._document_separator(market)
    one: bytes32 = self._terms_digest(first, separator)
    two: bytes32 = self._terms_digest(second, separator)
    assert first.leaseId == second.leaseId, "no_contradiction"
    assert (
        first.offerId != second.offerId
        or first.tenant != second.tenant
        or first.priceHour != second.priceHour
        or first.durationS != second.durationS
    ), "no_contradiction"
    earlier: uint64 = min(first.signedAtS, second.signedAtS)
    later: uint64 = max(first.signedAtS, second.signedAtS)
    assert later - earlier <= TERMS_WINDOW_S, "too_far_apart"
    provider: address = self._signer(one, firstSignature)
    assert provider == first.provider and provider == second.provider, "bad_signature"
    assert provider == self._signer(two, secondSignature), "bad_signature"
    self._slash(provider, first.tenant, first.leaseId, keccak256(concat(one, two)))


@external
@nonreentrant
def slashUsage(
    market: bytes32,
    first: UsageRecord,
    firstSignature: Bytes[65],
    second: UsageRecord,
    secondSignature: Bytes[65],
    terms: LeaseTerms,
    termsSignature: Bytes[65],
):
    """
    @notice Two usage records of one lease and sequence with other readings; the terms
            of that lease say whose it is, and so who is paid.
    """
    separator: bytes32 = self._document_separator(market)
    one: bytes32 = self._usage_digest(first, separator)
    two: bytes32 = self._usage_digest(second, separator)
    assert first.leaseId == second.leaseId, "no_contradiction"
    assert first.sequence == second.sequence, "no_contradiction"
    assert (
        first.ranMs != second.ranMs
        or first.cpuMs != second.cpuMs
        or first.memoryBytesMax != second.memoryBytesMax
    ), "no_contradiction"
    provider: address = self._signer(one, firstSignature)
    assert provider == self._signer(two, secondSignature), "bad_signature"
    assert terms.leaseId == first.leaseId and terms.provider == provider, "bad_terms"
    agreed: bytes32 = self._terms_digest(terms, separator)
    assert provider == self._signer(agreed, termsSignature), "bad_signature"
    self._slash(provider, terms.tenant, first.leaseId, keccak256(concat(one, two)))


@internal
def _slash(provider: address, tenant: address, lease_id: bytes32, evidence: bytes32):
    # Awards that are not paid yet are no stake of the provider any more, and what open
    # cases ask for is theirs: they came first. An old contradiction takes new stake,
    # too: were it used up, its author would use it up while little is at stake.
    holding: Holding = self.holdings[provider]
    amount: uint256 = min(holding.bonded + holding.unbonding, self._free(holding))
    assert amount > 0, "nothing_left"
    self._take(provider, amount)
    share: uint256 = amount // 2
    award_id: uint256 = self.awardCount
    self.awardCount = award_id + 1
    self.awards[award_id] = Award(
        provider=provider,
        tenant=tenant,
        amount=share,
        payableAt=block.timestamp + UNBONDING_S,
    )
    self.holdings[provider].awarded += share
    self.burnt += amount - share
    log Contradicted(
        provider=provider,
        tenant=tenant,
        leaseId=lease_id,
        awardId=award_id,
        awarded=share,
        burnt=amount - share,
        evidence=evidence,
    )


@external
@nonreentrant
def payAward(awardId: uint256):
    """
    @notice After seven days, pay the tenant what a contradiction brought it, less what
            open cases against the same provider ask for, or have taken; anybody may.
    """
    award: Award = self.awards[awardId]
    assert award.amount > 0, "nothing_left"
    assert block.timestamp >= award.payableAt, "too_early"
    holding: Holding = self.holdings[award.provider]
    amount: uint256 = min(min(award.amount, holding.awarded), self._free(holding))
    assert amount > 0, "case_open"
    self.awards[awardId].amount -= amount
    self.holdings[award.provider].awarded -= amount
    log AwardPaid(awardId=awardId, tenant=award.tenant, amount=amount)
    self._push(award.tenant, amount)


# ---- cases -----------------------------------------------------------------------


@external
@nonreentrant
def openCase(
    provider: address,
    tenant: address,
    amount: uint256,
    evidence: bytes32,
    salt: uint256,
    signatures: DynArray[Bytes[65], 16],
):
    """
    @notice A quorum of arbiters asks for a part of the stake, for this tenant.
    @param signatures Of different arbiters, by ascending address.
    """
    case_id: bytes32 = self._case_id(provider, tenant, amount, evidence, salt)
    assert self.cases[case_id].executableAt == 0, "case_known"
    assert tenant != empty(address) and tenant != provider, "bad_tenant"
    self._check_arbiters(case_id, signatures, QUORUM)
    reserved: uint256 = min(amount, self._free(self.holdings[provider]))
    assert reserved > 0, "nothing_left"
    self.holdings[provider].reserved += reserved
    self.cases[case_id] = Case(
        provider=provider,
        tenant=tenant,
        amount=reserved,
        evidence=evidence,
        executableAt=block.timestamp + TIMELOCK_S,
        isAppealed=False,
        isOpen=True,
    )
    log CaseOpened(
        caseId=case_id,
        provider=provider,
        tenant=tenant,
        amount=reserved,
        evidence=evidence,
        executableAt=block.timestamp + TIMELOCK_S,
    )


@external
@nonreentrant
def appeal(caseId: bytes32):
    """
    @notice The provider disagrees, within the three days: now more arbiters are needed.
    """
    case: Case = self.cases[caseId]
    assert case.isOpen, "no_case"
    assert msg.sender == case.provider, "not_provider"
    assert block.timestamp < case.executableAt, "too_late"
    self.cases[caseId].isAppealed = True
    log CaseAppealed(caseId=caseId)


@external
@nonreentrant
def executeCase(caseId: bytes32, signatures: DynArray[Bytes[65], 16]):
    """
    @notice After the three days, grant the tenant what the case asks for; anybody may.
    @param signatures Empty, but where the provider appealed: `Confirm` by the larger
                      quorum.
    """
    case: Case = self.cases[caseId]
    assert case.isOpen, "no_case"
    assert block.timestamp >= case.executableAt, "too_early"
    assert block.timestamp < case.executableAt + EXPIRY_S, "too_late"
    if case.isAppealed:
        confirmed: bytes32 = self._digest(keccak256(abi_encode(CONFIRM_TYPEHASH, caseId)))
        self._check_arbiters(confirmed, signatures, APPEAL_QUORUM)
    self._close(caseId, case, True)
    self._take(case.provider, case.amount)
    # Paid by `pay`: a blacklisted tenant must not let a case run out.
    self.owed[case.tenant] += case.amount


@external
@nonreentrant
def dropCase(caseId: bytes32):
    """
    @notice A case that nobody executed in time is void; anybody says so.
    """
    case: Case = self.cases[caseId]
    assert case.isOpen, "no_case"
    assert block.timestamp >= case.executableAt + EXPIRY_S, "too_early"
    self._close(caseId, case, False)


@external
@nonreentrant
def pay(tenant: address):
    """
    @notice Pay a tenant what cases granted it; anybody may.
    """
    amount: uint256 = self.owed[tenant]
    assert amount > 0, "nothing_left"
    self.owed[tenant] = 0
    log Paid(tenant=tenant, amount=amount)
    self._push(tenant, amount)


@external
@view
def getCaseId(
    provider: address, tenant: address, amount: uint256, evidence: bytes32, salt: uint256
) -> bytes32:
    """
    @return what arbiters sign to open it
    """
    return self._case_id(provider, tenant, amount, evidence, salt)


@external
@view
def getConfirmDigest(caseId: bytes32) -> bytes32:
    """
    @return what arbiters sign to uphold it after an appeal
    """
    return self._digest(keccak256(abi_encode(CONFIRM_TYPEHASH, caseId)))


# ---- within ----------------------------------------------------------------------


@internal
def _close(case_id: bytes32, case: Case, is_executed: bool):
    self.cases[case_id].isOpen = False
    self.holdings[case.provider].reserved -= case.amount
    log CaseClosed(caseId=case_id, isExecuted=is_executed, amount=case.amount)


@internal
@pure
def _free(holding: Holding) -> uint256:
    # Never below zero: a case reserves no more than there is, and nothing reserved leaves.
    return holding.bonded + holding.unbonding + holding.awarded - holding.reserved


@internal
def _take(provider: address, amount: uint256):
    """Take from what is leaving first, then from what is bonded, then from an award."""
    left: uint256 = amount
    part: uint256 = min(left, self.holdings[provider].unbonding)
    self.holdings[provider].unbonding -= part
    left -= part
    part = min(left, self.holdings[provider].bonded)
    self.holdings[provider].bonded -= part
    left -= part
    self.holdings[provider].awarded -= left


@internal
def _push(target: address, amount: uint256):
    assert extcall IERC20(TOKEN).transfer(
        target, amount, default_return_value=True
    ), "transfer_failed"


@internal
@view
def _check_arbiters(
    digest: bytes32, signatures: DynArray[Bytes[65], 16], quorum: uint256
):
    assert len(signatures) >= quorum, "no_quorum"
    last: address = empty(address)
    for signature: Bytes[65] in signatures:
        signer: address = self._signer(digest, signature)
        assert convert(signer, uint160) > convert(last, uint160), "bad_order"
        assert signer in ARBITERS, "not_arbiter"
        last = signer


@internal
@view
def _case_id(
    provider: address, tenant: address, amount: uint256, evidence: bytes32, salt: uint256
) -> bytes32:
    return self._digest(
        keccak256(abi_encode(CASE_TYPEHASH, provider, tenant, amount, evidence, salt))
    )


@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    separator: bytes32 = keccak256(
        abi_encode(
            DOMAIN_TYPEHASH, keccak256("Sublet Stake"), keccak256("1"), chain.id, self
        )
    )
    return keccak256(concat(b"\x19\x01", separator, struct_hash))


@internal
@view
def _document_separator(market: bytes32) -> bytes32:
    return keccak256(
        abi_encode(
            DOCUMENT_DOMAIN_TYPEHASH,
            keccak256("Sublet"),
            keccak256("1"),
            chain.id,
            ESCROW,
            market,
        )
    )


@internal
@pure
def _terms_digest(terms: LeaseTerms, separator: bytes32) -> bytes32:
    return keccak256(
        concat(b"\x19\x01", separator, keccak256(abi_encode(TERMS_TYPEHASH, terms)))
    )


@internal
@pure
def _usage_digest(record: UsageRecord, separator: bytes32) -> bytes32:
    return keccak256(
        concat(b"\x19\x01", separator, keccak256(abi_encode(USAGE_TYPEHASH, record)))
    )


@internal
@pure
def _signer(digest: bytes32, signature: Bytes[65]) -> address:
    assert len(signature) == 65, "bad_signature"
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    s: uint256 = convert(extract32(signature, 32), uint256)
    assert (v == 27 or v == 28) and s <= HALF_ORDER, "bad_signature"
    found: address = ecrecover(digest, v, convert(extract32(signature, 0), uint256), s)
    assert found != empty(address), "bad_signature"
    return found
