"""Versions and shares of GPUs: how people write them, how documents hold them.

Not here: models (``gpu_model``), kinds (``gpu_kind``).
"""

import re

from sublet.base.errors import Refused
from sublet.base.limits import GPU_SHARE_WHOLE

VENDORS = ("nvidia", "amd")
INTERFACES = ("pcie", "sxm")
SHARINGS = ("mig", "time-slice")

_VERSION = re.compile(r"\A([0-9]{1,3})(?:\.([0-9]{1,3}))?(?:\.([0-9]{1,3}))?\Z")
_PAIR = re.compile(r"\A([0-9]{1,2})(?:\.([0-9]))?\Z")
_DECIMAL = re.compile(r"\A([01])(?:\.([0-9]{1,3}))?\Z")
_RATIO = re.compile(r"\A([1-9][0-9]{0,2})/([1-9][0-9]{0,2})\Z")
_PERCENT = re.compile(r"\A([0-9]{1,3})\s*%\Z")


def parse_driver(text: str, *, field: str) -> int:
    """Read a driver's version, ``550.54.14``.

    Raises:
        Refused: ``bad_version``.

    >>> parse_driver("550.54.14", field="--driver"), parse_driver("550", field="--driver")
    (550054014, 550000000)
    """
    match = _VERSION.match(text.strip())
    if match is None:
        raise _refuse(text, field, "a driver's version", "550.54.14 or 550")
    major, minor, patch = (int(part or 0) for part in match.groups())
    return (major * 1_000 + minor) * 1_000 + patch


def parse_cuda(text: str, *, field: str) -> int:
    """Read a version of CUDA, ``12.4``, as the driver numbers it.

    Raises:
        Refused: ``bad_version``.

    >>> parse_cuda("12.4", field="--cuda")
    12040
    """
    major, minor = _parse_pair(text, field=field, what="a version of CUDA", like="12.4")
    return major * 1_000 + minor * 10


def parse_compute(text: str, *, field: str) -> int:
    """Read a compute capability, ``9.0``.

    Raises:
        Refused: ``bad_version``.

    >>> parse_compute("8.9", field="--compute-capability")
    89
    """
    major, minor = _parse_pair(
        text, field=field, what="a compute capability", like="9.0"
    )
    return major * 10 + minor


def parse_share(text: str, *, field: str) -> int:
    """Read a part of a GPU, ``0.5``, ``1/7`` or ``50%``, as thousandths, rounded down.

    Raises:
        Refused: ``bad_share``: no number, none of it, or more than a whole one.

    >>> [parse_share(text, field="--gpu-share") for text in ("0.5", "1/7", "25%", "1")]
    [500, 142, 250, 1000]
    """
    written, milli = text.strip(), 0
    if match := _DECIMAL.match(written):
        milli = int(match[1]) * GPU_SHARE_WHOLE + int((match[2] or "").ljust(3, "0"))
    elif match := _RATIO.match(written):
        milli = int(match[1]) * GPU_SHARE_WHOLE // int(match[2])
    elif match := _PERCENT.match(written):
        milli = int(match[1]) * GPU_SHARE_WHOLE // 100
    if not 0 < milli <= GPU_SHARE_WHOLE:
        raise Refused(
            f"{field}: {text[:40]!a} is no part of a GPU; write it like 0.5, 1/7 or 50%, "
            "of at most 1",
            code="bad_share",
            field=field,
        )
    return milli


def format_driver(level: int) -> str:
    """Write a driver's version; trailing zeros are left out.

    >>> format_driver(550_054_014), format_driver(550_000_000)
    ('550.54.14', '550')
    """
    rest, patch = divmod(level, 1_000)
    major, minor = divmod(rest, 1_000)
    parts = [major, minor, patch] if patch else [major, minor] if minor else [major]
    return ".".join(map(str, parts))


def format_cuda(level: int) -> str:
    """Write a version of CUDA.

    >>> format_cuda(12_040)
    '12.4'
    """
    return f"{level // 1_000}.{level % 1_000 // 10}"


def format_compute(level: int) -> str:
    """Write a compute capability.

    >>> format_compute(90)
    '9.0'
    """
    return f"{level // 10}.{level % 10}"


def _parse_pair(text: str, *, field: str, what: str, like: str) -> tuple[int, int]:
    match = _PAIR.match(text.strip())
    if match is None:
        raise _refuse(text, field, what, like)
    return int(match[1]), int(match[2] or 0)


def _refuse(text: str, field: str, what: str, like: str) -> Refused:
    return Refused(
        f"{field}: {text[:40]!a} is not {what}; write it like {like}",
        code="bad_version",
        field=field,
    )
