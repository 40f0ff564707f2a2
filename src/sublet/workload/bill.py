"""What jobs cost: the home's memory, and the market's word where that is final."""

from collections.abc import Sequence

from msgspec import Struct

from sublet.base.errors import SubletError
from sublet.base.ids import Address, Digest
from sublet.core.egress import EgressTable
from sublet.core.job.record import JobRecord
from sublet.core.lease.phase import Lease, Phase
from sublet.workload.client import AsyncClient


class BillLine(Struct, frozen=True):
    """One attempt of one job. Money in micro-USD."""

    job_id: str
    lease_id: Digest
    provider: Address
    machine: str
    ran_ms: int
    price_hour: int
    paid: int
    is_final: bool  # settled by the book; else as far as vouchers were signed
    outcome: str
    egress: EgressTable | None = None  # whom it reached; None: it had no network


async def find_bill(
    client: AsyncClient, records: Sequence[JobRecord]
) -> list[BillLine]:
    """List what each attempt cost; without the market, what was signed for."""
    leases: dict[Digest, Lease] = {}
    if any(attempt.paid < 0 for one in records for attempt in one.job.attempts):
        try:
            leases = {lease.id: lease for lease in await client.leases(is_all=True)}
        except SubletError:
            leases = {}  # the home's own memory has to do
    lines = []
    for record in records:
        for attempt in record.job.attempts:
            lease = leases.get(attempt.lease_id)
            is_final = attempt.paid >= 0
            paid = attempt.paid if is_final else attempt.authorized
            if lease is not None and lease.phase is Phase.SETTLED:
                is_final, paid = True, lease.paid
            lines.append(
                BillLine(
                    job_id=record.id,
                    lease_id=attempt.lease_id,
                    provider=attempt.provider,
                    machine=attempt.machine,
                    ran_ms=attempt.ran_ms,
                    price_hour=attempt.price_hour,
                    paid=paid,
                    is_final=is_final,
                    outcome=attempt.outcome or "running",
                    egress=attempt.egress,
                )
            )
    return lines
