"""The tenant's home: private, whole or absent, one writer at a time."""

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from sublet.adapter.home_folder import DEFAULT_MARKET, Home
from sublet.base.errors import Broken, Refused
from sublet.core.job.bill import ChannelRecord
from sublet.core.job.record import JobRecord
from sublet.core.job.state import Attempt, Job
from tests.fakes.world import World

CHANNEL = "0x" + "cc" * 32
LEASE = "0x" + "1" * 64


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def record(number: int, **values: Any) -> JobRecord:
    attempt = Attempt(
        lease_id=LEASE[:-1] + str(number),
        provider="0x" + "2" * 40,
        machine="box",
        price_hour=1,
        hold=1,
        duration_s=1,
        granted_at_ms=1,
        since_ms=1,
    )
    made = JobRecord(
        id=f"abc{number:09}",
        name="",
        command="true",
        market="http://x",
        tenant="0x" + "3" * 40,
        created_at_ms=number,
        pid=1,
        job=Job(attempts=(attempt,)),
    )
    return structs.replace(made, **values)


def test_missing_settings_are_the_defaults(home: Home) -> None:
    assert home.read_config().market == DEFAULT_MARKET


SETTINGS = [
    ("market = 'http://x'\n", None),
    ("market = 3\n", "bad_config"),
    ("market = \n", "bad_config"),
    ("markt = 'http://x'\n", "unknown_setting"),
]


@pytest.mark.parametrize(("text", "code"), SETTINGS)
def test_settings_are_read_strictly(home: Home, text: str, code: str | None) -> None:
    home.path.mkdir()
    (home.path / "config.toml").write_text(text)
    if code is None:
        assert home.read_config().market == "http://x"
        return
    with pytest.raises(Refused) as caught:
        home.read_config()
    assert caught.value.code == code


def test_market_is_pinned_per_address(home: Home) -> None:
    market = World().market
    home.pin_market("http://a", market)
    assert home.find_market("http://a") == market
    assert home.find_market("http://b") is None


def test_everything_is_private(home: Home) -> None:
    home.write_job(record(1))
    home.update_channel(CHANNEL, lambda old: (structs.replace(old, last=1), None))
    for place in home.path.rglob("*"):
        mode = stat.S_IMODE(place.stat().st_mode)
        assert mode & 0o077 == 0, place


def test_channel_is_remembered_and_shared(home: Home) -> None:
    def add(old: ChannelRecord) -> tuple[ChannelRecord, int]:
        return structs.replace(old, last=old.last + 1), old.last + 1

    def work() -> None:
        for _ in range(20):
            Home(home.path).update_channel(CHANNEL, add)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert home.update_channel(CHANNEL, add) == 81


def test_refused_change_leaves_the_record(home: Home) -> None:
    home.update_channel(CHANNEL, lambda old: (structs.replace(old, last=5), None))

    def fail(old: ChannelRecord) -> tuple[ChannelRecord, None]:
        raise Refused("no")

    with pytest.raises(Refused):
        home.update_channel(CHANNEL, fail)
    assert home.update_channel(CHANNEL, lambda old: (old, old.last)) == 5


def test_damaged_channel_stops_everything(home: Home) -> None:
    home.update_channel(CHANNEL, lambda old: (structs.replace(old, last=5), None))
    [place] = (home.path / "channels").glob("*.json")
    place.write_bytes(b'{"last":')
    with pytest.raises(Broken):
        home.update_channel(CHANNEL, lambda old: (old, None))


def test_job_is_found_by_many_names(home: Home) -> None:
    for number in (1, 2, 3):
        home.write_job(record(number, name="same" if number > 1 else "one"))
    assert home.get_job("abc000000001").created_at_ms == 1
    assert home.get_job("one").created_at_ms == 1
    assert home.get_job("same").created_at_ms == 3  # the newest
    assert home.get_job(LEASE[:-1] + "2").created_at_ms == 2
    assert [job.created_at_ms for job in home.read_jobs()] == [3, 2, 1]


@pytest.mark.parametrize(
    ("name", "code"),
    [("abc", "ambiguous_job"), ("nothing", "unknown_job"), ("", "unknown_job")],
)
def test_wrong_name_is_refused(home: Home, name: str, code: str) -> None:
    for number in (1, 2):
        home.write_job(record(number))
    with pytest.raises(Refused) as caught:
        home.get_job(name)
    assert caught.value.code == code


def test_word_to_stop_is_left(home: Home) -> None:
    assert not home.is_stop_asked("abc000000001")
    home.ask_stop("abc000000001")
    assert home.is_stop_asked("abc000000001")


def test_oldest_jobs_are_forgotten(home: Home) -> None:
    for number in range(1, 7):
        home.write_job(record(number))
        folder = home.job_folder(f"abc{number:09}")
        os.utime(folder, ns=(number, number))
    nameless = home.job_folder("abc000000099")  # it never came to a record
    os.utime(nameless, ns=(0, 0))
    home.drop_old_jobs(lambda job: job.created_at_ms != 2, jobs_max=3)
    left = sorted(job.created_at_ms for job in home.read_jobs())
    assert left == [2, 4, 5, 6]  # the second goes on
    assert not nameless.exists()
    home.drop_old_jobs(lambda _: True, jobs_max=4)
    assert len(home.read_jobs()) == 4


def test_home_without_jobs_forgets_nothing(home: Home) -> None:
    home.drop_old_jobs(lambda _: True)
    assert home.read_jobs() == []
