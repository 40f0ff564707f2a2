"""How a gang is asked for: how many machines, what they share, how close they are."""

import re

from sublet.base.limits import LATENCY_MS_MAX, MACHINES_PER_ORDER_MAX
from sublet.workload.run.wish import Collector, Gang, Terms, Wanted, Wish, refuse

RANKED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK")
"""Variables that say to a member of a gang which one it is: torchrun's names."""

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


def rank_env(rank: int, machines: int) -> dict[str, str]:
    """Give the variables of one member: a node of its own, with one process.

    >>> rank_env(1, 4)["RANK"], rank_env(1, 4)["WORLD_SIZE"]
    ('1', '4')
    """
    values = (rank, machines, 0, 1, rank)
    return dict(zip(RANKED, map(str, values), strict=True))


def rank_output(wanted: Wanted, rank: int) -> Wanted:
    """Give the place of one member's output: a folder of its rank's.

    >>> rank_output(Wanted("model", ""), 1).local
    'rank-1/model'
    >>> rank_output(Wanted("model", "out"), 1).local
    'out/rank-1/'
    """
    folder = f"rank-{rank}/"
    local = f"{wanted.local.rstrip('/')}/{folder}" if wanted.local else ""
    return Wanted(wanted.remote, local or folder + wanted.remote)


def check_variables(terms: Terms) -> None:
    """Check that nobody gives all members of a gang the same rank.

    Raises:
        Refused: a variable of ``RANKED`` is given.
    """
    names = [name for name in RANKED if name in terms.env or name in terms.secrets]
    if names and terms.needs.gang.machines > 1:
        raise refuse(
            "--env",
            f"{names[0]} says to each of several machines which one it is, and is set "
            "there; leave it out",
            code="bad_variable",
        )


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
