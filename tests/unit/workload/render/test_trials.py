"""Trials of a job's units, with pictures of numpy: honest machines and liars."""

import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from msgspec import structs

from sublet.base.ids import Address
from sublet.core.render.picture import Picture, hash_pixels
from sublet.core.render.tile import crop
from sublet.core.render.unit import Recipe, Tile, Unit, UnitReport, get_tile
from sublet.core.render.verdict import Phase
from sublet.workload.render.trials import (
    NEVER,
    Accuse,
    Again,
    Ask,
    Dismiss,
    Trials,
)

RECIPE = Recipe(
    scene="scene/a.json",
    root="0x" + "11" * 32,
    build="toy 1",
    engine="toy",
    device="cpu",
    width=96,
    height=64,
    samples=16,
    seed=0,
)
UNITS = tuple(Unit(frame=frame) for frame in range(1, 9))
HONEST, OTHER, LIAR, THIRD = ("0x" + digit * 40 for digit in "abcd")


def draw(unit: Unit, *, lie: bool = False) -> Picture:
    """Draw what the unit is, or something that is as noisy and false."""
    seed = zlib.crc32(f"{unit.frame} {lie}".encode())
    whole = np.random.default_rng(seed).random(
        (RECIPE.height, RECIPE.width, 4), np.float32
    )
    return crop(whole, get_tile(unit, RECIPE))


def tell(picture: Picture, **changed: str) -> UnitReport:
    said = {"device": "cpu", "kernel": "toy", "build": RECIPE.build} | changed
    height, width = picture.shape[:2]
    return UnitReport(
        pixels=hash_pixels(picture),
        width=width,
        height=height,
        seconds=1.0,
        **said,  # type: ignore[arg-type]
    )


class Machines:
    """All that providers have sent; LIAR draws something else everywhere."""

    def __init__(self, **options: int) -> None:
        self.sent: dict[int, Picture] = {}
        self.probes: dict[tuple[int, Address], list[Picture]] = {}
        self.trials = Trials(
            recipe=structs.replace(RECIPE, is_exact=options.get("is_exact", 1) == 1),
            units=UNITS,
            salt=bytes(32),
            check_milli=options.get("check_milli", 1_000),
            pictures=self,
        )

    def read_unit(self, index: int) -> Picture:
        return self.sent[index]

    def read_check(self, index: int, provider: Address) -> Sequence[Picture]:
        return self.probes[index, provider]

    def render(self, index: int, provider: Address, **changed: str) -> list[object]:
        self.sent[index] = draw(UNITS[index], lie=provider == LIAR)
        return list(
            self.trials.take_unit(
                index,
                provider=provider,
                report=tell(self.sent[index], **changed),
                picture=self.sent[index],
                took_s=2.0,
            )
        )

    def check(self, ask: object, provider: Address) -> list[object]:
        assert isinstance(ask, Ask)
        assert provider not in ask.avoid
        drawn = [draw(unit, lie=provider == LIAR) for unit in ask.units]
        self.probes[ask.index, provider] = drawn
        return list(
            self.trials.take_check(
                ask.index,
                pixels=ask.pixels,
                provider=provider,
                reports=[tell(picture) for picture in drawn],
            )
        )


@pytest.fixture
def machines() -> Machines:
    return Machines()


def test_honest_unit_is_borne_out(machines: Machines) -> None:
    (ask,) = machines.render(0, HONEST)
    assert not machines.trials.is_settled(0)
    assert machines.check(ask, OTHER) == []
    assert machines.trials.is_settled(0)
    assert machines.trials.checked == 1


def test_liar_is_named_by_a_third(machines: Machines) -> None:
    (ask,) = machines.render(0, LIAR)
    (again,) = machines.check(ask, HONEST)
    orders = machines.check(again, OTHER)
    assert machines.trials.dismissed.keys() == {LIAR}
    assert any(isinstance(one, Dismiss) and one.provider == LIAR for one in orders)
    assert any(isinstance(one, Accuse) for one in orders)
    assert [one.index for one in orders if isinstance(one, Again)] == [0]
    assert not machines.trials.is_settled(0)
    (ask,) = machines.render(0, HONEST)
    assert isinstance(ask, Ask)
    assert LIAR in ask.avoid


def test_liar_as_checker_is_named_and_harms_nobody(machines: Machines) -> None:
    (ask,) = machines.render(0, HONEST)
    (again,) = machines.check(ask, LIAR)
    machines.check(again, OTHER)
    assert machines.trials.dismissed.keys() == {LIAR}
    trial = machines.trials.find(0)
    assert trial is not None
    assert trial.phase is Phase.CONVICTED
    assert machines.trials.is_settled(0)


def test_word_of_a_liar_that_comes_late_counts_for_nothing(machines: Machines) -> None:
    (of_other,) = machines.render(1, OTHER)
    (ask,) = machines.render(0, HONEST)
    (again,) = machines.check(ask, LIAR)
    machines.check(again, OTHER)
    (asked,) = machines.check(of_other, LIAR)
    assert isinstance(asked, Ask)
    assert set(asked.avoid) == {OTHER, LIAR}
    assert machines.check(asked, HONEST) == []
    assert machines.trials.is_settled(1)


def test_what_rests_on_a_liars_word_is_done_again(machines: Machines) -> None:
    """A unit of its own that nobody has checked yet, and one that only it bore out."""
    (open_ask,) = machines.render(1, LIAR)
    (ask,) = machines.render(0, LIAR)
    (again,) = machines.check(ask, HONEST)
    orders = machines.check(again, OTHER)
    assert {one.index for one in orders if isinstance(one, Again)} == {0, 1}
    assert machines.check(open_ask, THIRD) == []  # too late: the unit is void already


def test_worker_is_convicted_by_its_own_words(machines: Machines) -> None:
    orders = machines.render(0, LIAR, build="toy 2")
    assert "wrong_build" in machines.trials.dismissed[LIAR]
    assert any(isinstance(one, Again) for one in orders)


def test_what_cannot_be_read_is_rendered_again(machines: Machines) -> None:
    orders = machines.trials.take_unit(
        0, provider=LIAR, report=None, picture=None, took_s=1.0
    )
    assert any(isinstance(one, Again) and one.index == 0 for one in orders)


def test_nobody_else_is_there(machines: Machines) -> None:
    (ask,) = machines.render(0, HONEST)
    assert isinstance(ask, Ask)
    assert machines.trials.take_nobody(0, pixels=ask.pixels) == []
    assert machines.trials.is_settled(0)  # the worker's word, said plainly
    assert machines.trials.checked == 0


def test_checks_of_an_earlier_picture_do_not_count(machines: Machines) -> None:
    (ask,) = machines.render(0, HONEST)
    assert isinstance(ask, Ask)
    found = machines.trials.take_check(
        0, pixels="0x" + "22" * 32, provider=OTHER, reports=None
    )
    assert found == []
    assert not machines.trials.is_settled(0)


def test_nothing_is_checked_where_nobody_wants_it() -> None:
    machines = Machines(check_milli=NEVER)
    assert machines.render(0, LIAR) == []
    assert machines.trials.is_settled(0)


def test_first_unit_of_each_is_checked_by_record() -> None:
    machines = Machines(check_milli=-1)
    assert machines.render(0, HONEST)
    assert machines.render(1, OTHER)


def test_probes_lie_within_a_tile() -> None:
    unit = Unit(frame=1, tile=Tile(32, 16, 96, 64))
    machines = Machines()
    machines.trials = Trials(
        recipe=RECIPE,
        units=[unit],
        salt=bytes(32),
        check_milli=1_000,
        pictures=machines,
    )
    machines.sent[0] = draw(unit)
    (ask,) = machines.trials.take_unit(
        0, provider=HONEST, report=tell(draw(unit)), picture=draw(unit), took_s=2.0
    )
    assert machines.check(ask, OTHER) == []
    assert machines.trials.checked == 1


def test_a_volume_is_checked_as_a_whole() -> None:
    """Its parts, rendered alone, are others: two honest ones would blame a third."""
    machines = Machines(is_exact=0)
    (ask,) = machines.render(0, HONEST)
    assert isinstance(ask, Ask) and ask.units == (UNITS[0],)
    assert not machines.check(ask, OTHER)
    trial = machines.trials.find(0)
    assert trial is not None and trial.phase is Phase.AGREED
    (ask,) = machines.render(1, LIAR)
    (ask,) = machines.check(ask, OTHER)
    assert isinstance(ask, Ask) and ask.units == (UNITS[1],)
    machines.check(ask, THIRD)
    assert LIAR in machines.trials.dismissed
