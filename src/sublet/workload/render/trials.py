"""The trials of a job's units: who is believed, what is probed, what is rendered again.

The rules are ``core.render``'s; this holds the trials side by side, reads pictures that
are compared, and turns what the rules order into tasks for the farm.

Not here: tasks and workers (``farm``), files (``pictures``).
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct, structs

from sublet.base.ids import Address, Digest
from sublet.core.render import verdict
from sublet.core.render.compare import compare, get_rule
from sublet.core.render.picture import Picture, hash_pixels
from sublet.core.render.probe import (
    Probe,
    cut_checked,
    cut_probes,
    draw_probes,
    list_checked,
    make_seed,
)
from sublet.core.render.rate import WHOLE_PPM, Standing, compute_rate, is_probed
from sublet.core.render.scrutiny import Expectation, Scrutiny, scrutinise
from sublet.core.render.unit import Recipe, Unit, UnitReport
from sublet.core.render.verdict import Phase, Trial
from sublet.workload.render.wish import BY_RECORD_MILLI

NEVER = 0  # of the units, in thousandths


class Pictures(Protocol):
    """What workers have sent, as it lies on this disk."""

    def read_unit(self, index: int) -> Picture:
        """Give the picture of a unit that was kept."""
        ...

    def read_check(self, index: int, provider: Address) -> Sequence[Picture]:
        """Give the pictures of a unit's probes that this provider rendered."""
        ...


class Ask(Struct, frozen=True):
    """Have a unit's probes rendered."""

    index: int
    pixels: Digest  # of the picture that they are of
    units: tuple[Unit, ...]  # its probes, or all of it (``probe.list_checked``)
    avoid: tuple[Address, ...]


class Again(Struct, frozen=True):
    """Forget what came of a unit, and have it rendered anew."""

    index: int
    avoid: tuple[Address, ...]


class Dismiss(Struct, frozen=True):
    """Give this provider nothing more, and sign nothing more for it."""

    provider: Address
    reason: str


class Accuse(Struct, frozen=True):
    """Write down why, for anyone to check."""

    index: int


Order = Ask | Again | Dismiss | Accuse


class Trials:
    """All trials of one job."""

    def __init__(
        self,
        *,
        recipe: Recipe,
        units: Sequence[Unit],
        salt: bytes,
        check_milli: int,
        pictures: Pictures,
        records: Mapping[Address, Standing] | None = None,
    ) -> None:
        """Take the job; nothing has been rendered yet.

        Args:
            recipe: of all units.
            units: by their index.
            salt: that probes are drawn with; nobody else knows it.
            check_milli: share of the units that is checked; ``BY_RECORD_MILLI``: as much as
                each provider's record asks for; ``NEVER``.
            pictures: what has arrived.
            records: what the market knows of providers.
        """
        self._recipe = recipe
        self._units = units
        self._salt = salt
        self._check_milli = check_milli
        self._pictures = pictures
        self._records = records or {}
        self._trials: dict[int, Trial] = {}
        self._reports: dict[int, UnitReport] = {}
        self._probes: dict[int, tuple[Probe, ...]] = {}
        self._kernels: dict[tuple[int, Address], str] = {}
        self._given: dict[Address, int] = {}
        self._frames: dict[Digest, int] = {}
        self.dismissed: dict[Address, str] = {}

    # ---- what is known ----------------------------------------------------------------

    def find(self, index: int) -> Trial | None:
        """Give the trial of a unit that has been rendered."""
        return self._trials.get(index)

    def is_settled(self, index: int) -> bool:
        """Say whether a unit's picture may be used, for good."""
        trial = self._trials.get(index)
        if trial is None or trial.is_void:
            return False
        return trial.is_over or trial.phase is Phase.UNVERIFIED

    @property
    def checked(self) -> int:
        """Count the units that another provider bore out."""
        return sum(one.phase is Phase.AGREED for one in self._trials.values())

    def seed(self, index: int) -> bytes:
        """Give what the dice of a unit are thrown with."""
        return make_seed(
            salt=self._salt,
            recipe=self._recipe,
            unit=self._units[index],
            pixels=self._reports[index].pixels,
        )

    # ---- what happens -----------------------------------------------------------------

    def take_unit(
        self,
        index: int,
        *,
        provider: Address,
        report: UnitReport | None,
        picture: Picture | None,
        took_s: float,
    ) -> list[Order]:
        """Hear of a unit; a report or a picture of None is one that cannot be read."""
        unit = self._units[index]
        if provider in self.dismissed:
            return [Again(index, (provider,))]
        kernel = "" if report is None else report.kernel
        self._trials[index] = Trial(unit=unit, worker=provider, kernel=kernel)
        if report is None or picture is None:
            return self._step(index, verdict.SelfConvicted("no_picture"))
        self._reports[index] = report
        seen = self._scrutinise(unit, report, picture, took_s=took_s)
        if seen.faults:
            return self._step(index, verdict.SelfConvicted(", ".join(seen.faults)))
        self._frames.setdefault(report.pixels, unit.frame)
        is_chosen = self._is_chosen(index, provider, is_doubted=bool(seen.doubts))
        self._given[provider] = self._given.get(provider, 0) + 1
        if not is_chosen:
            return []
        self._probes[index] = draw_probes(
            picture, recipe=self._recipe, unit=unit, seed=self.seed(index)
        )
        return self._step(index, verdict.Chosen())

    def take_check(
        self,
        index: int,
        *,
        pixels: Digest,
        provider: Address,
        reports: Sequence[UnitReport] | None,
    ) -> list[Order]:
        """Hear of a unit's probes.

        Args:
            index: of the unit.
            pixels: the hash of the picture that they were drawn for.
            provider: who rendered them.
            reports: of each; None: what came is no picture of them.
        """
        trial = self._find_open(index, pixels)
        if trial is None:
            return []
        if not reports or provider in self.dismissed:
            return self._step(index, verdict.CheckFailed(provider))
        kernel = reports[0].kernel
        self._kernels[index, provider] = kernel
        theirs = self._read_check(index, provider)
        ours = self._crop(index)
        probes = self._probes[index]
        against_worker = compare(
            probes, ours, theirs, rule=get_rule(trial.kernel, kernel)
        )
        if trial.phase is Phase.CHECKING:
            return self._step(index, verdict.Checked(provider, against_worker))
        first = trial.checker
        of_checker = compare(
            probes,
            self._read_check(index, first),
            theirs,
            rule=get_rule(self._kernels[index, first], kernel),
        )
        return self._step(
            index, verdict.Arbitrated(provider, against_worker, of_checker)
        )

    def take_nobody(self, index: int, *, pixels: Digest) -> list[Order]:
        """Hear that no other provider is there for a unit's probes."""
        if self._find_open(index, pixels) is None:
            return []
        return self._step(index, verdict.NobodyLeft())

    def _find_open(self, index: int, pixels: Digest) -> Trial | None:
        """Give a trial that waits for probes; None where it is over, or another's."""
        trial, report = self._trials.get(index), self._reports.get(index)
        if trial is None or report is None or report.pixels != pixels:
            return None
        return trial if trial.phase in (Phase.CHECKING, Phase.DISPUTED) else None

    # ---- the rules --------------------------------------------------------------------

    def _scrutinise(
        self, unit: Unit, report: UnitReport, picture: Picture, *, took_s: float
    ) -> Scrutiny:
        return scrutinise(
            report,
            unit=unit,
            recipe=self._recipe,
            arrived=hash_pixels(picture),
            known=Expectation(took_s=took_s),
            frames=self._frames,
        )

    def _is_chosen(self, index: int, provider: Address, *, is_doubted: bool) -> bool:
        if self._check_milli == NEVER:
            return False
        if is_doubted:
            return True
        rate_ppm = self._check_milli * WHOLE_PPM // 1_000
        if self._check_milli == BY_RECORD_MILLI:
            rate_ppm = compute_rate(self._stand(provider))
        return is_probed(self.seed(index), rate_ppm=rate_ppm)

    def _stand(self, provider: Address) -> Standing:
        agreed = sum(
            one.worker == provider and one.phase is Phase.AGREED
            for one in self._trials.values()
        )
        is_doubted = any(
            one.phase is Phase.UNDECIDED and provider in (one.worker, one.checker)
            for one in self._trials.values()
            if one.is_void
        )
        return structs.replace(
            self._records.get(provider, Standing()),
            given=self._given.get(provider, 0),
            agreed=agreed,
            is_doubted=is_doubted,
        )

    def _crop(self, index: int) -> list[Picture]:
        unit, probes = self._units[index], self._probes[index]
        whole = self._pictures.read_unit(index)
        return cut_probes(whole, probes, recipe=self._recipe, unit=unit)

    def _read_check(self, index: int, provider: Address) -> list[Picture]:
        unit, probes = self._units[index], self._probes[index]
        pictures = self._pictures.read_check(index, provider)
        return cut_checked(pictures, probes, recipe=self._recipe, unit=unit)

    def _step(self, index: int, fact: verdict.Fact) -> list[Order]:
        trial, orders = verdict.step(self._trials[index], fact)
        self._trials[index] = trial
        found: list[Order] = []
        for one in orders:
            found += self._translate(index, one)
        return found

    def _translate(self, index: int, one: verdict.Order) -> list[Order]:
        match one:
            case verdict.AskCheck():
                unit = self._units[index]
                probes = self._probes[index]
                units = list_checked(probes, recipe=self._recipe, unit=unit)
                pixels = self._reports[index].pixels
                return [Ask(index, pixels, units, (*one.avoid, *self.dismissed))]
            case verdict.RenderAgain():
                return [self._redo(index, one.avoid)]
            case verdict.Dismiss():
                return self._dismiss(one.provider, one.reason)
            case verdict.WriteEvidence():
                return [Accuse(index)]
            case _:
                raise AssertionError(f"nobody obeys {type(one).__name__}")

    def _redo(self, index: int, avoid: tuple[Address, ...]) -> Again:
        return Again(index, tuple({**dict.fromkeys(avoid), **self.dismissed}))

    def _dismiss(self, provider: Address, reason: str) -> list[Order]:
        """Let a liar go, and give up what rests on its word alone."""
        if provider in self.dismissed:
            return []
        self.dismissed[provider] = reason
        found: list[Order] = [Dismiss(provider, reason)]
        fallout = verdict.find_fallout(self._trials.values(), liar=provider)
        for index, trial in list(self._trials.items()):
            if trial.unit in fallout.void:
                self._trials.pop(index)
                found.append(self._redo(index, (provider,)))
            elif trial.unit in fallout.again:
                self._trials[index] = Trial(
                    unit=trial.unit, worker=trial.worker, kernel=trial.kernel
                )
                found += self._step(index, verdict.Chosen())
        return found
