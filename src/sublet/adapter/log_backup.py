"""A copy of a log in a file, taken while a node writes it.

SQLite copies in one read transaction: the copy is the log as it was at one moment, and
the node neither waits nor is able to make the copy begin anew.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from sublet.adapter import private_file
from sublet.adapter.log_sqlite import SqliteLogReader
from sublet.adapter.sqlite_file import translated
from sublet.base.errors import Refused


def back_up(source: Path, target: Path) -> int:
    """Copy the log at ``source`` to the new file ``target``; give its entries.

    The copy is whole and synced once it stands under its name.

    Raises:
        Refused: there is no log, or the target is there already.
        Unavailable: a disk did not answer, or is full.
        LogDamaged: SQLite cannot make sense of the file.
    """
    if target.exists():
        raise Refused(
            f"{target} is there already, and a backup overwrites nothing; name a new "
            "file",
            code="backup_exists",
            field="FILE",
        )
    SqliteLogReader(source).close()  # is it a log at all
    draft = target.with_name(target.name + ".part")
    try:
        draft.touch(mode=0o600)
        with (
            translated(target),
            closing(
                sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
            ) as reader,
            closing(sqlite3.connect(draft)) as writer,
        ):
            reader.backup(writer)
            writer.execute("PRAGMA journal_mode = DELETE")  # one file, without a -wal
        copy = SqliteLogReader(draft)
        entries = copy.size()
        copy.close()
        private_file.sync(draft)
        draft.replace(target)
        private_file.sync(target.parent)
    except OSError as error:
        raise Refused(
            f"{target} cannot be written ({error.strerror}); name a file where there "
            "is room and you may write",
            code="backup_unwritable",
            field="FILE",
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return entries
