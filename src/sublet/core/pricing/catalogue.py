"""What clouds ask for GPUs: a table of instances, each with its source and its date.

The columns are ``COLUMNS``; prices are US dollars an hour for the whole instance, "" where
there is none. GPU names are put into the words of offers by a table, and memory of a
GPU is taken from its name or from what the model is known to have. Pure: the text comes
from a file (``adapter.catalogue_file``).
"""

import csv
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation

from msgspec import Struct

from sublet.base.errors import Refused
from sublet.core.gpu_kind import GpuKind
from sublet.core.gpu_model import normalize_model

COLUMNS = (
    *("provider", "instance", "gpu", "gpu_count", "vcpu", "mem_gib", "region"),
    *("on_demand_usd_h", "spot_usd_h", "as_of", "source", "usd_per_gpu_h"),
)
CLOUDS = ("AWS", "GCP", "Azure")  # that a quote always speaks of
ROWS_MAX = 100_000
_GIB = 1 << 30
_PRICE_MAX = Decimal(1_000_000)  # dollars an hour
_MEMORY = re.compile(r"(\d+)\s*GB", re.IGNORECASE)

# Names of the catalogue that normalising alone does not bring together, and the memory of
# models whose name does not say it, in GB as vendors count it.
_SAME = {
    "rtxa2000": "a2000",
    "rtxa4000": "a4000",
    "rtxa5000": "a5000",
    "rtxa6000": "a6000",
    "rtx6000ada": "6000ada",
    "rtx5000ada": "5000ada",
    "h100hgx": "h100",
    "3080ti": "rtx3080ti",
}
_MEMORY_GB = {
    "a10": 24,
    "a10g": 24,
    "a40": 48,
    "l4": 24,
    "l40": 48,
    "l40s": 48,
    "t4": 16,
    "h100": 80,
    "h200": 141,
    "gh200": 96,
    "b200": 180,
    "p4": 8,
    "k80": 12,
    "rtx3090": 24,
    "rtx4090": 24,
    "rtx5090": 32,
    "a6000": 48,
    "6000ada": 48,
}


class Instance(Struct, frozen=True):
    """One machine of a cloud, as the catalogue has it."""

    provider: str
    name: str
    gpu: str  # as the catalogue writes it
    model: str  # as offers do
    gpu_count: int
    gpu_memory_bytes: int  # of each; 0 where nobody says
    cpus_milli: int
    memory_bytes: int
    on_demand_hour: int  # micro-USD; -1 where there is no price
    spot_hour: int
    as_of: str
    source: str


class CloudPrice(Struct, frozen=True):
    """The cheapest instance of a cloud that does for a wish."""

    provider: str
    instance: str = ""
    gpu: str = ""
    gpu_count: int = 0
    on_demand_hour: int = -1  # micro-USD for the whole instance; -1: no price
    spot_hour: int = -1
    as_of: str = ""  # "" where the catalogue has nothing that does
    source: str = ""


def parse_catalogue(text: str, *, name: str) -> tuple[Instance, ...]:
    """Read a catalogue.

    Args:
        text: CSV with a head line; columns in any order, others are passed over.
        name: of the file, for what is wrong with it.

    Raises:
        Refused: ``bad_catalogue``, with the line and the column.
    """
    reader = csv.DictReader(text.splitlines())
    missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
    if missing:
        raise _bad(
            name, 1, f"has no column {missing[0]}; it needs {', '.join(COLUMNS)}"
        )
    found: list[Instance] = []
    try:
        for row in reader:
            if len(found) == ROWS_MAX:
                raise _bad(name, reader.line_num, f"has more than {ROWS_MAX} rows")
            found.append(_read(row, name, reader.line_num))
    except csv.Error as error:
        raise _bad(name, reader.line_num, f"is not CSV: {error}") from None
    return tuple(found)


def find_model(gpu: str) -> str:
    """Give the name by which offers know a GPU of the catalogue.

    >>> find_model("A100 (80 GB)"), find_model("RTXA6000"), find_model("H100 HGX (80GB)")
    ('a100', 'a6000', 'h100')
    """
    plain = _MEMORY.sub(" ", gpu)
    model = normalize_model(plain)
    return _SAME.get(model, model)


def find_cheapest(
    instances: Iterable[Instance],
    *,
    kinds: Sequence[GpuKind],
    gpu_count: int,
    gpu_memory_bytes: int,
    cpus_milli: int,
    memory_bytes: int,
) -> tuple[CloudPrice, ...]:
    """Give what each cloud would cost: the cheapest instance that has all of it.

    Of several dates, a cloud's newest counts. Sizes are those that clouds sell: who
    wants three GPUs pays for four.

    Args:
        instances: of the catalogue.
        kinds: any of these GPUs; none for any. How a cloud has them built in it does not
            say, so that the interface is passed over.
        gpu_count: at least.
        gpu_memory_bytes: of each at least. Clouds count in GB and drivers report a little
            less than that, so a name's "80 GB" counts as that many GiB.
        cpus_milli: at least.
        memory_bytes: at least.

    Returns:
        One of each cloud that has it, the cheapest on demand first.
    """
    newest: dict[str, str] = {}
    instances = tuple(instances)
    for each in instances:
        newest[each.provider] = max(each.as_of, newest.get(each.provider, ""))
    fitting: dict[str, list[Instance]] = {}
    for each in instances:
        if (
            each.as_of == newest[each.provider]
            and (not kinds or any(_is_of(each, kind) for kind in kinds))
            and each.gpu_count >= gpu_count
            and each.gpu_memory_bytes >= gpu_memory_bytes
            and each.cpus_milli >= cpus_milli
            and each.memory_bytes >= memory_bytes
        ):
            fitting.setdefault(each.provider, []).append(each)
    found = [_cheapest(those) for those in fitting.values()]
    return tuple(sorted(found, key=lambda one: (_price(one), one.provider)))


def _is_of(instance: Instance, kind: GpuKind) -> bool:
    is_model = instance.model == _SAME.get(kind.model, kind.model)
    return is_model and instance.gpu_memory_bytes >= kind.memory_bytes


def _cheapest(those: list[Instance]) -> CloudPrice:
    """Take the one that is cheapest on demand; its spot price is that of the same."""
    one = min(those, key=lambda each: (_price(each), each.name))
    return CloudPrice(
        provider=one.provider,
        instance=one.name,
        gpu=one.gpu,
        gpu_count=one.gpu_count,
        on_demand_hour=one.on_demand_hour,
        spot_hour=one.spot_hour,
        as_of=one.as_of,
        source=one.source,
    )


def _price(one: Instance | CloudPrice) -> tuple[bool, int]:
    return one.on_demand_hour < 0, one.on_demand_hour


def _read(row: dict[str, str], name: str, line: int) -> Instance:
    if None in row.values() or None in row:
        raise _bad(name, line, "has too few or too many columns")
    model = find_model(row["gpu"])
    in_name = _MEMORY.search(row["gpu"])
    memory_gb = int(in_name[1]) if in_name else _MEMORY_GB.get(model, 0)
    return Instance(
        provider=row["provider"],
        name=row["instance"],
        gpu=row["gpu"],
        model=model,
        gpu_count=int(_number(row, "gpu_count", name, line)),
        gpu_memory_bytes=memory_gb * _GIB,
        cpus_milli=int(_number(row, "vcpu", name, line) * 1_000),
        memory_bytes=int(_number(row, "mem_gib", name, line) * _GIB),
        on_demand_hour=_micro(row, "on_demand_usd_h", name, line),
        spot_hour=_micro(row, "spot_usd_h", name, line),
        as_of=row["as_of"],
        source=row["source"],
    )


def _micro(row: dict[str, str], column: str, name: str, line: int) -> int:
    if not row[column].strip():
        return -1
    return int(_number(row, column, name, line) * 1_000_000)


def _number(row: dict[str, str], column: str, name: str, line: int) -> Decimal:
    try:
        value = Decimal(row[column].strip() or "0")
    except InvalidOperation:
        value = Decimal(-1)
    if not (value.is_finite() and 0 <= value <= _PRICE_MAX):
        raise _bad(
            name, line, f"says {column} = {row[column][:40]!r}: no number from 0 on"
        )
    return value


def _bad(name: str, line: int, what: str) -> Refused:
    return Refused(
        f"--catalogue: line {line} of {name} {what}",
        code="bad_catalogue",
        field="--catalogue",
    )
