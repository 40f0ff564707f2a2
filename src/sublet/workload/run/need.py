"""The numbers of a wish: sizes, counts, prices, times. Pure; limits named."""

import re

from sublet.base import limits
from sublet.base.errors import Refused
from sublet.base.units import parse_duration, parse_money, parse_size
from sublet.core.egress import check_destinations
from sublet.core.gpu_kind import parse_kind
from sublet.core.image import Reference, parse_reference
from sublet.workload.run.gang_need import parse_gang
from sublet.workload.run.particular import (
    parse_all,
    parse_particulars,
    parse_region,
    wants_gpu,
)
from sublet.workload.run.wish import Collector, Needs, Wish, refuse

CPUS = "1"
MEMORY = "1GiB"
DISK = "2GiB"
MAX_TOTAL = "1.00"  # US dollars
TIMEOUT = "1h"

MEMORY_BYTES_MIN = 1 << 20
DISK_BYTES_MIN = 1 << 20
SECONDS_PER_HOUR = 3_600

_CPUS = re.compile(r"\A([0-9]{1,6})(?:\.([0-9]{1,3}))?\Z")
_MODEL = r"[A-Za-z][A-Za-z0-9 _.-]{0,63}"
_GPU = re.compile(
    rf"\A({_MODEL})?((?:/[0-9A-Za-z.]{{1,16}}){{0,2}})(?::?([0-9]{{1,4}}))?\Z"
)
_KIND = re.compile(
    rf"\A({_MODEL})(?:/([0-9][0-9.]*[A-Za-z]+))?(?:/([A-Za-z][A-Za-z0-9]{{0,15}}))?\Z"
)
SANDBOXES = ("bubblewrap", "podman", "gvisor")
MODES = {
    "instant": 0,
    "live": limits.WINDOW_S_MAX,
    "standing": limits.WAIT_S_MAX,
    "spot": limits.NOTICE_S_MAX,
    "reserved": limits.WAIT_S_MAX,
}  # and the longest span of each
_NOT_MODEL = re.compile(r"[^a-z0-9]")


def parse_needs(wish: Wish, found: Collector, *, now_s: int) -> Needs:
    """Read sizes, numbers and prices of a wish; faults go into ``found``.

    Args:
        wish: as typed.
        found: where faults go.
        now_s: from which on spans count.
    """
    total_max = found.take(
        1, _amount, _given(wish.max_total, MAX_TOTAL), "--max-total", limits.AMOUNT_MAX
    )
    timeout_s = found.take(
        1, parse_span, _given(wish.timeout, TIMEOUT), "--timeout", 1, limits.LEASE_S_MAX
    )
    mode, mode_s, choose_s = found.take(("instant", 0, 0), _parse_mode, wish.mode)
    kinds, count = found.take(((), 0), _parse_gpu, wish)
    return Needs(
        cpus_milli=found.take(1, _parse_cpus, _given(wish.cpus, CPUS)),
        memory_bytes=found.take(
            1,
            _size,
            _given(wish.memory, MEMORY),
            "--memory",
            MEMORY_BYTES_MIN,
            limits.MEMORY_BYTES_MAX,
        ),
        disk_bytes=found.take(
            1,
            _size,
            _given(wish.disk, DISK),
            "--disk",
            DISK_BYTES_MIN,
            limits.DISK_BYTES_MAX,
        ),
        gpu_models=wish.gpu_kinds or kinds,
        gpu_count=count,
        gpu_memory_bytes=found.take(0, _parse_vram, wish),
        regions=parse_all(found, wish.regions, "--region", parse_region),
        price_hour_max=found.take(0, _parse_price, wish, total_max, timeout_s),
        total_max=total_max,
        timeout_s=timeout_s,
        sandbox=found.take("", _parse_sandbox, wish.sandbox),
        particulars=parse_particulars(wish, found, now_s=now_s),
        erasure=wish.erasure,
        egress=found.take((), _parse_egress, wish.egress),
        image=found.take(None, _parse_image, wish),
        gang=parse_gang(wish, found),
        mode=mode,
        mode_s=mode_s,
        choose_s=choose_s,
    )


def _given(text: str | None, default: str) -> str:
    """Tell nothing from an empty text: that is a mistake, such as an unset variable."""
    return default if text is None else text


def parse_span(text: str, field: str, least: int, most: int) -> int:
    """Read a duration between two bounds, in seconds.

    Raises:
        Refused: no duration, or out of bounds.
    """
    value = parse_duration(text, field=field)
    if not least <= value <= most:
        raise refuse(
            field, f"{text!r} is not between {least}s and {most}s", code="out_of_range"
        )
    return value


def _parse_vram(wish: Wish) -> int:
    if wish.vram is None:
        return 0
    return _size(wish.vram, "--vram", 1, limits.GPU_MEMORY_BYTES_MAX)


def _within(value: int, field: str, text: str, least: int, most: int) -> int:
    if not least <= value <= most:
        what = "too small" if value < least else "more than any machine has"
        raise refuse(field, f"{text!r} is {what}", code="out_of_range")
    return value


def _size(text: str, field: str, least: int, most: int) -> int:
    return _within(parse_size(text, field=field), field, text, least, most)


def _amount(text: str, field: str, most: int) -> int:
    value = parse_money(text, field=field)
    if not 0 < value <= most:
        what = "nothing" if not value else "more than the market takes"
        raise refuse(field, f"{text!r} is {what}", code="out_of_range")
    return value


def _parse_price(wish: Wish, total_max: int, timeout_s: int) -> int:
    """The price named, or the one at which the total lasts for the whole time."""
    if wish.max_price is not None:
        return _amount(wish.max_price, "--max-price", limits.PRICE_PER_HOUR_MAX)
    machines = max(1, wish.machines or 1)  # all of which the total pays for
    lasting = total_max * SECONDS_PER_HOUR // (timeout_s * machines)
    return min(lasting, limits.PRICE_PER_HOUR_MAX)


def _parse_cpus(text: str) -> int:
    match = _CPUS.match(text.strip())
    if match is None:
        raise refuse(
            "--cpus",
            f"{text!r} is not a number of CPUs; write it like 2 or 0.5",
            code="bad_cpus",
        )
    milli = int(match[1]) * 1_000 + int((match[2] or "").ljust(3, "0"))
    return _within(milli, "--cpus", text, 1, limits.CPUS_MILLI_MAX)


def _parse_gpu(wish: Wish) -> tuple[tuple[str, ...], int]:
    """Read ``KIND[,KIND…][:N]``: kinds of which any will do, and how many."""
    if wish.gpu is None:
        return (), int(wish.vram is not None or wants_gpu(wish))
    *others, last = wish.gpu.split(",")
    kinds = [_parse_kind(one) for one in others]
    match = _GPU.match(last.strip())
    if match is None or not (match[1] or match[3]):
        raise _refuse_gpu(last)
    model, particulars, count = match.groups()
    if model and count and not particulars and ":" not in last:
        model, count = model + count, None  # rtx4090 is a model, not 4090 GPUs
    if model or others:
        kinds.append(_parse_kind((model or "") + (particulars or "")))
    if len(kinds) > limits.LIST_LENGTH_MAX:
        raise refuse("--gpu", f"at most {limits.LIST_LENGTH_MAX} kinds", code="bad_gpu")
    number = int(count) if count else 1
    _within(number, "--gpu", wish.gpu, 1, limits.GPU_COUNT_MAX)
    return tuple(dict.fromkeys(kinds)), number


def _parse_kind(text: str) -> str:
    """Read ``MODEL[/SIZE][/INTERFACE]`` as an order writes it."""
    match = _KIND.match(text.strip())
    if match is None:
        raise _refuse_gpu(text)
    model, size, interface = match.groups()
    kind = _NOT_MODEL.sub("", model.lower())
    if size:
        gib, rest = divmod(parse_size(size, field="--gpu"), 1 << 30)
        if rest or not gib:
            raise refuse(
                "--gpu",
                f"{size!r} is not a whole number of GiB; write it like 80GiB, or say "
                "it with --vram",
                code="bad_gpu",
            )
        kind += f"/{gib}GiB"
    if interface:
        kind += f"/{interface.lower()}"
    parse_kind(kind, field="--gpu")
    return kind


def _refuse_gpu(text: str) -> Refused:
    return refuse(
        "--gpu",
        f"{text[:80]!r} is not MODEL, MODEL:N or N; write it like h200:2, "
        "a100/80GiB/sxm:8 or h100,h200:2 for any of several",
        code="bad_gpu",
    )


def _parse_egress(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(one) for one in check_destinations(texts, field="--egress"))


def _parse_image(wish: Wish) -> Reference | None:
    if wish.image is None:
        return None
    return parse_reference(wish.image, field="--image")


def _parse_mode(text: str | None) -> tuple[str, int, int]:
    """Read ``MODE:SPAN``, such as standing:10m; live:10s:5m has two spans."""
    if text is None:
        return "instant", 0, 0
    mode, _, rest = text.strip().lower().partition(":")
    span, colon, choose = rest.partition(":")
    most = MODES.get(mode)
    if most is None:
        raise refuse(
            "--mode",
            f"there is no {text[:40]!r}; it is one of: instant, "
            f"{', '.join(f'{name}:SPAN' for name in MODES if name != 'instant')}",
            code="bad_mode",
        )
    if mode == "instant" and not span:
        return mode, 0, 0
    if not most or not span:
        raise refuse(
            "--mode", f"write {text[:40]!r} like standing:10m", code="bad_mode"
        )
    if colon and mode != "live":
        raise refuse(
            "--mode",
            f"{mode} has one span, as in {mode}:{span}; only a live order has a second "
            "one, in which you choose",
            code="bad_mode",
        )
    mode_s = parse_span(span, "--mode", 1, most)
    choose_s = parse_span(choose, "--mode", 1, limits.WINDOW_S_MAX) if colon else 0
    return mode, mode_s, choose_s


def _parse_sandbox(text: str | None) -> str:
    name = (text or "").strip().lower()
    if text is not None and name not in SANDBOXES:
        raise refuse(
            "--sandbox",
            f"there is no {text[:40]!r}; it is one of: {', '.join(SANDBOXES)}",
            code="bad_sandbox",
        )
    return name
