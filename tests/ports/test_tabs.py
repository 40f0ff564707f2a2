"""What every keeper of tabs must do: one suite for the fake and the real one."""

from pathlib import Path

import msgspec
import pytest

from sublet.adapter.tabs_folder import FolderTabs
from sublet.base.errors import Broken, Unavailable
from sublet.core.document import Channel
from sublet.service.claimer import BestVoucher
from sublet.service.tab_port import TabKeeper
from tests.fakes.tabs_memory import MemoryTabs

ID, OTHER = "0x" + "a1" * 32, "0x" + "b2" * 32
CHANNEL = Channel(
    payer="0x" + "01" * 20,
    payer_authorizer="0x" + "02" * 20,
    receiver="0x" + "03" * 20,
    receiver_authorizer="0x" + "03" * 20,
    token="0x" + "04" * 20,
    withdraw_delay=900,
    salt="0x" + "00" * 32,
)
TAB = BestVoucher(CHANNEL, 5, b"\x01" * 65)


@pytest.fixture(params=["fake", "folder"])
def tabs(request: pytest.FixtureRequest, tmp_path: Path) -> TabKeeper:
    return MemoryTabs() if request.param == "fake" else FolderTabs(tmp_path / "tabs")


def test_knows_nothing_at_first(tabs: TabKeeper) -> None:
    assert tabs.find(ID) is None
    assert tabs.list_tabs() == {}


def test_keeps_the_last_one_of_each_channel(tabs: TabKeeper) -> None:
    later = msgspec.structs.replace(TAB, amount=9)
    tabs.keep(ID, TAB)
    tabs.keep(OTHER, TAB)
    tabs.keep(ID, later)
    assert tabs.find(ID) == later
    assert tabs.list_tabs() == {ID: later, OTHER: TAB}


def test_survives_its_process(tmp_path: Path) -> None:
    FolderTabs(tmp_path).keep(ID, TAB)
    (tmp_path / "notes.txt").write_text("of somebody else")
    assert FolderTabs(tmp_path).list_tabs() == {ID: TAB}
    assert (tmp_path / ID).stat().st_mode & 0o777 == 0o600


def test_a_broken_tab_is_no_empty_one(tmp_path: Path) -> None:
    (tmp_path / ID).write_bytes(b'{"amount":')
    with pytest.raises(Broken):
        FolderTabs(tmp_path).find(ID)


def test_says_when_it_cannot_keep(tmp_path: Path) -> None:
    place = tmp_path / "tabs"
    place.write_text("a file where the folder would be")
    with pytest.raises(Unavailable) as caught:
        FolderTabs(place).keep(ID, TAB)
    assert caught.value.code == "tab_not_kept"
