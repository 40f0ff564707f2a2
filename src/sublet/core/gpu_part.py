"""Parts of GPUs, as an offer names them: each has a UUID that nobody else has.

A MIG instance has one from its driver, ``MIG-…``. A time slice is a claim on a whole GPU
that others have, too: it is called by the GPU's UUID and a number, ``GPU-…/0``.
"""

from collections.abc import Iterable

from sublet.base.limits import GPU_SHARE_WHOLE

MIG, TIME_SLICE = "mig", "time-slice"
MIG_PREFIX = "MIG-"


def name_parts(
    uuids: Iterable[str], *, sharing: str, share_milli: int
) -> tuple[str, ...]:
    """Name what is sold of these GPUs.

    >>> name_parts(["GPU-a"], sharing="time-slice", share_milli=500)
    ('GPU-a/0', 'GPU-a/1')
    >>> name_parts(["MIG-b"], sharing="mig", share_milli=142)
    ('MIG-b',)
    """
    if sharing != TIME_SLICE:
        return tuple(uuids)
    count = GPU_SHARE_WHOLE // share_milli
    return tuple(f"{uuid}/{number}" for uuid in uuids for number in range(count))


def find_devices(parts: Iterable[str]) -> tuple[str, ...]:
    """Give the devices that these parts are of, each once.

    >>> find_devices(["GPU-a/0", "GPU-a/3", "MIG-b"])
    ('GPU-a', 'MIG-b')
    """
    return tuple(dict.fromkeys(part.partition("/")[0] for part in parts))
