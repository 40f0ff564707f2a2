"""GPUs, and parts of them, as a driver tells of them: in a process that loads the fake."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gpu_driver import FakeGpus, compile_driver

LOOK = """
import sys
from pathlib import Path

import msgspec

from sublet.adapter.nvidia import _open_driver, find_gpus, find_names

capabilities, *uuids = sys.argv[1:]
with _open_driver() as nvml:
    names = find_names(nvml, uuids, capabilities=Path(capabilities))
print(msgspec.json.encode({"gpus": find_gpus(), "names": names}).decode())
"""


@pytest.fixture
def gpus(tmp_path: Path) -> FakeGpus:
    compile_driver(tmp_path)
    return FakeGpus(tmp_path)


def look(gpus: FakeGpus, *uuids: str) -> dict[str, Any]:
    folder = str(gpus.folder)
    answer = subprocess.run(
        [sys.executable, "-c", LOOK, str(gpus.folder / "capabilities"), *uuids],
        env=os.environ | {"LD_LIBRARY_PATH": folder, "FAKE_GPUS": folder},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def allow(gpus: FakeGpus, gpu: int, instance: int, *, minors: tuple[int, int]) -> None:
    """Lay out what the driver's /proc says of one instance."""
    folder = gpus.folder / f"capabilities/gpu{gpu}/mig/gi{instance}"
    (folder / "ci0").mkdir(parents=True)
    for place, minor in zip((folder, folder / "ci0"), minors, strict=True):
        text = f"DeviceFileMinor: {minor}\nDeviceFileMode: 444\n"
        (place / "access").write_text(text)


def test_driver_tells_what_an_offer_says(gpus: FakeGpus) -> None:
    uuid = gpus.add(0)
    [gpu] = look(gpus)["gpus"]
    assert gpu["uuid"] == uuid
    assert (gpu["model"], gpu["vendor"], gpu["interface"]) == ("h100", "nvidia", "sxm")
    assert (gpu["compute"], gpu["driver"], gpu["cuda"]) == (90, 550_054_014, 12_040)
    assert gpu["instances"] == []


def test_instances_are_listed_and_opened_alone(gpus: FakeGpus) -> None:
    gpus.add(0)
    whole = gpus.add(1)
    parts = gpus.part(1, 2)
    allow(gpus, 1, 7, minors=(30, 31))
    allow(gpus, 1, 8, minors=(39, 40))
    found = look(gpus, parts[1])
    assert [gpu["instances"] for gpu in found["gpus"]] == [[], list(parts)]
    [name] = found["names"]
    assert name["names"][:2] == [parts[1], whole]
    assert name["minor"] == 1
    caps = "/dev/nvidia-caps/nvidia-cap"
    assert name["nodes"] == [f"{caps}39", f"{caps}40"]
