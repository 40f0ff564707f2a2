"""Which sandbox a lease runs in, and what the owner hears of those that do not hold."""

from collections.abc import Sequence

import pytest

from sublet.adapter.nvidia import GpuFiles
from sublet.adapter.sandbox_bubblewrap import BubblewrapSandbox
from sublet.base.errors import Refused
from sublet.provider.sandboxes import Sandboxes, make_adapters, try_out
from sublet.service.ports import Probe
from tests.fakes.sandbox_fake import FakeSandbox


class _Named(FakeSandbox):
    def __init__(self, name: str, *, is_ok: bool) -> None:
        super().__init__()
        self.name = name
        self._is_ok = is_ok

    def probe(self, *, gpu_uuids: Sequence[str] = ()) -> Probe:
        return Probe(is_ok=self._is_ok, reason=f"{self.name} was tried")


def _try(**found: bool) -> Sandboxes:
    adapters = [_Named(name, is_ok=is_ok) for name, is_ok in found.items()]
    return try_out(adapters, gpu_uuids=())


def test_offers_those_that_hold_best_first() -> None:
    sandboxes = _try(first=False, second=True, third=True)
    assert sandboxes.names == ("second", "third")
    assert [each.reason for each in sandboxes.reports] == [
        "first was tried",
        "second was tried",
        "third was tried",
    ]
    sandboxes.check()


@pytest.mark.parametrize(
    ("asked", "given"), [("", "second"), ("third", "third"), ("first", "first")]
)
def test_gives_what_is_asked_for(asked: str, given: str) -> None:
    assert _try(first=False, second=True, third=True).find(asked).name == given


def test_refuses_what_is_not_there() -> None:
    with pytest.raises(Refused, match="it has: first") as error:
        _try(first=True).find("gvisor")
    assert error.value.code == "no_sandbox"


def test_serves_nobody_without_any() -> None:
    with pytest.raises(Refused, match="first: first was tried; second: ") as error:
        _try(first=False, second=False).check()
    assert error.value.code == "no_sandbox"


def test_knows_three_and_prefers_bubblewrap() -> None:
    names = [adapter.name for adapter in make_adapters()]
    assert names == ["bubblewrap", "podman", "gvisor"]


def test_offers_gpus_only_where_they_are_reached() -> None:
    blind, seeing = _Named("blind", is_ok=True), _Named("seeing", is_ok=True)
    blind.has_gpu = False
    assert try_out([blind, seeing], gpu_uuids=("GPU-1",)).names == ("seeing",)
    assert try_out([blind, seeing], gpu_uuids=()).names == ("blind", "seeing")


def test_offers_no_gpus_that_no_job_would_reach() -> None:
    def find(uuids: Sequence[str]) -> GpuFiles:
        assert uuids == ("GPU-1",)
        raise Refused("a CDI file is odd", code="bad_cdi")

    tried = try_out([BubblewrapSandbox(find_gpu_files=find)], gpu_uuids=("GPU-1",))
    with pytest.raises(Refused, match="reach the GPUs: a CDI file is odd"):
        tried.check()
