"""The sandboxes of one machine, best first: which of them hold, and why others do not.

Not here: how each of them isolates (``adapter.sandbox_*``), how it is tried out
(``adapter.sandbox_probe``).
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.adapter.sandbox_oci import GvisorSandbox, PodmanSandbox
from sublet.base.errors import Refused
from sublet.service.ports import Probe, Sandbox


class SandboxReport(Struct, frozen=True):
    """What the owner is told about one of them."""

    name: str
    is_ok: bool
    reason: str  # what works, or why not and what to do about it


class Sandboxes:
    """Adapters that were tried out on this machine."""

    def __init__(
        self, adapters: Sequence[Sandbox], *, probes: Mapping[str, Probe]
    ) -> None:
        """Take the adapters, best first, and what the probe of each one said."""
        self._adapters = {adapter.name: adapter for adapter in adapters}
        self.reports = tuple(
            SandboxReport(name, probes[name].is_ok, probes[name].reason)
            for name in self._adapters
        )
        self.names = tuple(each.name for each in self.reports if each.is_ok)

    def find(self, name: str) -> Sandbox:
        """Give the one that an order requires; the best one that works for "".

        One that has stopped working is given, too: its jobs have to be ended.

        Raises:
            Refused: this machine has no such sandbox.
        """
        adapter = self._adapters.get(name or next(iter(self.names), ""))
        if adapter is None:
            raise Refused(
                f"this machine has no sandbox {name or 'that works'!r}; it has: "
                f"{', '.join(self.names) or 'none'}",
                code="no_sandbox",
                field="sandbox",
            )
        return adapter

    def check(self) -> None:
        """Make sure that at least one of them holds.

        Raises:
            Refused: none does; says why of each.
        """
        if not self.names:
            said = "; ".join(f"{each.name}: {each.reason}" for each in self.reports)
            raise Refused(
                f"no sandbox works here ({said}). Without one strangers' programs "
                "would run unprotected, so nothing is offered",
                code="no_sandbox",
            )


def make_adapters() -> tuple[Sandbox, ...]:
    """Give all that Sublet knows, best first; none was tried out yet."""
    return (BubblewrapSandbox(), PodmanSandbox(), GvisorSandbox())


def try_out(adapters: Iterable[Sandbox], *, gpu_uuids: Sequence[str]) -> Sandboxes:
    """Try each of them for real, all at once; blocks for a second or two.

    What is offered runs in each sandbox that is offered with it: one that reaches no
    GPU is not, where the machine offers GPUs (``gpu_uuids``).
    """
    chosen = tuple(adapters)

    def probe(adapter: Sandbox) -> Probe:
        if gpu_uuids and not adapter.has_gpu:
            return Probe(False, "it reaches no GPU, and this machine offers them")
        return adapter.probe(gpu_uuids=gpu_uuids)

    with ThreadPoolExecutor(max_workers=max(1, len(chosen))) as pool:
        said = pool.map(probe, chosen)
        probes = dict(zip((adapter.name for adapter in chosen), said, strict=True))
    return Sandboxes(chosen, probes=probes)
