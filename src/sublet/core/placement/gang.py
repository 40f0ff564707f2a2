"""A gang: slices of so many machines that are of use only together, or none of them.

The cheapest gang is sought: of all sets of machines that stand close together, and of
which no two share what they are to be apart in, the one with the least sum of costs.
With at most one thing to be apart in, the cheapest machine of each group is as good as it
gets, and the first ones that fit are the cheapest gang. With several things the search
goes back and tries others, within a limit of steps: exact where that suffices.

Not here: what is close together, and what a machine costs (``core.book.gang_auction``).
"""

from collections.abc import Sequence
from typing import NamedTuple

STEPS_MAX = 16_384  # machines that one search tries, over all centres


class Runner(NamedTuple):
    """A machine in the running."""

    place: int  # where the caller finds it
    cost: int
    owner: int
    groups: frozenset[tuple[int, int]]  # (thing, which): no two members share one


class Gang(NamedTuple):
    """So many machines; the first of equal gangs is the least."""

    cost: int
    members: tuple[Runner, ...]


def find_gang(
    centres: Sequence[Sequence[Runner]], count: int, *, without: int | None = None
) -> Gang | None:
    """Find the cheapest gang; None where there is none.

    Args:
        centres: sets of machines that are close together, each in order of cost.
        count: how many members it has.
        without: an owner whose machines do not count.
    """
    best: Gang | None = None
    steps_max = STEPS_MAX // max(1, len(centres))
    for centre in centres:
        runners = _choose(centre, without)
        found = _Search(runners, count, steps_max=steps_max).find()
        if found is not None and (best is None or found.cost < best.cost):
            best = found
    return best


def count_most(centres: Sequence[Sequence[Runner]]) -> int:
    """Say how many machines some gang has at least; the most there are, mostly."""
    return max((len(_take_first(centre)) for centre in centres), default=0)


def share_out(costs: Sequence[int], extra: int) -> list[int]:
    """Raise the lowest of these by ``extra`` in all, as evenly as can be; rounds down."""
    ranked = sorted(costs)
    level = total = 0
    for number, cost in enumerate(ranked, start=1):
        total += cost
        level = (total + extra) // number
        if number < len(ranked) and level <= ranked[number]:
            break
    return [max(cost, level) for cost in costs]


def _choose(centre: Sequence[Runner], without: int | None) -> list[Runner]:
    """Leave out an owner, and what a cheaper machine of the same groups beats."""
    chosen: list[Runner] = []
    seen: set[frozenset[tuple[int, int]]] = set()
    for runner in centre:
        if runner.owner == without or runner.groups in seen:
            continue
        if runner.groups:
            seen.add(runner.groups)
        chosen.append(runner)
    return chosen


def _take_first(centre: Sequence[Runner]) -> list[Runner]:
    used: set[tuple[int, int]] = set()
    taken = []
    for runner in centre:
        if used.isdisjoint(runner.groups):
            used |= runner.groups
            taken.append(runner)
    return taken


class _Search:
    """Depth first, cheapest first; what cannot become cheaper is left."""

    def __init__(self, runners: list[Runner], count: int, *, steps_max: int) -> None:
        self._runners, self._count = runners, count
        self._steps_left = steps_max
        things = max((len(runner.groups) for runner in runners), default=0)
        self._is_first_best = things <= 1
        self._best: Gang | None = None

    def find(self) -> Gang | None:
        if self._is_first_best:
            members = tuple(_take_first(self._runners)[: self._count])
            if len(members) < self._count:
                return None
            return Gang(sum(runner.cost for runner in members), members)
        self._go_on(0, 0, frozenset(), ())
        return self._best

    def _go_on(
        self,
        start: int,
        cost: int,
        used: frozenset[tuple[int, int]],
        members: tuple[Runner, ...],
    ) -> None:
        left = self._count - len(members)
        if not left:
            self._best = Gang(cost, members)
            return
        for at in range(start, len(self._runners) - left + 1):
            runner = self._runners[at]
            least = cost + left * runner.cost
            if self._best is not None and least >= self._best.cost:
                return
            self._steps_left -= 1
            if self._steps_left < 0:
                return
            if used.isdisjoint(runner.groups):
                self._go_on(
                    at + 1,
                    cost + runner.cost,
                    used | runner.groups,
                    (*members, runner),
                )
