"""Sublet: rent a machine, run a job on it, pay by the second.

This module is for users only; nothing inside imports from it. Names are loaded when
they are first asked for, so that ``import sublet`` costs nothing.
"""

TYPE_CHECKING = False  # as typing's, which costs more than all else on the way here

if TYPE_CHECKING:
    from sublet.base.errors import (
        Broken,
        Faults,
        PeerFault,
        Refused,
        SubletError,
        Unavailable,
    )
    from sublet.workload.client import AsyncClient
    from sublet.workload.map.result import TaskResult
    from sublet.workload.map.task import Task
    from sublet.workload.portal import Client, Job
    from sublet.workload.run.result import AttemptResult, JobResult
    from sublet.workload.run.running import RunningJob

__all__ = [
    "AsyncClient",
    "AttemptResult",
    "Broken",
    "Client",
    "Faults",
    "Job",
    "JobResult",
    "PeerFault",
    "Refused",
    "RunningJob",
    "SubletError",
    "Task",
    "TaskResult",
    "Unavailable",
]

_HOMES = {
    "AsyncClient": "workload.client",
    "RunningJob": "workload.run.running",
    "Client": "workload.portal",
    "Job": "workload.portal",
    "Task": "workload.map.task",
    "TaskResult": "workload.map.result",
    "AttemptResult": "workload.run.result",
    "JobResult": "workload.run.result",
    "Broken": "base.errors",
    "Faults": "base.errors",
    "PeerFault": "base.errors",
    "Refused": "base.errors",
    "SubletError": "base.errors",
    "Unavailable": "base.errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'sublet' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"sublet.{_HOMES[name]}"), name)
