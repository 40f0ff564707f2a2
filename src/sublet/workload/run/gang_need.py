"""How a gang is asked for: how many machines, what they share, how close they are."""

import re

from sublet.base.limits import LATENCY_MS_MAX, MACHINES_PER_ORDER_MAX
from sublet.workload.run.wish import Collector, Gang, Wish, refuse

APART = ("provider", "region", "network")
_MILLISECONDS = re.compile(r"\A([0-9]{1,4})ms\Z")


def parse_gang(wish: Wish, found: Collector) -> Gang:
    """Read what a wish says of several machines; faults go into ``found``."""
    machines = found.take(1, _parse_machines, wish.machines)
    apart = found.take((), _parse_apart, wish.apart)
    together_ms = found.take(0, _parse_together, wish.together)
    if machines == 1:
        found.take(None, _check_alone, wish)
    return Gang(machines, apart, together_ms)


def _parse_machines(machines: int | None) -> int:
    if machines is None:
        return 1
    if not 1 <= machines <= MACHINES_PER_ORDER_MAX:
        raise refuse(
            "--machines",
            f"{machines} is not between 1 and {MACHINES_PER_ORDER_MAX}",
            code="out_of_range",
        )
    return machines


def _parse_apart(texts: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.strip().lower() for text in texts))
    for name in names:
        if name not in APART:
            raise refuse(
                "--apart",
                f"there is no {name[:40]!r}; it is one of: {', '.join(APART)}",
                code="bad_apart",
            )
    return names


def _parse_together(text: str | None) -> int:
    if text is None:
        return 0
    match = _MILLISECONDS.match(text.strip().lower())
    if match is None or not 2 <= int(match[1]) <= 2 * LATENCY_MS_MAX:
        raise refuse(
            "--together",
            f"{text[:40]!r} is not a latency of 2ms to {2 * LATENCY_MS_MAX}ms; write it "
            "like 10ms",
            code="bad_together",
        )
    return int(match[1])


def _check_alone(wish: Wish) -> None:
    for option, value in (("--apart", wish.apart), ("--together", wish.together)):
        if value:
            raise refuse(
                option,
                "means nothing to one machine; add --machines N",
                code="bad_gang",
            )
