"""Copies files out of a running job's work folder."""

import tempfile
from pathlib import Path

from sublet.adapter.blobs_folder import FolderBlobs
from sublet.base.errors import Refused
from sublet.core.job.record import JobRecord
from sublet.sdk.work_folder import read_work
from sublet.workload.client import AsyncClient
from sublet.workload.reach import reach_job
from sublet.workload.run.layout import lay_out
from sublet.workload.run.wish import Wanted


async def copy_out(
    client: AsyncClient, record: JobRecord, path: str, target: Path
) -> int:
    """Copy a file or folder; give the number of files.

    Args:
        client: the tenant's.
        record: of the job.
        path: relative to the work folder.
        target: as with cp(1): a folder that exists takes it in.

    Raises:
        Refused: nothing runs, or there is no such file.
        Unavailable: the provider is not reached, or the disk is full.
    """
    if not path:
        raise Refused("name a file or folder of the job", code="bad_path")
    with tempfile.TemporaryDirectory(dir=client.home.job_folder(record.id)) as scratch:
        blobs = FolderBlobs(Path(scratch), is_durable=False)
        async with reach_job(client, record) as channel:
            tree = await read_work(
                channel, path, blobs=blobs, bytes_max=record.disk_bytes
            )
        if not tree.files:
            raise Refused(f"{path} is empty, or no file", code="no_such_file")
        lay_out(tree, (Wanted(path, str(target)),), blobs=blobs)
    return len(tree.files)
