"""Which GPUs an order takes: "h100", "h100/sxm", "a100/80GiB" or "a100/80GiB/sxm".

Not here: all that an order wishes for besides (``book.wish``).
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

from msgspec import Struct

from sublet.base.errors import Refused

GIB = 1 << 30
_KIND = re.compile(r"\A([a-z0-9]{1,64})(?:/([0-9]{1,4})GiB)?(?:/([a-z0-9]{1,16}))?\Z")


class GpuKind(Struct, frozen=True):
    """One kind of GPU that would do."""

    model: str
    memory_bytes: int = 0  # at least
    interface: str = ""  # "" for any


class HasGpu(Protocol):
    """What shows which GPUs it has: an offer, or a line of the list of offers."""

    @property
    def gpu_model(self) -> str:
        """The model; "" without GPUs."""

    @property
    def gpu_memory_bytes(self) -> int:
        """Of each."""

    @property
    def gpu_interface(self) -> str:
        """How it is built in; "" undeclared."""


@lru_cache(maxsize=1_024)
def parse_kind(text: str, *, field: str) -> GpuKind:
    """Read one of an order's ``gpu_models``.

    Raises:
        Refused: ``bad_gpu``.

    >>> parse_kind("a100/80GiB/sxm", field="order.gpu_models").interface
    'sxm'
    """
    match = _KIND.match(text)
    if match is None:
        raise Refused(
            f"{field}: {text!a} names no GPU; write MODEL, MODEL/80GiB (at least) or "
            "MODEL/80GiB/sxm, with small letters and digits of ASCII",
            code="bad_gpu",
            field=field,
        )
    model, gib, interface = match.groups()
    return GpuKind(model, int(gib or 0) * GIB, interface or "")


def fits_any(offer: HasGpu, models: Iterable[str]) -> bool:
    """Say whether the offer's GPUs are of one of these kinds; of none named: yes.

    Raises:
        Refused: ``bad_gpu``.
    """
    kinds = [parse_kind(text, field="order.gpu_models") for text in models]
    return not kinds or any(
        kind.model == offer.gpu_model
        and kind.memory_bytes <= offer.gpu_memory_bytes
        and kind.interface in ("", offer.gpu_interface)
        for kind in kinds
    )
