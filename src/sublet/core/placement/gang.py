"""A gang: slices that are of use only together, placed whole or not at all.

Close together by measured latency: from each place that has room the members are laid
out over the nearest machines, and the layout whose two farthest members are
closest wins. (Choosing the closest set outright is intractable; growing it from each
place is at most twice as wide where latencies obey the triangle inequality.)
"""

from collections.abc import Iterable, Sequence
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from sublet.core.placement.fleet import Place
from sublet.core.placement.packer import Packer
from sublet.core.placement.shape import Shape

CENTRES_MAX = 64  # places that a layout is grown from; those with most room
FAR_US = 1 << 40  # the latency between places that nobody has measured

Apartness = Literal["machine", "provider", "place", "network"]


class Gang(Struct, frozen=True):
    """So many slices of one shape, or none."""

    shape: Shape
    count: int
    apart: tuple[Apartness, ...] = ()  # of these, no two members share one
    latency_us_max: int = FAR_US  # between any two members


class Sites(Struct, frozen=True):
    """Where machines stand. Columns by machine, shape (n_machines,)."""

    provider: NDArray[np.int64]  # numbers; equal ones are the same
    place: NDArray[np.int64]  # rows of ``latency_us``
    network: NDArray[np.int64]
    # One way or there and back, but the same everywhere; FAR_US where unmeasured. On
    # the diagonal: between two machines of one place. Shape (n_places, n_places).
    latency_us: NDArray[np.int64]


def find_gang(packer: Packer, gang: Gang, sites: Sites) -> tuple[Place, ...] | None:
    """Choose a place for each member; None where not all of them fit.

    Changes nothing. Members may share a machine unless they are to be apart.
    """
    room = packer.fleet.room(gang.shape)
    if gang.apart:  # whatever they must not share, two on one machine would share it
        np.minimum(room, 1, out=room)
    scores = packer.scores(gang.shape)
    latency_us = np.maximum(sites.latency_us, sites.latency_us.T)
    best: tuple[int, int, list[int]] | None = None
    for order in _orders(room, scores, sites, latency_us, gang):
        rows = _lay_out(order, room, sites, gang)
        if rows is None:
            continue
        wide_us = _width_us(rows, sites, latency_us)
        rank = (wide_us, -int(sum(scores[rows].tolist())), rows)
        if wide_us <= gang.latency_us_max and (best is None or rank < best):
            best = rank
    return None if best is None else _bind(packer, gang.shape, best[2])


def _orders(
    room: NDArray[np.int64],
    scores: NDArray[np.int64],
    sites: Sites,
    latency_us: NDArray[np.int64],
    gang: Gang,
) -> Iterable[NDArray[np.int64]]:
    """Give the orders in which machines are tried."""
    rows = np.flatnonzero(room)
    members = np.minimum(room[rows], gang.count)
    alone = rows[members == gang.count]
    if alone.size:  # one machine holds them all: nothing is closer
        yield alone[np.lexsort((alone, -scores[alone]))]
    of_place = np.bincount(sites.place[rows], members, minlength=len(latency_us))
    centres = np.argsort(-of_place, kind="stable")[:CENTRES_MAX]
    for centre in centres[of_place[centres] > 0]:
        away_us = latency_us[centre, sites.place[rows]]
        yield rows[np.lexsort((rows, -scores[rows], -members, away_us))]


def _lay_out(
    order: NDArray[np.int64], room: NDArray[np.int64], sites: Sites, gang: Gang
) -> list[int] | None:
    """Fill machines in this order; the row of each member, or None."""
    rows: list[int] = []
    columns = [getattr(sites, name) for name in gang.apart if name != "machine"]
    used: list[set[int]] = [set() for _ in columns]
    for row in order.tolist():
        theirs = [int(column[row]) for column in columns]
        if any(number in seen for number, seen in zip(theirs, used, strict=True)):
            continue
        for number, seen in zip(theirs, used, strict=True):
            seen.add(number)
        rows += [row] * min(int(room[row]), gang.count - len(rows))
        if len(rows) == gang.count:
            return rows
    return None


def _width_us(rows: Sequence[int], sites: Sites, latency_us: NDArray[np.int64]) -> int:
    """Give the latency between the two members that are farthest apart."""
    machines = sorted(set(rows))
    if len(machines) == 1:
        return 0
    crowd: dict[int, int] = {}
    for row in machines:
        place = int(sites.place[row])
        crowd[place] = crowd.get(place, 0) + 1
    return max(
        int(latency_us[one, other])
        for one, other in combinations_with_replacement(sorted(crowd), 2)
        if one != other or crowd[one] > 1
    )


def _bind(packer: Packer, shape: Shape, rows: Sequence[int]) -> tuple[Place, ...]:
    """Choose the GPUs of each member, as if those before it were bound."""
    fleet = packer.fleet
    places: list[Place] = []
    for row in rows:
        place = Place(row, packer.slots(row, shape))
        fleet.take(place, shape)
        places.append(place)
    for place in places:
        fleet.release(place, shape)
    return tuple(places)


def take_gang(packer: Packer, shape: Shape, places: Sequence[Place]) -> None:
    """Bind what ``find_gang`` found."""
    for place in places:
        packer.take(place, shape)
