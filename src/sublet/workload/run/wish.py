"""What a person asks for, as typed, and what it means. Plain values.

The command line and the Python API hand over the same texts, so both refuse the same
things in the same words. Not here: how the texts are read (``need``, ``term``), the
files (``plan``).
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from sublet.base import limits
from sublet.base.errors import Faults, Refused, SubletError
from sublet.base.ids import Address
from sublet.core.image import Reference
from sublet.core.job.state import JobLimits
from sublet.wire.message import Volume

P = ParamSpec("P")
T = TypeVar("T")


class Source(Struct, frozen=True):
    """Local files that go along."""

    path: str  # local
    name: str  # in the work folder; "" where a folder becomes the work folder
    include: tuple[str, ...] = ()  # of a folder; all of it where empty


class Wish(Struct, frozen=True, kw_only=True):
    """A job as it was asked for; every text as it was typed, None where it was not."""

    target: tuple[str, ...]  # script, folder or command, then its arguments
    is_command: bool = False  # it stood behind --
    lengthens: bool = False  # it follows the image's entrypoint
    gpu: str | None = None
    gpu_kinds: tuple[str, ...] = ()  # any of, as an order has them: "a100/80GiB/sxm"
    vram: str | None = None
    gpu_vendor: str | None = None
    gpu_interface: str | None = None
    compute_capability: str | None = None
    driver: str | None = None
    cuda: str | None = None
    gpu_share: str | None = None
    gpu_sharing: str | None = None
    cpus: str | None = None
    memory: str | None = None
    disk: str | None = None
    disk_classes: tuple[str, ...] = ()  # any of
    up: str | None = None
    down: str | None = None
    latencies: tuple[str, ...] = ()  # all of: "frankfurt=30ms"
    max_price: str | None = None
    max_total: str | None = None
    regions: tuple[str, ...] = ()
    jurisdictions: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()  # all of: "tier=datacenter"
    auditors: tuple[str, ...] = ()  # addresses, any of
    auditors_all: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()  # addresses of providers
    pricing: str | None = None
    work: str | None = None
    near: str | None = None
    data_at: tuple[str, ...] = ()
    data_price: str | None = None
    deadline: str | None = None
    sandbox: str | None = None
    image: str | None = None
    inputs: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()  # more of them, that a program chose
    outputs: tuple[str, ...] = ()
    checkpoint: str | None = None
    volumes: tuple[Volume, ...] = ()  # of an image
    retries: int | None = None
    timeout: str | None = None
    wait: str | None = None
    mode: str | None = None
    env: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    egress: tuple[str, ...] = ()
    erasure: bool = False
    name: str | None = None
    machines: int | None = None  # a gang of so many
    apart: tuple[str, ...] = ()
    together: str | None = None  # "5ms"

    def avoiding(self, providers: tuple[str, ...]) -> "Wish":
        """Give the same wish, with more providers that are not wanted."""
        return replace(self, avoid=(*self.avoid, *providers))


class Gang(Struct, frozen=True):
    """Several machines at once, as an order has them."""

    machines: int = 1
    apart: tuple[str, ...] = ()
    together_ms: int = 0


class Particulars(Struct, frozen=True, kw_only=True):
    """What else of a machine and its price: fields of an order, by their names there."""

    disk_classes: tuple[str, ...] = ()
    gpu_vendor: str = ""
    gpu_interface: str = ""
    gpu_compute: int = 0
    gpu_driver: int = 0
    cuda: int = 0
    gpu_share_milli: int = limits.GPU_SHARE_WHOLE
    gpu_sharing: str = ""
    jurisdictions: tuple[str, ...] = ()
    up_mbit_s: int = 0
    down_mbit_s: int = 0
    latencies: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    auditors_any: tuple[Address, ...] = ()
    auditors_all: tuple[Address, ...] = ()
    avoid: tuple[Address, ...] = ()  # before those with whom the job fared badly
    work: str = ""
    near: str = ""
    near_price_hour: int = 0
    data_at: tuple[Address, ...] = ()
    data_price_hour: int = 0
    pricing: str = "second_score"
    deadline_s: int = 0


class Needs(Struct, frozen=True):
    """What of a machine, for how long, for how much."""

    cpus_milli: int
    memory_bytes: int
    disk_bytes: int
    gpu_models: tuple[str, ...]  # any of; empty for any
    gpu_count: int
    gpu_memory_bytes: int
    regions: tuple[str, ...]
    price_hour_max: int  # micro-USD an hour for the whole slice
    total_max: int  # micro-USD for the whole job
    timeout_s: int
    sandbox: str = ""  # the class that it has to be; "" for any
    egress: tuple[str, ...] = ()  # destinations, as the manifest has them
    erasure: bool = False  # encrypted scratch, and a statement that it is gone
    mode: str = "instant"  # how the market is to find a lease
    mode_s: int = 0  # what it needs: window, wait, notice, or until it begins
    volume_s: int = (
        0  # standing: of the slice, in all leases of one order; 0: one lease
    )
    choose_s: int = 0  # live: for the tenant to choose a bid; 0: the best one wins
    particulars: Particulars = Particulars()
    image: Reference | None = None  # as typed: an archive's path is a local one
    gang: Gang = Gang()


class Wanted(Struct, frozen=True):
    """One output: where it lies in the work folder, where it comes to."""

    remote: str
    local: str  # "" for the same path under the current folder


class Terms(Struct, frozen=True):
    """Everything about a wish but its files."""

    needs: Needs
    limits: JobLimits
    outputs: tuple[Wanted, ...]
    checkpoint: str
    env: dict[str, str]
    secrets: dict[str, str]
    name: str
    volumes: tuple[Volume, ...] = ()


class Collector:
    """Collects the faults of one input, so that all are told at once."""

    def __init__(self) -> None:
        self.faults: list[SubletError] = []

    def take(
        self, default: T, parse: Callable[P, T], *args: P.args, **names: P.kwargs
    ) -> T:
        """Give what ``parse`` gives; where it refuses, remember that."""
        try:
            return parse(*args, **names)
        except SubletError as fault:
            self.faults.append(fault)
            return default

    def check(self) -> None:
        """Raise what was collected.

        Raises:
            Faults: there was something.
        """
        if self.faults:
            raise Faults(self.faults)


def refuse(field: str, text: str, *, code: str) -> Refused:
    """Say what is wrong with one option."""
    return Refused(f"{field}: {text}", code=code, field=field)
