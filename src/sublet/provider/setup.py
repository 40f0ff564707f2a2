"""``sublet provider init``: look at the machine, measure it, price it, write it down.

Not here: asking and showing (``cli.provider``), what prices are made of
(``core.pricing``), what the scores mean (``benchmark``).
"""

import re
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from sublet.adapter.key_file import load_or_create_key
from sublet.base import limits
from sublet.base.errors import Faults, Refused, SubletError
from sublet.base.ids import Address
from sublet.base.units import MicroUsd, format_money
from sublet.core.pricing.floor import UnitPrices, compute_floor, split_floor
from sublet.provider.benchmark import measure
from sublet.provider.config import MARKET_FILE, Config, write_config
from sublet.provider.host_key import create_host_key
from sublet.provider.sandboxes import SandboxReport, try_out
from sublet.service.ports import Clock, Devices, Machine, Sandbox

DISK_SHARE = 2  # one part in so many of what is free is offered
GPU_HOUR = MicroUsd(400_000)  # $0.40, where the owner says nothing
CPU_HOUR = MicroUsd(10_000)
MEMORY_HOUR = MicroUsd(2_000)
_NAME = re.compile(r"\A[\w.-]{1,64}\Z")
_REGION = re.compile(r"\A[A-Z]{2}(-[A-Z0-9]{1,3})?\Z")


class Electricity(Struct, frozen=True):
    """What running the machine costs its owner."""

    watts: int
    tariff_kwh: MicroUsd
    wear_hour: MicroUsd
    margin_percent: int


class Wish(Struct, frozen=True):
    """What the owner has said; None where nothing was."""

    market: str
    name: str
    region: str
    cpus_milli: int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    cpu_hour: MicroUsd | None = None
    memory_hour: MicroUsd | None = None
    gpu_hour: MicroUsd | None = None
    electricity: Electricity | None = None


class SetUp(Struct, frozen=True):
    """What came of it, to be shown."""

    provider: Address
    path: Path
    config: Config
    sandboxes: tuple[SandboxReport, ...]
    price_story: str


def set_up(
    home: Path,
    wish: Wish,
    *,
    sandboxes: Sequence[Sandbox],
    devices: Devices,
    clock: Clock,
) -> SetUp:
    """Make a provider in ``home``; keys that are there stay. Takes some seconds.

    Raises:
        Refused: more is offered than the machine has, or the price is none. Nothing
            was written.
        Faults: as ``check_words``.
        Unavailable: the disk did not answer.
    """
    check_words(wish)
    is_new = not home.exists()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        sold = choose_sold(devices.find_machine(folder=home), wish)
        prices, story = choose_prices(wish, sold)
    except Refused:
        if is_new:
            home.rmdir()
        raise
    (home / MARKET_FILE).unlink(missing_ok=True)  # it may be another one from now on
    key = load_or_create_key(home / "key")
    create_host_key(home)
    uuids = tuple(gpu.uuid for gpu in sold.gpus)
    reports = try_out(sandboxes, gpu_uuids=uuids).reports
    scores = measure(home, now_s=clock.now_s())
    config = Config(
        market=wish.market,
        name=wish.name,
        region=wish.region,
        endpoint="",
        cpu_price_hour=prices.cpu_hour,
        memory_price_hour=prices.memory_hour,
        gpu_price_hour=prices.gpu_hour,
        cpus_milli=sold.cpus_milli,
        memory_bytes=sold.memory_bytes,
        disk_bytes=sold.disk_bytes,
        gpu_uuids=uuids,
        gpu_model=sold.gpus[0].model if sold.gpus else "",
        gpu_memory_bytes=min((gpu.memory_bytes for gpu in sold.gpus), default=0),
        cpu_score=scores.cpu_score,
        disk_score=scores.disk_score,
        gpu_score=scores.gpu_score,
    )
    path = write_config(home, config, price_story=story)
    return SetUp(key.address, path, config, reports, story)


def check_words(wish: Wish) -> None:
    """Check what an owner types and no machine decides. Pure.

    Raises:
        Faults: all that is wrong, each with the flag that it was given by.
    """
    faults: list[SubletError] = []
    if _NAME.match(wish.name) is None:
        faults.append(
            Refused(
                f"--name: {wish.name[:80]!r} is not a name; use up to 64 letters, "
                "digits, '.', '_' and '-'",
                code="bad_name",
                field="--name",
            )
        )
    if wish.region and _REGION.match(wish.region) is None:
        faults.append(
            Refused(
                f"--region: {wish.region[:40]!r} is not an ISO 3166 code; write it "
                "like DE or US-CA",
                code="bad_region",
                field="--region",
            )
        )
    most = format_money(limits.PRICE_PER_HOUR_MAX)
    for flag, price in (
        ("--price-cpu", wish.cpu_hour),
        ("--price-memory", wish.memory_hour),
        ("--price-gpu", wish.gpu_hour),
    ):
        if price is not None and price > limits.PRICE_PER_HOUR_MAX:
            faults.append(
                Refused(
                    f"{flag}: a price is at most {most} an hour; ask for less",
                    code="bad_price",
                    field=flag,
                )
            )
    if faults:
        raise Faults(faults)


def choose_sold(machine: Machine, wish: Wish) -> Machine:
    """Say what of the machine is offered: what the owner wished, or all there is. Pure.

    An offer has GPUs of one model; of several models, the most frequent is offered.

    Raises:
        Refused: more than there is.
    """
    for flag, asked, there in (
        ("--cpus", wish.cpus_milli, machine.cpus_milli),
        ("--memory", wish.memory_bytes, machine.memory_bytes),
        ("--disk", wish.disk_bytes, machine.disk_bytes),
    ):
        if asked is not None and not 0 < asked <= there:
            raise Refused(
                f"{flag}: this machine can offer more than 0 and at most {there}, "
                f"not {asked}",
                code="not_there",
                field=flag,
            )
    models = [gpu.model for gpu in machine.gpus]
    model = max(models, key=models.count, default="")
    return Machine(
        cpus_milli=wish.cpus_milli or machine.cpus_milli,
        memory_bytes=wish.memory_bytes or machine.memory_bytes,
        disk_bytes=wish.disk_bytes or machine.disk_bytes // DISK_SHARE,
        gpus=tuple(gpu for gpu in machine.gpus if gpu.model == model),
    )


def choose_prices(wish: Wish, sold: Machine) -> tuple[UnitPrices, str]:
    """Find the owner's floor prices, and one line that tells how. Pure.

    Raises:
        Refused: prices and electricity were both given, or a price is beyond limits.
    """
    fixed = (wish.cpu_hour, wish.memory_hour, wish.gpu_hour)
    is_fixed = any(price is not None for price in fixed)
    if wish.electricity is None:
        prices = UnitPrices(
            cpu_hour=CPU_HOUR if wish.cpu_hour is None else wish.cpu_hour,
            memory_hour=MEMORY_HOUR if wish.memory_hour is None else wish.memory_hour,
            gpu_hour=GPU_HOUR if wish.gpu_hour is None else wish.gpu_hour,
        )
        story = "prices as you gave them" if is_fixed else "prices as Sublet suggests"
        return prices, story
    if is_fixed:
        raise Refused(
            "give prices (--price-…) or electricity (--watts …), not both",
            code="two_prices",
            field="--watts",
        )
    power = wish.electricity
    floor = compute_floor(
        watts=power.watts,
        tariff_kwh=power.tariff_kwh,
        wear_hour=power.wear_hour,
        margin_percent=power.margin_percent,
    )
    prices = split_floor(
        floor,
        cpus_milli=sold.cpus_milli,
        memory_bytes=sold.memory_bytes,
        gpus=len(sold.gpus),
    )
    story = (
        f"{power.watts} W x {format_money(power.tariff_kwh)}/kWh + "
        f"{format_money(power.wear_hour)}/h of wear, {power.margin_percent} % on top: "
        f"{format_money(floor)} an hour for the whole machine"
    )
    return prices, story
