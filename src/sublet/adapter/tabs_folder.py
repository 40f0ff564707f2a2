"""The port ``TabKeeper`` in a folder: one small file a channel, written whole and synced."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from sublet.adapter import private_file
from sublet.base.errors import Broken, Unavailable
from sublet.base.ids import Digest
from sublet.service.claimer import BestVoucher

_NAME = re.compile(r"\A0x[0-9a-f]{64}\Z")
_TAB_BYTES_MAX = 4_096


class FolderTabs:
    """A folder of this process alone."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; it is made, private, with the first tab."""
        self._folder = folder

    def find(self, channel_id: Digest) -> BestVoucher | None:
        """As the port says."""
        place = self._find_place(channel_id)
        try:
            with place.open("rb") as file:
                raw = file.read(_TAB_BYTES_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _fault(error) from error
        try:
            return msgspec.json.decode(raw, type=BestVoucher)
        except msgspec.MsgspecError as error:
            raise Broken(
                f"{place} is no tab; what its channel owes is not known: move it away",
                code="bad_tab",
            ) from error

    def keep(self, channel_id: Digest, tab: BestVoucher) -> None:
        """As the port says."""
        try:
            private_file.write(self._find_place(channel_id), msgspec.json.encode(tab))
        except OSError as error:
            raise _fault(error) from error

    def list_tabs(self) -> Mapping[Digest, BestVoucher]:
        """As the port says."""
        names = [place.name for place in self._folder.glob("0x*")]
        found = {name: self.find(name) for name in names if _NAME.match(name)}
        return {name: tab for name, tab in found.items() if tab is not None}

    def _find_place(self, channel_id: Digest) -> Path:
        assert _NAME.match(channel_id), "a digest is a file's name here"
        return self._folder / channel_id


def _fault(error: OSError) -> Unavailable:
    return Unavailable(
        f"a tab cannot be kept: {error.strerror}; free the disk", code="tab_not_kept"
    )
