"""What a machine tells, read from folders that look like one."""

import os
import struct
import time
from pathlib import Path

import pytest

from sublet.adapter import owner_senses
from sublet.adapter.nvidia import GpuState
from sublet.adapter.owner_senses import OwnerSenses
from sublet.core.owner.rules import Rules, Sensed

IDLE = Rules(idle_s=1)


class Clock:
    """Stands for time.monotonic."""

    now_s = 1_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(owner_senses.time, "monotonic", lambda: made.now_s)
    return made


def look(senses: OwnerSenses, **changes: object) -> Sensed:
    given = {"now_s": int(time.time()), "jobs_cpu_ms": {}, "free_gpus": ()}
    return senses.look(**(given | changes))  # type: ignore[arg-type]  # a short way


def test_a_key_is_heard(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "dev/input"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "event3")  # as an input device: bytes come, or none do
    (folder / "mice").write_text("not an event device")
    senses = OwnerSenses(IDLE, root=tmp_path)
    assert look(senses).idle_s == 0
    clock.now_s += 500
    assert look(senses).idle_s == 500
    keyboard = os.open(folder / "event3", os.O_WRONLY)
    os.write(keyboard, bytes(24))
    assert look(senses).idle_s == 0
    clock.now_s += 7
    assert look(senses).idle_s == 7
    os.close(keyboard)
    senses.close()


def test_a_device_that_is_plugged_in_counts(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "dev/input").mkdir(parents=True)
    senses = OwnerSenses(IDLE, root=tmp_path)
    assert look(senses).idle_s is None  # nothing would tell
    clock.now_s += 50
    (tmp_path / "dev/input/event0").write_bytes(b"x")
    assert look(senses).idle_s == 0
    senses.close()
    senses.close()


def test_a_terminal_that_is_typed_at(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "dev/pts").mkdir(parents=True)
    (tmp_path / "var/run").mkdir(parents=True)
    for name in ("0", "1"):
        (tmp_path / "dev/pts" / name).touch()
    now_s = int(time.time())
    os.utime(tmp_path / "dev/pts/0", (now_s - 40, now_s))
    os.utime(tmp_path / "dev/pts/1", (now_s - 2, now_s))  # nobody is logged in there
    users = [(7, b"pts/0"), (8, b"pts/1"), (7, b"pts/9"), (7, b"../../etc/passwd")]
    records = [struct.pack("<hxxi32s", kind, 1, line) for kind, line in users]
    raw = b"".join(record.ljust(384, b"\0") for record in records) + b"rest"
    (tmp_path / "var/run/utmp").write_bytes(raw)
    senses = OwnerSenses(IDLE, root=tmp_path)
    clock.now_s += 500
    assert look(senses, now_s=now_s).idle_s == 40


def test_load_is_that_of_others(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "proc").mkdir()
    stat = tmp_path / "proc/stat"
    tick = os.sysconf("SC_CLK_TCK")
    senses = OwnerSenses(Rules(load_milli=1), root=tmp_path)
    assert look(senses).load_milli is None  # no such file
    stat.write_text(f"cpu {100 * tick} 0 0 {900 * tick} 0 0 0 0 0 0\n")
    assert look(senses, jobs_cpu_ms={"a": 1_000}).load_milli == 0  # nothing to compare
    clock.now_s += 10
    stat.write_text(f"cpu {120 * tick} 0 {5 * tick} {900 * tick} 99 0 0 0 0 0\n")
    # 25 CPU seconds in ten: 20 of the jobs, 5 of others. Job b is new: all of it counts.
    seen = look(senses, jobs_cpu_ms={"a": 11_000, "b": 10_000})
    assert seen.load_milli == 500


def test_the_hottest_sensor_counts(tmp_path: Path) -> None:
    senses = OwnerSenses(Rules(temperature_c=1), root=tmp_path)
    assert look(senses).temperature_c is None
    for path, text in (
        ("class/thermal/thermal_zone0/temp", "45000\n"),
        ("class/hwmon/hwmon1/temp2_input", "71999"),
        ("class/hwmon/hwmon1/temp3_input", "broken"),
    ):
        place = tmp_path / "sys" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    assert look(senses).temperature_c == 71


def test_power_of_packages_and_gpus(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = (GpuState("GPU-0", 66, 200, 3), GpuState("GPU-1", 60, 100, 1))
    monkeypatch.setattr(owner_senses, "read_gpu_states", lambda: gpus)
    folder = tmp_path / "sys/class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    (folder / "energy_uj").write_text("1000000")
    senses = OwnerSenses(Rules(power_w=1, gpu_alone=True), root=tmp_path)
    first = look(senses, free_gpus=("GPU-1",))
    assert (first.power_w, first.gpu_strangers, first.gpu_temperature_c) == (300, 1, 66)
    clock.now_s += 2
    (folder / "energy_uj").write_text("181000000")
    assert look(senses).power_w == 390
    clock.now_s += 2
    (folder / "energy_uj").write_text("5")  # it has begun anew
    assert look(senses).power_w == 300


def test_no_sense_where_there_is_none(tmp_path: Path) -> None:
    senses = OwnerSenses(Rules(power_w=1, gpu_alone=True), root=tmp_path)
    seen = look(senses)
    assert (seen.power_w, seen.temperature_c) == (None, None)
