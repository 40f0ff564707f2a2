"""The scratches of one machine, and who scrubs its GPUs: what erasure rests on.

Not here: how each of them encrypts (``adapter.scratch_*``), when data goes
(``erasure``).
"""

from collections.abc import Sequence

from msgspec import Struct

from sublet.adapter.scratch_gocryptfs import GocryptfsScratch
from sublet.adapter.scratch_tmpfs import TmpfsScratch
from sublet.adapter.vram_cuda import CudaVram
from sublet.base.errors import Refused
from sublet.core.lease.phase import Lease
from sublet.service.erasure_ports import Scratch, Vram

TMPFS_BYTES_MAX = 128 << 20  # of disk: so much can be had from memory instead
TMPFS_MEMORY_SHARE = 8  # and at most one part in so many of the lease's memory


def make_scratches() -> tuple[Scratch, ...]:
    """Give all that Sublet knows; none was tried out yet."""
    return (GocryptfsScratch(), TmpfsScratch())


def make_vram() -> Vram:
    """Give what scrubs GPUs; it was not tried out yet."""
    return CudaVram()


class ScratchReport(Struct, frozen=True):
    """What the owner is told about one of them."""

    name: str
    is_ok: bool
    reason: str


class Scratches:
    """Adapters that were tried out on this machine."""

    def __init__(
        self, adapters: Sequence[Scratch] = (), *, vram: Vram | None = None
    ) -> None:
        """Try them out; blocks for a moment each."""
        self._adapters = {adapter.name: adapter for adapter in adapters}
        self.vram = vram
        probes = {name: each.probe() for name, each in self._adapters.items()}
        self.reports = tuple(
            ScratchReport(name, probe.is_ok, probe.reason)
            for name, probe in probes.items()
        )
        if vram is not None:
            probe = vram.probe()
            self.reports += (ScratchReport("vram", probe.is_ok, probe.reason),)
        self._working = {each.name for each in self.reports if each.is_ok}

    def may_erase(self, *, has_gpus: bool) -> bool:
        """Say whether this machine can promise erasure: data of any size, and VRAM."""
        return "gocryptfs" in self._working and (
            not has_gpus or "vram" in self._working
        )

    def explain(self, *, has_gpus: bool) -> str:
        """Say why erasure is not promised; "" where it is."""
        if self.may_erase(has_gpus=has_gpus):
            return ""
        needed = {"gocryptfs", "vram"} if has_gpus else {"gocryptfs"}
        reasons = {each.name: each.reason for each in self.reports}
        return "; ".join(
            reasons.get(name, f"there is no {name} here")
            for name in sorted(needed - self._working)
        )

    def choose(self, lease: Lease) -> Scratch:
        """Give what is quickest of what this lease may have.

        Raises:
            Refused: nothing works here.
        """
        small = min(TMPFS_BYTES_MAX, lease.memory_bytes // TMPFS_MEMORY_SHARE)
        name = "tmpfs" if lease.disk_bytes <= small else "gocryptfs"
        return self.find(name if name in self._working else "gocryptfs")

    def find(self, name: str) -> Scratch:
        """Give the one of this name, even where it works no more.

        Raises:
            Refused: this machine has no such scratch.
        """
        if name not in self._adapters:
            raise Refused(
                f"this machine has no encrypted scratch {name!r}", code="no_scratch"
            )
        return self._adapters[name]
