"""What state a remembered job is in, as far as this machine can tell."""

import os

from sublet.core.job.record import JobRecord
from sublet.core.job.state import JobPhase


def find_state(record: JobRecord) -> str:
    """Say ``over``, ``detached``, ``running`` or, where nobody cares, ``orphaned``."""
    if record.job.phase is JobPhase.FINISHED:
        return "over"
    if record.is_detached:
        return "detached"
    return "running" if _is_alive(record.pid) else "orphaned"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
