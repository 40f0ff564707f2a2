"""When a machine is on offer: its owner's rules against how things are. Pure.

What was sensed goes in, what holds comes out, each failing rule with words for people.
A rule whose sense is missing fails: nobody can say that it holds.

Not here: sensing (``adapter.owner_senses``), what follows (``owner_watch``).
"""

from datetime import datetime, tzinfo

from msgspec import Struct

from sublet.base.ids import Address
from sublet.base.units import format_duration
from sublet.core.owner.hours import Window, find_span

# What swings by itself has to be so at two looks in a row; what people do counts at once.
_SWINGING = frozenset({"load", "temperature", "gpu_temperature", "power"})


class Rules(Struct, frozen=True, kw_only=True):
    """What an owner wants; 0 and nothing mean: it does not matter."""

    hours: tuple[Window, ...] = ()
    zone: str = ""  # IANA name; "" for that of this machine
    idle_s: int = 0  # nobody has touched it for so long
    load_milli: int = 0  # thousandths of a CPU that others may use
    gpu_alone: bool = False  # no other program computes on the GPUs that are free
    temperature_c: int = 0
    gpu_temperature_c: int = 0
    power_w: int = 0  # of CPUs and GPUs together
    leases_max: int = 0
    refuses: tuple[Address, ...] = ()
    settle_s: int = 60  # the rules hold for so long before it is on offer again
    input: str = "/dev/input"  # where keyboards and mice are

    @property
    def needs_senses(self) -> bool:
        """Say whether anything but the clock has to be looked at."""
        return bool(
            self.idle_s
            or self.load_milli
            or self.gpu_alone
            or self.temperature_c
            or self.gpu_temperature_c
            or self.power_w
        )

    @property
    def is_any(self) -> bool:
        """Say whether there is anything to watch at all."""
        return bool(self.hours) or self.needs_senses


class Sensed(Struct, frozen=True, kw_only=True):
    """How things are; None where this machine cannot tell."""

    now_s: int
    idle_s: int | None = None
    load_milli: int | None = None  # of everything but the jobs
    gpu_strangers: int | None = None  # programs on GPUs that no lease has
    temperature_c: int | None = None
    gpu_temperature_c: int | None = None
    power_w: int | None = None


class Judgement(Struct, frozen=True):
    """Which rules fail, and until when the clock lets things be as they are."""

    failing: dict[str, str]  # rule, in words
    until_s: int  # 0: for ever


class Stand(Struct, frozen=True):
    """Whether the machine is on offer, as it was decided last."""

    is_open: bool = False
    failing: dict[str, str] = {}  # at the last look, what swings included
    failed_at_s: int = 0  # when a rule failed last; 0: never since the start
    until_s: int = 0


def judge(rules: Rules, sensed: Sensed, *, zone: tzinfo, notice_s: int) -> Judgement:
    """Hold the rules against how things are.

    The hours end so much earlier that the machine is free when they are over.
    """
    failing = {}
    span = find_span(rules.hours, zone=zone, now_s=sensed.now_s)
    until_s = span.until_s
    if not span.is_open:
        failing["hours"] = f"outside of hours until {_clock(until_s, zone)}"
    elif until_s and sensed.now_s >= until_s - notice_s:
        failing["hours"] = f"the hours are over at {_clock(until_s, zone)}"
    elif until_s:
        until_s -= notice_s
    if rules.idle_s and (why := _judge_idle(rules, sensed)):
        failing["idle"] = why
    if rules.gpu_alone and (count := sensed.gpu_strangers) != 0:
        failing["gpu_alone"] = (
            "the GPUs' driver does not tell who uses them"
            if count is None
            else f"{count} other programs compute on a GPU"
        )
    for name, value, most, unit in (
        ("load", sensed.load_milli, rules.load_milli, "thousandths of a CPU in use"),
        ("temperature", sensed.temperature_c, rules.temperature_c, "degrees"),
        (
            "gpu_temperature",
            sensed.gpu_temperature_c,
            rules.gpu_temperature_c,
            "degrees of a GPU",
        ),
        ("power", sensed.power_w, rules.power_w, "watts"),
    ):
        if most and value is None:
            failing[name] = f"this machine does not tell its {name}"
        elif most and value is not None and value > most:
            failing[name] = f"{value} {unit}, at most {most} allowed"
    return Judgement(failing, until_s)


def _judge_idle(rules: Rules, sensed: Sensed) -> str:
    if sensed.idle_s is None:
        return f"nothing in {rules.input} tells whether somebody is at this machine"
    if sensed.idle_s < rules.idle_s:
        ago = format_duration(sensed.idle_s)
        return f"somebody was at this machine {ago} ago"
    return ""


def decide(stand: Stand, judged: Judgement, rules: Rules, *, now_s: int) -> Stand:
    """Say whether the machine is on offer from now on.

    It is taken back as soon as a rule fails, and on offer again once all of them have
    held for a while: so offers do not flap.
    """
    counting = {
        name: why
        for name, why in judged.failing.items()
        if name not in _SWINGING or name in stand.failing or not stand.is_open
    }
    if counting:
        return Stand(
            is_open=False,
            failing=judged.failing,
            failed_at_s=now_s,
            until_s=judged.until_s,
        )
    has_settled = now_s - stand.failed_at_s >= rules.settle_s
    return Stand(
        is_open=stand.is_open or not stand.failed_at_s or has_settled,
        failing=judged.failing,
        failed_at_s=stand.failed_at_s,
        until_s=judged.until_s,
    )


def explain(stand: Stand, rules: Rules, *, now_s: int) -> tuple[str, ...]:
    """Say why the machine is not on offer; nothing where it is."""
    if stand.is_open:
        return ()
    left_s = stand.failed_at_s + rules.settle_s - now_s
    settling = f"the rules hold again; on offer in {format_duration(max(0, left_s))}"
    return tuple(stand.failing.values()) or (settling,)


def _clock(at_s: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(at_s, zone).strftime("%a %H:%M")
