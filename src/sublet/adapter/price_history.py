"""Rounds of readings in a file, one JSON line each: a history, or a recording of one.

Lines are appended whole, by one write. A line that is none (the disk was full) is passed
over. When the file is full it takes the place of the older one, and a new one begins.
"""

import os
from pathlib import Path

import msgspec

from sublet.adapter.private_file import make_folder
from sublet.base.errors import Refused
from sublet.core.pricing.reading import Round

HISTORY_BYTES_MAX = 16 << 20  # of one of the two files: about three weeks of minutes
LINE_BYTES_MAX = 65_536
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class PriceHistory:
    """One file, and the older one beside it."""

    def __init__(self, path: Path, *, bytes_max: int = HISTORY_BYTES_MAX) -> None:
        """Take the file; it is made, private, with the first round."""
        self.path = path
        self.older_path = path.with_name(f"{path.stem}.older{path.suffix}")
        self._bytes_max = bytes_max

    def append(self, taken: Round) -> None:
        """Write a round at the end.

        Raises:
            Refused: ``bad_price_history``: it cannot be written.
        """
        # What another write left unfinished ends here, and costs this round nothing.
        line = b"\n" + msgspec.json.encode(taken) + b"\n"
        try:
            make_folder(self.path.parent)
            if self.path.exists() and self.path.stat().st_size >= self._bytes_max:
                self.path.replace(self.older_path)
            handle = os.open(self.path, _APPEND, 0o600)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)
        except OSError as error:
            raise _fault(self.path, error) from error

    def read(self) -> tuple[Round, ...]:
        """Read all rounds of both files, oldest first.

        Raises:
            Refused: ``bad_price_history``: there are files, and they cannot be read.
        """
        rounds = [
            taken
            for path in (self.older_path, self.path)
            if path.exists()
            for taken in read_rounds(path)
        ]
        return tuple(sorted(rounds, key=lambda taken: taken.at_s))


def read_rounds(path: Path) -> tuple[Round, ...]:
    """Read the rounds of one file, in its order; what is no round is left out.

    Raises:
        Refused: ``bad_price_history``: it cannot be read.
    """
    found = []
    decoder = msgspec.json.Decoder(Round)
    try:
        with path.open("rb") as file:
            while line := file.readline(LINE_BYTES_MAX):
                try:
                    found.append(decoder.decode(line))
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    continue
    except OSError as error:
        raise _fault(path, error) from error
    return tuple(found)


def _fault(path: Path, error: OSError) -> Refused:
    return Refused(
        f"{path}: the history of prices cannot be read or written: {error.strerror}; "
        "give this user the right to, or move it away",
        code="bad_price_history",
    )
