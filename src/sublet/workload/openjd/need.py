"""Host requirements of a step as needs of a lease, beside what was asked for. Pure."""

from decimal import ROUND_CEILING, Decimal
from typing import Any, cast

from msgspec import Struct

from sublet.base.errors import Faults, Refused, SubletError
from sublet.workload.option import Needed
from sublet.workload.run import need
from sublet.workload.run.wish import Collector, Needs, Wish

MIB = 1 << 20
GIB = 1 << 30

# By the capability: the option, the field of ``Needs``, and how many of the field's
# units one of the template's is.
AMOUNTS = {
    "amount.worker.vcpu": ("cpus", "cpus_milli", 1_000),
    "amount.worker.memory": ("memory", "memory_bytes", MIB),
    "amount.worker.gpu": ("gpu", "gpu_count", 1),
    "amount.worker.gpu.memory": ("vram", "gpu_memory_bytes", MIB),
    "amount.worker.disk.scratch": ("disk", "disk_bytes", GIB),
}
FAMILY = "attr.worker.os.family"
OURS = "linux"


class Bound(Struct, frozen=True):
    """What a step requires of one thing, in the units of ``Needs``."""

    capability: str
    least: int  # 0 for none
    most: int | None = None


class Required(Struct, frozen=True):
    """What a step requires of its machines."""

    step: str = ""
    bounds: tuple[Bound, ...] = ()


def parse_requirements(step: str, requirements: Any) -> Required:
    """Read ``hostRequirements``.

    Raises:
        Faults: something that offers here do not say, or never meet.
    """
    if requirements is None:
        return Required(step)
    faults: list[SubletError] = []
    bounds = []
    for one in requirements.amounts or ():
        known = AMOUNTS.get(one.name.lower())
        if known is None:
            faults.append(_refuse_unknown(step, one.name))
            continue
        least = _scale(one.min, known[2]) or 0
        bounds.append(Bound(one.name.lower(), least, _scale(one.max, known[2])))
    for one in requirements.attributes or ():
        if one.name.lower() != FAMILY:
            faults.append(_refuse_unknown(step, one.name))
        elif OURS not in (one.anyOf or [OURS]) or (one.allOf or [OURS]) != [OURS]:
            faults.append(
                Refused(
                    f"step {step}: hostRequirements: {FAMILY}: all machines here run "
                    f"{OURS}; let the template take that, too",
                    code="unmet_requirement",
                    field=FAMILY,
                )
            )
    if faults:
        raise Faults(faults)
    return Required(step, tuple(bounds))


def add_requirements(required: Required, needed: Needed, *, now_s: int) -> Needed:
    """Give what a step's leases ask for: as was typed, else as the step requires.

    Args:
        required: of the step.
        needed: as typed, for the whole job.
        now_s: from which on spans count.

    Raises:
        Faults: what was typed means nothing, or is less or more than the step takes.
    """
    found = Collector()
    options: dict[str, Any] = {k: v for k, v in needed.items() if v is not None}
    defaults = need.parse_needs(Wish(target=()), found, now_s=now_s)
    for bound in required.bounds:
        option, field, _ = AMOUNTS[bound.capability]
        usual = getattr(defaults, field)
        asked = bound.least or min(usual, usual if bound.most is None else bound.most)
        if option not in options and asked and asked != usual:
            options[option] = _write(option, asked)
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in options.items()
    }
    wish = Wish(target=(), **values)
    asked_for = need.parse_needs(wish, found, now_s=now_s)
    found.check()
    found.faults += _find_breaches(required, asked_for)
    found.check()
    return cast(Needed, options)


def _find_breaches(required: Required, asked: Needs) -> list[SubletError]:
    faults: list[SubletError] = []
    for bound in required.bounds:
        option, field, _ = AMOUNTS[bound.capability]
        value = getattr(asked, field)
        most = value if bound.most is None else bound.most
        if bound.least <= value <= most:
            continue
        what, edge = ("more", most) if value > most else ("less", bound.least)
        faults.append(
            Refused(
                f"--{option}: that is {what} than step {required.step} takes "
                f"(hostRequirements, {bound.capability}): name {_write(option, edge)}, "
                "or leave it out",
                code="unmet_requirement",
                field=f"--{option}",
            )
        )
    return faults


def _write(option: str, value: int) -> str:
    """Write a number of ``Needs`` as its option takes it."""
    if option == "cpus":
        return f"{value // 1_000}.{value % 1_000:03d}".rstrip("0").rstrip(".")
    if option == "gpu":
        return str(value)
    return f"{value}B" if value % MIB else f"{value // MIB}MiB"


def _scale(value: Decimal | None, unit: int) -> int | None:
    """Give a bound in our units; a part of one counts as a whole."""
    if value is None:
        return None
    return int((Decimal(value) * unit).to_integral_value(rounding=ROUND_CEILING))


def _refuse_unknown(step: str, name: str) -> Refused:
    return Refused(
        f"step {step}: hostRequirements: {name} is not what offers here tell; take it "
        f"out of the template (known are {', '.join((*AMOUNTS, FAMILY))}), and ask for "
        "what providers say of themselves with --attribute",
        code="unknown_requirement",
        field=name,
    )
