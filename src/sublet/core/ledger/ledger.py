"""Double entry with two-phase transfers: TigerBeetle's model, in small.

Every transfer debits one account and credits another by the same amount. A hold is
a pending transfer; settling it posts a part and voids the rest. So nothing is ever
created or lost: the sum of all debits equals the sum of all credits, posted and
pending alike, and no wallet spends what it does not have.

Not here: why money moves (``book``), prices, channels and vouchers.
"""

from copy import copy
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from sublet.base.errors import Broken, Refused
from sublet.base.ids import Address, Digest
from sublet.base.limits import AMOUNT_MAX, LEASES_KEPT_MAX
from sublet.base.units import format_money

# The account that every credit comes from. It alone may have more debits than credits.
ISSUED = "issued"

TRANSFERS_KEPT_MAX = LEASES_KEPT_MAX  # resolved ones, remembered to know a repetition


class Account(Struct, frozen=True, array_like=True):
    """One side of many transfers, in micro-USD. The four sums only grow when posted."""

    id: str  # a party's address, or ISSUED
    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0
    credits_issued: int = 0  # the part of credits_posted that the operator issued

    @property
    def balance(self) -> int:
        """Micro-USD free to spend: posted, less what is held for open leases."""
        return self.credits_posted - self.debits_posted - self.debits_pending


class Transfer(Struct, frozen=True, array_like=True):
    """One movement of money between two accounts."""

    id: Digest  # of the document that caused it: an Order or a Credit
    debit: str
    credit: str
    amount: int  # micro-USD that were held or issued
    state: Literal["pending", "resolved"]
    posted: int = 0  # micro-USD that really moved


class InsufficientFunds(Refused):
    """The wallet does not cover the hold; add credits or ask for less."""

    code = "insufficient_funds"


class LedgerUnbalanced(Broken):
    """Debits and credits differ: money was created or lost."""

    code = "ledger_unbalanced"


class Ledger:
    """All accounts and the transfers that still matter."""

    def __init__(self) -> None:
        """Open an empty ledger."""
        self.accounts: dict[str, Account] = {}
        self.pending: dict[Digest, Transfer] = {}
        self.resolved: dict[Digest, Transfer] = {}  # oldest first
        # Kept apart for the two sides, so that a slip on one side shows at once.
        self.debits_total = 0  # pending and posted
        self.credits_total = 0
        self.issued_total = 0

    def copy(self) -> "Ledger":
        """Give an independent ledger with the same content."""
        twin = copy(self)
        twin.accounts = self.accounts.copy()
        twin.pending = self.pending.copy()
        twin.resolved = self.resolved.copy()
        return twin

    def find(self, party: Address) -> Account:
        """Give the party's account; an empty one where nothing ever moved."""
        return self.accounts.get(party) or Account(party)

    # ---- what may be asked ----------------------------------------------------

    def check_issue(self, *, transfer_id: Digest, amount: int) -> None:
        """Refuse an empty credit, a repetition, and more than can be counted.

        Raises:
            Refused: ``zero_amount``, ``duplicate_transfer`` or ``too_many_credits``.
        """
        if amount <= 0:
            raise Refused("a credit needs an amount above zero", code="zero_amount")
        self._check_new(transfer_id)
        if self.issued_total + amount > AMOUNT_MAX:
            raise Refused(
                f"the market has issued {format_money(self.issued_total)}; with this "
                f"credit it would pass the limit of {format_money(AMOUNT_MAX)}",
                code="too_many_credits",
            )

    def check_hold(self, *, transfer_id: Digest, debit: Address, amount: int) -> None:
        """Refuse a hold that the wallet does not cover.

        Raises:
            InsufficientFunds: says how much is missing.
            Refused: ``duplicate_transfer``.
        """
        self._check_new(transfer_id)
        balance = self.find(debit).balance
        if amount > balance:
            missing = amount - balance
            raise InsufficientFunds(
                f"the lease would hold {format_money(amount)} and the wallet has "
                f"{format_money(balance)} free; {format_money(missing)} are missing: "
                "add credits, or lower the total or the duration",
                detail={"missing": missing, "hold": amount, "balance": balance},
            )

    def _check_new(self, transfer_id: Digest) -> None:
        if transfer_id in self.pending or transfer_id in self.resolved:
            raise Refused(
                f"the transfer {transfer_id} is already in the ledger",
                code="duplicate_transfer",
            )

    # ---- what happens ---------------------------------------------------------

    def issue(self, *, transfer_id: Digest, party: Address, amount: int) -> None:
        """Move new credits into a wallet; the same id again moves nothing."""
        if transfer_id in self.resolved:
            return
        self._add(ISSUED, debits_posted=amount)
        self._add(party, credits_posted=amount, credits_issued=amount)
        self.issued_total += amount
        self._remember(Transfer(transfer_id, ISSUED, party, amount, "resolved", amount))

    def redeem(self, *, party: str, amount: int) -> None:
        """Take out of an account what has left the ledger's world.

        Raises:
            Broken: more than is free in it; the caller miscounted.
        """
        free = self.find(party).balance
        if not 0 <= amount <= free:
            raise Broken(f"redeeming {amount} of {party}, which has {free} free")
        self._add(party, debits_posted=amount)
        self._add(ISSUED, credits_posted=amount)

    def move(self, *, debit: str, credit: str, amount: int) -> None:
        """Move posted money at once, where no hold was."""
        self._add(debit, debits_posted=amount)
        self._add(credit, credits_posted=amount)

    def hold(
        self,
        *,
        transfer_id: Digest,
        debit: Address,
        credit: Address,
        amount: int,
    ) -> None:
        """Set money aside for one receiver; the same id again holds nothing more."""
        if transfer_id in self.pending or transfer_id in self.resolved:
            return
        self._add(debit, debits_pending=amount)
        self._add(credit, credits_pending=amount)
        self.pending[transfer_id] = Transfer(
            transfer_id, debit, credit, amount, "pending"
        )

    def settle(self, *, transfer_id: Digest, amount: int) -> None:
        """Post ``amount`` of a hold and void the rest; again changes nothing.

        Raises:
            Broken: no such hold, or more than was held: the caller miscounted.
        """
        if transfer_id in self.resolved:
            return
        held = self.pending.pop(transfer_id, None)
        if held is None or not 0 <= amount <= held.amount:
            raise Broken(
                f"settling {amount} of the hold {transfer_id}, which is {held}"
            )
        self._add(held.debit, debits_pending=-held.amount, debits_posted=amount)
        self._add(held.credit, credits_pending=-held.amount, credits_posted=amount)
        self._remember(replace(held, state="resolved", posted=amount))

    def release(self, *, transfer_id: Digest) -> None:
        """Give a hold back as if it had never been: its id may be held again.

        Raises:
            Broken: there is no such hold.
        """
        held = self.pending.pop(transfer_id, None)
        if held is None:
            raise Broken(f"releasing the hold {transfer_id}, which is not there")
        self._add(held.debit, debits_pending=-held.amount)
        self._add(held.credit, credits_pending=-held.amount)

    def check_balanced(self) -> None:
        """Compare the running sums of both sides; cheap enough for every step.

        Raises:
            LedgerUnbalanced: they differ.
        """
        if self.debits_total != self.credits_total:
            raise LedgerUnbalanced(
                f"debits are {self.debits_total}, credits {self.credits_total}"
            )

    def _add(
        self,
        account_id: str,
        *,
        debits_pending: int = 0,
        debits_posted: int = 0,
        credits_pending: int = 0,
        credits_posted: int = 0,
        credits_issued: int = 0,
    ) -> None:
        was = self.accounts.get(account_id) or Account(account_id)
        self.accounts[account_id] = Account(
            account_id,
            was.debits_pending + debits_pending,
            was.debits_posted + debits_posted,
            was.credits_pending + credits_pending,
            was.credits_posted + credits_posted,
            was.credits_issued + credits_issued,
        )
        self.debits_total += debits_pending + debits_posted
        self.credits_total += credits_pending + credits_posted

    def _remember(self, transfer: Transfer) -> None:
        self.resolved[transfer.id] = transfer
        if len(self.resolved) > TRANSFERS_KEPT_MAX:
            del self.resolved[next(iter(self.resolved))]


def restore(
    *, accounts: list[Account], pending: list[Transfer], resolved: list[Transfer]
) -> Ledger:
    """Make a ledger from what a snapshot kept; its sums are counted anew."""
    ledger = Ledger()
    ledger.accounts = {account.id: account for account in accounts}
    ledger.pending = {transfer.id: transfer for transfer in pending}
    ledger.resolved = {transfer.id: transfer for transfer in resolved}
    ledger.debits_total = sum(a.debits_pending + a.debits_posted for a in accounts)
    ledger.credits_total = sum(a.credits_pending + a.credits_posted for a in accounts)
    ledger.issued_total = sum(a.credits_issued for a in accounts)
    return ledger


def check_ledger(ledger: Ledger) -> None:
    """Count everything anew and compare; for tests and audits.

    Raises:
        LedgerUnbalanced: an account, a hold or a running sum does not add up.
    """
    ledger.check_balanced()
    accounts = list(ledger.accounts.values())
    counted = restore(
        accounts=accounts,
        pending=list(ledger.pending.values()),
        resolved=list(ledger.resolved.values()),
    )
    for name in ("debits_total", "credits_total", "issued_total"):
        if getattr(counted, name) != getattr(ledger, name):
            raise LedgerUnbalanced(f"the running {name} is not the sum of the accounts")
    if sum(a.debits_posted for a in accounts) != sum(
        a.credits_posted for a in accounts
    ):
        raise LedgerUnbalanced("posted debits and credits differ")
    held: dict[tuple[str, str], int] = {}
    for transfer in ledger.pending.values():
        for key in (("debit", transfer.debit), ("credit", transfer.credit)):
            held[key] = held.get(key, 0) + transfer.amount
    for account in accounts:
        if account.debits_pending != held.get(("debit", account.id), 0):
            raise LedgerUnbalanced(f"{account.id}: pending debits are not its holds")
        if account.credits_pending != held.get(("credit", account.id), 0):
            raise LedgerUnbalanced(f"{account.id}: pending credits are not its holds")
        if account.id != ISSUED and account.balance < 0:
            raise LedgerUnbalanced(f"{account.id} spends what it does not have")
