"""The machine's clock: whole seconds that are now, and durations that only grow."""

import time

from sublet.adapter.clock_system import SystemClock


def test_now_is_the_machines_time() -> None:
    before = int(time.time())
    now_s = SystemClock().now_s()
    assert isinstance(now_s, int)
    assert before <= now_s <= int(time.time())


def test_monotonic_milliseconds_do_not_go_back() -> None:
    clock = SystemClock()
    before_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    readings = [clock.monotonic_ms() for _ in range(100)]
    assert readings == sorted(readings)
    assert (
        before_ms
        <= readings[0]
        <= readings[-1]
        <= time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    )


def test_setting_the_wall_clock_moves_nothing() -> None:
    wall_s = 1_000
    clock = SystemClock(lambda: wall_s * 1_000_000_000)
    wall_s += 7_200
    assert 1_000 <= clock.now_s() < 1_060
    wall_s -= 14_400
    assert 1_000 <= clock.now_s() < 1_060
    wall_s = 5_000
    clock.set_anew()
    assert 5_000 <= clock.now_s() < 5_060
