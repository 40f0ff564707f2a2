"""What an offer says of its machine besides sizes and prices: ``[declared]``.

What can be measured is, each time that the agent starts, where its owner says nothing:
the driver's versions, how GPUs are built in, the class of the disk. The rest is the
owner's word. Not here: what sizes are sold (``config``), who may vouch for it (the log).
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from sublet.base import limits
from sublet.base.errors import Refused, SubletError
from sublet.base.units import parse_rate
from sublet.core.gpu_level import (
    INTERFACES,
    SHARINGS,
    VENDORS,
    format_compute,
    format_cuda,
    format_driver,
    parse_compute,
    parse_cuda,
    parse_driver,
    parse_share,
)
from sublet.core.gpu_part import MIG, MIG_PREFIX, TIME_SLICE, name_parts
from sublet.core.wording import LATENCY, NAME, PAIR, REGION, Rule, check_text
from sublet.provider.owner_file import Reader
from sublet.service.ports import Gpu, Machine

DISK_CLASSES = ("hdd", "ssd", "nvme")

Words = Annotated[tuple[str, ...], Meta(max_length=limits.LIST_LENGTH_MAX)]


class DeclaredFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[declared]`` as people write it; "" for what the machine itself says."""

    jurisdiction: str = ""
    network: str = ""
    up: str = ""
    down: str = ""
    latencies: Words = ()
    attributes: Words = ()
    disk_class: str = ""
    gpu_vendor: str = ""
    gpu_interface: str = ""
    gpu_compute: str = ""
    gpu_driver: str = ""
    cuda: str = ""
    gpu_share: str = "1"
    gpu_sharing: str = ""


class Declared(Struct, frozen=True, kw_only=True):
    """Fields of an offer, by their names and in their units there."""

    jurisdiction: str = ""
    network: str = ""
    up_mbit_s: int = 0
    down_mbit_s: int = 0
    latencies: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    disk_class: str = ""
    gpu_vendor: str = ""
    gpu_interface: str = ""
    gpu_compute: int = 0
    gpu_driver: int = 0
    cuda: int = 0
    gpu_share_milli: int = limits.GPU_SHARE_WHOLE
    gpu_sharing: str = ""


OF_GPUS = (
    *("gpu_vendor", "gpu_interface", "gpu_compute", "gpu_driver", "cuda"),
    *("gpu_share_milli", "gpu_sharing"),
)


def read_declared(
    file: DeclaredFile, faults: list[SubletError], *, gpu_uuids: tuple[str, ...]
) -> Declared:
    """Give the table its final shape; what is wrong goes into ``faults``. Pure."""
    reader = Reader(faults)

    def read_word(name: str, rule: Rule) -> str:
        text: str = getattr(file, name)
        check = partial(_check, rule=rule, field=f"declared.{name}")
        return reader.one(text, check, "") if text else ""

    def read_choice(name: str, names: tuple[str, ...]) -> str:
        text: str = getattr(file, name)
        choose = partial(_choose, names=names, field=f"declared.{name}")
        return reader.one(text, choose, "") if text else ""

    def read_level(name: str, parse: Callable[..., int]) -> int:
        text: str = getattr(file, name)
        return (
            reader.one(text, partial(parse, field=f"declared.{name}"), 0) if text else 0
        )

    def read_words(name: str, rule: Rule) -> tuple[str, ...]:
        check = partial(_check, rule=rule, field=f"declared.{name}")
        return reader.all(getattr(file, name), check)

    declared = Declared(
        jurisdiction=read_word("jurisdiction", REGION),
        network=read_word("network", NAME),
        up_mbit_s=read_level("up", parse_rate),
        down_mbit_s=read_level("down", parse_rate),
        latencies=read_words("latencies", LATENCY),
        attributes=read_words("attributes", PAIR),
        disk_class=read_choice("disk_class", DISK_CLASSES),
        gpu_vendor=read_choice("gpu_vendor", VENDORS),
        gpu_interface=read_choice("gpu_interface", INTERFACES),
        gpu_compute=read_level("gpu_compute", parse_compute),
        gpu_driver=read_level("gpu_driver", parse_driver),
        cuda=read_level("cuda", parse_cuda),
        gpu_share_milli=read_level("gpu_share", parse_share) or limits.GPU_SHARE_WHOLE,
        gpu_sharing=read_choice("gpu_sharing", SHARINGS),
    )
    if fault := _find_fault(declared, gpu_uuids):
        faults.append(fault)
    return declared


def _check(text: str, *, rule: Rule, field: str) -> str:
    check_text(text, rule, field=field)
    return text


def _choose(text: str, *, names: tuple[str, ...], field: str) -> str:
    if text not in names:
        raise Refused(
            f'{field}: there is no {text[:40]!a}; it is one of: {", ".join(names)}, or ""',
            code="bad_choice",
            field=field,
        )
    return text


def _find_fault(declared: Declared, gpu_uuids: tuple[str, ...]) -> Refused | None:
    """Hold what is said of parts of GPUs against the UUIDs that are sold."""
    sharing, is_whole = declared.gpu_sharing, declared.gpu_share_milli == 1_000
    are_mig = [uuid.startswith(MIG_PREFIX) for uuid in gpu_uuids]
    parts = name_parts(gpu_uuids, sharing=sharing, share_milli=declared.gpu_share_milli)
    why = ""
    if bool(sharing) == is_whole:
        why = "goes together with gpu_share: how large each part is, and how it is made"
    elif sharing == MIG and not all(are_mig):
        why = (
            'is "mig": name the instances in machine.gpus, MIG-… as nvidia-smi -L says'
        )
    elif sharing != MIG and any(are_mig):
        why = 'is not "mig", and machine.gpus names instances of MIG'
    elif len(parts) > limits.GPU_COUNT_MAX:
        why = f"makes {len(parts)} parts; an offer has at most {limits.GPU_COUNT_MAX}"
    if not why:
        return None
    return Refused(
        f"declared.gpu_sharing: {why}; how parts of GPUs are sold stands in "
        "docs/reference/settings.md",
        code="bad_parts",
        field="declared.gpu_sharing",
    )


def fill_in(
    declared: Declared, machine: Machine, *, gpu_uuids: tuple[str, ...]
) -> Declared:
    """Say what the machine itself says, where its owner does not. Pure.

    Of several GPUs the lowest versions, and of words those that all have.
    """
    sold = set(gpu_uuids)
    gpus = [gpu for gpu in machine.gpus if sold & {gpu.uuid, *gpu.instances}]
    found = {
        "disk_class": machine.disk_class,
        "gpu_vendor": _common(gpus, "vendor"),
        "gpu_interface": _common(gpus, "interface"),
        "gpu_compute": min((gpu.compute for gpu in gpus), default=0),
        "gpu_driver": min((gpu.driver for gpu in gpus), default=0),
        "cuda": min((gpu.cuda for gpu in gpus), default=0),
    }
    blank = {
        name: value for name, value in found.items() if not getattr(declared, name)
    }
    return replace(declared, **blank)


def _common(gpus: list[Gpu], name: str) -> str:
    words = {str(getattr(gpu, name)) for gpu in gpus}
    return words.pop() if len(words) == 1 else ""


def describe(declared: Declared, *, has_gpus: bool) -> dict[str, Any]:
    """Give the fields of an offer; nothing of GPUs where it has none."""
    fields = asdict(declared)
    return {name: fields[name] for name in fields if has_gpus or name not in OF_GPUS}


def compose_declared(declared: Declared) -> str:
    """Write the table, with what its words mean."""
    share = declared.gpu_share_milli / limits.GPU_SHARE_WHOLE
    return f"""\
[declared]  # what else your offer says; "" for unsaid, or as the machine itself says
jurisdiction = {_text(declared.jurisdiction)}  # whose law binds you, such as "DE"
network = {_text(declared.network)}  # what fails together with it, such as "as24940"
up = {_text(_rate(declared.up_mbit_s))}  # to the internet, such as "500Mbit"
down = {_text(_rate(declared.down_mbit_s))}
latencies = {_list(declared.latencies)}  # in ms, such as ["frankfurt=12"]
attributes = {_list(declared.attributes)}  # such as ["tier=datacenter"]
disk_class = {_text(declared.disk_class)}  # "hdd", "ssd" or "nvme"
gpu_vendor = {_text(declared.gpu_vendor)}  # "nvidia" or "amd"
gpu_interface = {_text(declared.gpu_interface)}  # "pcie" or "sxm"
gpu_compute = {_level(declared.gpu_compute, format_compute)}  # such as "9.0"
gpu_driver = {_level(declared.gpu_driver, format_driver)}  # such as "550.54.14"
cuda = {_level(declared.cuda, format_cuda)}  # that the driver serves, such as "12.4"
gpu_share = "{share:g}"  # of a whole GPU that each part is, such as "1/7"
gpu_sharing = {_text(declared.gpu_sharing)}  # how they are parted: "mig", "{TIME_SLICE}"
"""


def _text(value: str) -> str:
    return msgspec.json.encode(value).decode()


def _list(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(_text(value) for value in values) + "]"


def _rate(mbit_s: int) -> str:
    return f"{mbit_s}Mbit" if mbit_s else ""


def _level(level: int, spell: Callable[[int], str]) -> str:
    return _text(spell(level) if level else "")
