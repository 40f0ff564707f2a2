"""Tries a scratch out on this machine: written, read, closed, searched."""

import asyncio
import os
import secrets
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sublet.base.errors import SubletError
from sublet.service.erasure_ports import Scratch
from sublet.service.ports import Probe

_SIZE = 1 << 20


def probe_scratch(scratch: Scratch) -> Probe:
    """Open one, leave a mark in it, close it, look for the mark. Blocks for a moment."""
    with (
        tempfile.TemporaryDirectory(prefix="sublet-probe-") as folder,
        ThreadPoolExecutor(1) as pool,  # there may be an event loop around us
    ):
        why = pool.submit(asyncio.run, _try(scratch, Path(folder))).result()
    if why:
        return Probe(False, f"a trial of {scratch.name} failed: {why}")
    return Probe(True, f"{scratch.name} was tried out: what was written is gone")


async def _try(scratch: Scratch, place: Path) -> str:
    mark = secrets.token_hex(32)
    key = bytearray(secrets.token_bytes(32))
    try:
        await scratch.open(place, key=key, bytes_max=_SIZE, uid=os.geteuid())
        try:
            (place / "data" / mark).write_text(mark)
            found = _search(place, mark.encode())
        finally:
            end = await scratch.close(place)
        await scratch.remove(place)
    except (SubletError, OSError) as error:
        return str(error)
    if found:
        return f"what was written lies in the clear in {found}"
    return "" if end.is_key_gone else end.note


def _search(place: Path, mark: bytes) -> str:
    """Name a file on the disk that has the mark, in its name or in its bytes."""
    for path in place.rglob("*"):
        if path.is_relative_to(place / "data") or not path.is_file():
            continue
        if mark in str(path).encode() or mark in path.read_bytes():
            return path.name
    return ""
