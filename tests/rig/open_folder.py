"""A folder that another user of this machine reaches: the database's, a sandbox's."""

import stat
import tempfile
from pathlib import Path

_USUAL = Path("/tmp")


def make_open_folder(prefix: str) -> Path:
    """Make a folder where temporary files go, or in /tmp where others cannot go there.

    It is private itself; whoever wants others in it opens it.
    """
    base = Path(tempfile.gettempdir()).resolve()
    is_open = all(
        place.stat().st_mode & stat.S_IXOTH for place in (base, *base.parents)
    )
    return Path(tempfile.mkdtemp(prefix=prefix, dir=base if is_open else _USUAL))
