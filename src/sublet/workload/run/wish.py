"""What a person asks for, as typed, and what it means. Plain values.

The command line and the Python API hand over the same texts, so both refuse the same
things in the same words. Not here: how the texts are read (``need``, ``term``), the
files (``plan``).
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from msgspec import Struct

from sublet.base.errors import Faults, Refused, SubletError
from sublet.core.image import Reference
from sublet.core.job.state import JobLimits

P = ParamSpec("P")
T = TypeVar("T")


class Wish(Struct, frozen=True, kw_only=True):
    """A job as it was asked for; every text as it was typed, None where it was not."""

    target: tuple[str, ...]  # script, folder or command, then its arguments
    is_command: bool = False  # it stood behind --
    gpu: str | None = None
    gpu_kinds: tuple[str, ...] = ()  # any of, as an order has them: "a100/80GiB/sxm"
    attributes: tuple[str, ...] = ()  # all of: "tier=datacenter"
    vram: str | None = None
    cpus: str | None = None
    memory: str | None = None
    disk: str | None = None
    max_price: str | None = None
    max_total: str | None = None
    regions: tuple[str, ...] = ()
    sandbox: str | None = None
    image: str | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    checkpoint: str | None = None
    retries: int | None = None
    timeout: str | None = None
    wait: str | None = None
    mode: str | None = None
    env: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    egress: tuple[str, ...] = ()
    erasure: bool = False
    name: str | None = None


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
    attributes: tuple[str, ...] = ()  # that the owner has to say of it
    image: Reference | None = None  # as typed: an archive's path is a local one


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
