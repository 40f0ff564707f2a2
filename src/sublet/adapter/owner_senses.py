"""What a machine tells about its owner and itself: is somebody there, is it hot?

Idle: input devices are read (every key and every movement of a mouse is a few bytes)
and the terminals of people who are logged in are looked at. What was before this
process began nobody knows, so time at rest counts from then on.

Files are those of Linux; a test gives folders of its own.
"""

import os
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sublet.adapter.nvidia import GpuState, read_gpu_states
from sublet.base.errors import Unavailable
from sublet.core.owner.rules import Rules, Sensed

_READ_BYTES = 65_536
_UTMP_BYTES = 384  # of one record
_USER_PROCESS = 7  # somebody is logged in there
_MICROJOULES = 1_000_000
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class OwnerSenses:
    """Looks at one machine; each look compares with the one before."""

    def __init__(self, rules: Rules, *, root: Path = Path("/")) -> None:
        """Take the rules (what none of them asks for is not looked at) and a root."""
        self._rules = rules
        self._root = root
        self._devices: dict[str, int] = {}  # open input devices, by path
        self._touched_s = time.monotonic()
        self._has_input = False
        self._busy: tuple[float, float] | None = None  # at, CPU seconds of others
        self._jobs_cpu_ms: dict[str, int] = {}
        self._energy: tuple[float, int] | None = None  # at, microjoules

    def close(self) -> None:
        """Let go of the input devices."""
        for handle in self._devices.values():
            os.close(handle)
        self._devices.clear()

    def look(
        self, *, now_s: int, jobs_cpu_ms: Mapping[str, int], free_gpus: Sequence[str]
    ) -> Sensed:
        """Look at what the rules ask for. Blocks for some milliseconds.

        Args:
            now_s: since the epoch.
            jobs_cpu_ms: what each running job has used so far; not counted as load.
            free_gpus: UUIDs of offered GPUs that no lease has.
        """
        rules, gpus = self._rules, None
        if rules.gpu_alone or rules.gpu_temperature_c or rules.power_w:
            with suppress(Unavailable):
                gpus = read_gpu_states()
        strangers = None
        if gpus is not None:
            strangers = sum(gpu.programs for gpu in gpus if gpu.uuid in free_gpus)
        hot = max((gpu.temperature_c for gpu in gpus or ()), default=None)
        return Sensed(
            now_s=now_s,
            idle_s=self._find_idle_s(now_s) if rules.idle_s else None,
            load_milli=self._find_load(jobs_cpu_ms) if rules.load_milli else None,
            gpu_strangers=strangers,
            temperature_c=self._find_temperature() if rules.temperature_c else None,
            gpu_temperature_c=hot,
            power_w=self._find_power(gpus or ()) if rules.power_w else None,
        )

    # ---- somebody is there --------------------------------------------------------

    def _find_idle_s(self, now_s: int) -> int | None:
        """Seconds since somebody touched it; None where nothing would tell."""
        self._open_devices()
        if sum(self._drain(path) for path in list(self._devices)):  # all are drained
            self._touched_s = time.monotonic()
        idle_s = int(time.monotonic() - self._touched_s)
        terminals = [now_s - at_s for at_s in self._find_terminals()]
        if not self._devices and not terminals:
            return None
        return int(max(0, min([idle_s, *terminals])))

    def _open_devices(self) -> None:
        folder = self._root / self._rules.input.lstrip("/")
        with suppress(OSError):
            for name in os.listdir(folder):  # noqa: PTH208 - names are all it takes
                path = str(folder / name)
                if name.startswith("event") and path not in self._devices:
                    with suppress(OSError):
                        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                        self._devices[path] = os.open(path, flags)

    def _drain(self, path: str) -> bool:
        """Read what a device has said since the last look; say whether it was much."""
        try:
            return bool(os.read(self._devices[path], _READ_BYTES))
        except BlockingIOError:
            return False
        except OSError:  # unplugged
            os.close(self._devices.pop(path))
            return True

    def _find_terminals(self) -> Iterable[float]:
        """Give when each terminal of somebody who is logged in was last typed at."""
        with suppress(OSError):
            raw = (self._root / "var/run/utmp").read_bytes()
            for start in range(0, len(raw) - _UTMP_BYTES + 1, _UTMP_BYTES):
                kind, _, line = struct.unpack_from("<hxxi32s", raw, start)
                name = line.partition(b"\0")[0].decode("ascii", "replace")
                if kind == _USER_PROCESS and name and ".." not in name:
                    with suppress(OSError):
                        yield (self._root / "dev" / name).stat().st_atime

    # ---- the machine is busy, or hot -----------------------------------------------

    def _find_load(self, jobs_cpu_ms: Mapping[str, int]) -> int | None:
        """CPUs that others have used since the last look, in thousandths."""
        before, self._jobs_cpu_ms = self._jobs_cpu_ms, dict(jobs_cpu_ms)
        jobs_s = sum(
            max(0, cpu_ms - before.get(name, 0)) for name, cpu_ms in jobs_cpu_ms.items()
        )
        try:
            first = (self._root / "proc/stat").read_text().splitlines()[0].split()
            ticks = [int(word) for word in first[1:9]]
        except (OSError, ValueError, IndexError):
            return None
        used_s = (sum(ticks) - ticks[3] - ticks[4]) / _TICKS_PER_S  # idle, waiting
        last, self._busy = self._busy, (time.monotonic(), used_s)
        if last is None or self._busy[0] <= last[0]:
            return 0
        others_s = used_s - last[1] - jobs_s / 1_000
        return max(0, round(others_s * 1_000 / (self._busy[0] - last[0])))

    def _find_temperature(self) -> int | None:
        """Degrees of the hottest sensor."""
        found = []
        for pattern in (
            "class/thermal/thermal_zone*/temp",
            "class/hwmon/*/temp*_input",
        ):
            for path in (self._root / "sys").glob(pattern):
                with suppress(OSError, ValueError):
                    found.append(int(path.read_text()) // 1_000)
        return max(found, default=None)

    def _find_power(self, gpus: Sequence[GpuState]) -> int | None:
        """Watts of the CPU packages since the last look, and of the GPUs now."""
        found = []
        for path in (self._root / "sys/class/powercap").glob("*-rapl:?/energy_uj"):
            with suppress(OSError, ValueError):
                found.append(int(path.read_text()))
        last = self._energy
        self._energy = (time.monotonic(), sum(found)) if found else None
        watts = sum(gpu.power_w for gpu in gpus)
        if self._energy is None or last is None:
            return watts if gpus or found else None
        passed_s = max(self._energy[0] - last[0], 0.001)
        spent = max(0, self._energy[1] - last[1])  # the counter begins anew at times
        return watts + round(spent / _MICROJOULES / passed_s)
