"""Pictures that workers have sent, in the map's folder: read with suspicion, each time.

A task renders one unit, ``outputs/ID/unit.exr``, or the probes of one, ``0.exr`` and so
on; its result is the report, or a list of them. Nothing in there is believed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from sublet.adapter.exr_file import read_picture
from sublet.base.errors import PeerFault, Unavailable
from sublet.base.ids import Address
from sublet.core.render.picture import Picture
from sublet.core.render.unit import Recipe, Unit, UnitReport, get_tile
from sublet.workload.map.result import TaskResult

WHOLE = "unit"

T = TypeVar("T")


class Arrived(Struct, frozen=True):
    """What came of a unit; None where it cannot be read."""

    report: UnitReport | None
    picture: Picture | None


class UnitPictures:
    """The pictures of one job. Methods block."""

    def __init__(self, folder: Path, *, recipe: Recipe, units: Sequence[Unit]) -> None:
        """Take the map's folder of results."""
        self._folder = folder
        self._recipe = recipe
        self._units = units
        self._ids: dict[int, str] = {}
        self._checks: dict[tuple[int, Address], tuple[str, tuple[Unit, ...]]] = {}

    def take_unit(self, index: int, result: TaskResult) -> Arrived:
        """Read what a worker sent of a unit."""
        self._ids[index] = result.id
        report = _read_as(result, UnitReport)
        return Arrived(report, self._read(result.id, WHOLE, self._units[index]))

    def take_check(
        self, index: int, probes: Sequence[Unit], result: TaskResult
    ) -> tuple[UnitReport, ...] | None:
        """Read what a worker sent of a unit's probes; None where it is not all there."""
        reports = _read_as(result, tuple[UnitReport, ...])
        found = [self._read(result.id, str(n), one) for n, one in enumerate(probes)]
        if reports is None or any(one is None for one in found):
            return None
        if len(reports) != len(probes):
            return None
        self._checks[index, result.provider] = (result.id, tuple(probes))
        return reports

    def read_unit(self, index: int) -> Picture:
        """Give the picture of a unit that was taken.

        Raises:
            Unavailable: it is not on this disk any more.
        """
        picture = self._read(self._ids[index], WHOLE, self._units[index])
        if picture is None:
            raise _gone(self._place(self._ids[index], WHOLE))
        return picture

    def read_check(self, index: int, provider: Address) -> Sequence[Picture]:
        """Give the pictures of a unit's probes that this provider rendered.

        Raises:
            Unavailable: they are not on this disk any more.
        """
        name, probes = self._checks[index, provider]
        found = []
        for number, unit in enumerate(probes):
            picture = self._read(name, str(number), unit)
            if picture is None:
                raise _gone(self._place(name, str(number)))
            found.append(picture)
        return found

    def _place(self, name: str, which: str) -> Path:
        return self._folder / "outputs" / name / f"{which}.exr"

    def _read(self, name: str, which: str, unit: Unit) -> Picture | None:
        tile, place = get_tile(unit, self._recipe), self._place(name, which)
        try:
            if not place.is_file():
                return None
            return read_picture(place, width=tile.width, height=tile.height)
        except PeerFault:
            return None


def _read_as(result: TaskResult, kind: type[T]) -> T | None:
    try:
        return msgspec.convert(result.json(), kind)
    except (ValueError, msgspec.ValidationError):
        return None


def _gone(place: Path) -> Unavailable:
    return Unavailable(
        f"{place} is gone; remove the job's folder .work, and render again",
        code="picture_gone",
    )
