"""Who runs a job, and what it is: ready to go. Plain values."""

from msgspec import Struct

from sublet.adapter.home_folder import Home
from sublet.base.ids import Address
from sublet.sdk.connection import Connection
from sublet.service.ports import Blobs, Clock
from sublet.wire.message import Signed, Tree
from sublet.workload.run.plan import Program
from sublet.workload.run.wish import Terms


class Tenant(Struct, frozen=True):
    """Who runs jobs: a home, an identity in a market, a clock."""

    home: Home
    connection: Connection
    clock: Clock


class Mandate(Struct, frozen=True):
    """In whose name a job is run that its tenant has handed over."""

    tenant: Address
    channels: dict[Address, Signed]  # by provider; the tenant signed them


class Work(Struct, frozen=True):
    """What is to be run."""

    id: str
    program: Program
    terms: Terms
    inputs: Tree
    blobs: Blobs
    mandate: Mandate | None = None
