"""What scrubs GPUs: one suite for NVIDIA's driver and for a fake of its ABI."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sublet.adapter import vram_program
from sublet.adapter.nvidia import find_gpus
from sublet.adapter.vram_cuda import CudaVram
from sublet.base import limits
from sublet.base.errors import Unavailable
from sublet.provider.scratches import Scratches
from sublet.service.erasure_ports import VramReport
from tests.fakes.gpu_driver import (
    MEMORY_BYTES,
    RESERVED_BYTES,
    FakeGpus,
    compile_driver,
)
from tests.fakes.scratch_fake import FakeScratch

WORD = 0x5AB1E7A5
# A tenant that leaves words in half of the memory, and one that looks for them.
TENANT = """
import sys
from sublet.adapter.cuda_driver import CudaDriver
verb, uuid, word = sys.argv[1], sys.argv[2], int(sys.argv[3])
with CudaDriver().open(uuid) as gpu:
    size = gpu.measure()[0] // 2 & ~0xFFF
    address = gpu.allocate(size)
    if verb == "leave":
        gpu.fill(address, word=word, size=size)
        gpu.wait_done()
    places = range(0, size - 4096, max(4096, size // 256 & ~0xFFF))
    read = b"".join(gpu.read(address + place, 4096) for place in places)
    print(read.count(word.to_bytes(4, "little")))
"""


def be_tenant(verb: str, uuid: str) -> int:
    """Be a tenant of the GPU; give how many words of before it sees in a sample."""
    command = [sys.executable, "-c", TENANT, verb, uuid, str(WORD)]
    said = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=120
    )
    return int(said.stdout)


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def gpus(driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpus:
    """Let every process that starts from here see the fake's GPUs."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
    monkeypatch.setenv("FAKE_GPUS", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return FakeGpus(tmp_path)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.gpu)])
def uuid(request: pytest.FixtureRequest) -> str:
    """Give a GPU that nobody is on."""
    if request.param == "fake":
        fake: FakeGpus = request.getfixturevalue("gpus")
        return fake.add(0)
    return find_gpus()[0].uuid


async def scrub(*uuids: str, gone_s: float = 30) -> tuple[VramReport, ...]:
    return await CudaVram(timeout_s=120, gone_s=gone_s).scrub(uuids)


# ---- what every driver must do ----------------------------------------------------


async def test_probe_finds_the_driver(uuid: str) -> None:
    probe = CudaVram().probe()
    assert probe.is_ok, probe.reason


async def test_nothing_of_a_tenant_is_left(uuid: str) -> None:
    assert be_tenant("leave", uuid) > 1_000
    (report,) = await scrub(uuid)
    assert report.is_ok, report
    assert be_tenant("look", uuid) == 0


async def test_says_how_much_was_overwritten(uuid: str) -> None:
    (report,) = await scrub(uuid)
    assert report.uuid == uuid
    assert report.processes_left == 0
    assert report.bytes_overwritten <= report.bytes_total
    covered_ppm = report.bytes_overwritten * 1_000_000 // report.bytes_total
    assert covered_ppm >= limits.VRAM_COVERED_MIN_PPM
    pieces = report.bytes_sampled // vram_program.PIECE_BYTES
    assert pieces > vram_program.PIECES
    assert f"{covered_ppm / 10_000:.2f} %" in report.note


async def test_gpu_that_is_not_there(uuid: str) -> None:
    other = "GPU-ffffffff-0000-4000-8000-000000000000"
    found, missing = await scrub(uuid, other)
    assert found.is_ok
    assert not missing.is_ok
    assert missing.bytes_overwritten == 0
    assert "does not show it" in missing.note


# ---- what only a fake does on request ---------------------------------------------


async def test_overwrites_all_but_the_reserve(gpus: FakeGpus) -> None:
    (report,) = await scrub(gpus.add(0))
    assert report.bytes_overwritten == MEMORY_BYTES - RESERVED_BYTES
    left = gpus.memory(0).read_bytes()
    assert left[RESERVED_BYTES:].count(0) == MEMORY_BYTES - RESERVED_BYTES
    assert left[:RESERVED_BYTES].count(0xA5) == RESERVED_BYTES  # and says no more


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("short", "90 % are required"),
        ("stale", "not there"),
        ("tail", "not there"),
        ("twice", "not there"),
        ("unzeroed", "not there"),
        ("ecc", "CUDA_ERROR_ECC_UNCORRECTABLE (214)"),
        ("context", "cuDevicePrimaryCtxRetain failed: CUDA_ERROR_OUT_OF_MEMORY"),
        ("init", "cuInit failed: CUDA_ERROR_UNKNOWN (999)"),
        ("mig", "cuInit failed: CUDA_ERROR_NO_DEVICE (100)"),
        ("crash", "said nothing"),
        ("intruder", "1 programs are on it"),
    ],
)
async def test_claims_nothing_where_it_fails(
    gpus: FakeGpus, fault: str, word: str
) -> None:
    good, bad = gpus.add(0), gpus.add(1, fault=fault)
    reports = await scrub(good, bad, gone_s=0)
    assert [report.is_ok for report in reports] == [True, False]
    assert word in reports[1].note


async def test_hang_ends_a_process_and_holds_nobody(gpus: FakeGpus) -> None:
    uuid = gpus.add(0, fault="hang")
    (report,) = await CudaVram(timeout_s=3).scrub([uuid])
    assert not report.is_ok
    assert "hangs" in report.note
    assert not _find_programs()


def _find_programs() -> list[Path]:
    """Find programs of ours that still hold a GPU."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            command = (path.parent / "cmdline").read_bytes()
            parent = (path.parent / "stat").read_text().rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            continue
        if b"vram_program" in command and int(parent) == os.getpid():
            found.append(path.parent)
    return found


async def test_leaves_a_gpu_alone_that_somebody_is_on(gpus: FakeGpus) -> None:
    uuid = gpus.add(0)
    gpus.occupy(0)
    (report,) = await scrub(uuid, gone_s=0)
    assert not report.is_ok
    assert report.processes_left == 1
    assert gpus.memory(0).read_bytes().count(0xA5) == MEMORY_BYTES


async def test_waits_for_who_was_killed(gpus: FakeGpus) -> None:
    uuid = gpus.add(0)
    program = gpus.occupy(0)
    scrubbing = asyncio.create_task(scrub(uuid, gone_s=90))
    await asyncio.sleep(0.2)
    program.unlink()
    (report,) = await scrubbing
    assert report.is_ok


async def test_no_driver_is_no_answer(gpus: FakeGpus) -> None:
    with pytest.raises(Unavailable, match="no NVIDIA driver answers"):
        await scrub(gpus.uuid(0))


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("no driver", "no NVIDIA driver answers"),
        ("screens", "a program shows graphics on GPU-0"),
        ("mig", "switch MIG off"),
        ("init", "cuInit failed"),
    ],
)
def test_probe_says_why_not(gpus: FakeGpus, kind: str, word: str) -> None:
    if kind != "no driver":
        gpus.add(0)
        gpus.add(1, fault=kind)
        gpus.occupy(0, kind=kind)
    probe = CudaVram().probe()
    assert not probe.is_ok
    assert word in probe.reason
    rooms = Scratches([FakeScratch()], vram=CudaVram())
    assert not rooms.may_erase(has_gpus=True)
    assert rooms.explain(has_gpus=True) == probe.reason
    assert rooms.may_erase(has_gpus=False)
    assert rooms.explain(has_gpus=False) == ""


def test_offers_erasure_where_all_answer(gpus: FakeGpus) -> None:
    gpus.add(0)
    rooms = Scratches([FakeScratch()], vram=CudaVram())
    assert rooms.may_erase(has_gpus=True)
    assert rooms.explain(has_gpus=True) == ""
    bare = Scratches([FakeScratch()])
    assert not bare.may_erase(has_gpus=True)
    assert bare.explain(has_gpus=True) == "there is no vram here"
