"""The scratch port on a plain folder: for tests of those who use one."""

import shutil
from pathlib import Path, PurePath

from sublet.adapter.remains import list_remains
from sublet.base.errors import Refused
from sublet.service.erasure_ports import ScratchEnd
from sublet.service.ports import Probe


class FakeScratch:
    """Keeps nothing secret. ``hangs`` lets the key stay where it is."""

    name = "gocryptfs"
    cipher = "none"

    def __init__(self, *, hangs: bool = False) -> None:
        self.hangs = hangs
        self.keys: list[bytes] = []

    def probe(self) -> Probe:
        return Probe(True, "a fake")

    async def open(
        self, folder: PurePath, *, key: bytearray, bytes_max: int, uid: int
    ) -> None:
        place = Path(folder)
        if (place / "cipher").exists():
            raise Refused("there is one already", code="scratch_exists")
        (place / "cipher").mkdir(parents=True)
        (place / "data").mkdir(mode=0o700)
        self.keys.append(bytes(key))

    def is_open(self, folder: PurePath) -> bool:
        return (Path(folder) / "data").is_dir()

    async def close(self, folder: PurePath) -> ScratchEnd:
        place = Path(folder)
        remains, files, size = list_remains(place / "data")
        if not self.hangs:
            shutil.rmtree(place / "data", ignore_errors=True)
        return ScratchEnd(
            is_key_gone=not self.hangs,
            was_forced=self.hangs,
            note="it hangs" if self.hangs else "unmounted",
            remains=remains,
            files=files,
            bytes=size,
        )

    async def remove(self, folder: PurePath) -> None:
        for name in ("cipher", "data"):
            shutil.rmtree(Path(folder) / name, ignore_errors=True)
