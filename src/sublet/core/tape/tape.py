"""The tape: what machines were let for, hour by hour, per kind of machine and region.

A **deal** is noted when the job of a lease starts, not when the lease is matched: an offer
that never keeps its word makes no price. It is noted under its region and under
``ANYWHERE``. The price of a deal is that of the whole slice, divided by its GPUs; by its
CPUs where it has none.

The tape is a part of the book: folded from the log, sealed with it, the same anywhere.
Its memory is bounded, by three rules: hours older than ``TAPE_HOURS_MAX`` are forgotten; of
one kind the newest ``TAPE_DEALS_MAX`` deals are kept one by one, and an hour with more of
them takes its quantiles from these; where there are ``TAPE_SERIES_MAX`` kinds already, a new
one takes the place of that with the fewest deals in the hours that are kept.

Not here: what is asked for now (``book.prices``).
"""

from msgspec import Struct
from msgspec.structs import replace

from sublet.base.limits import TAPE_DEALS_MAX, TAPE_HOURS_MAX, TAPE_SERIES_MAX
from sublet.core.tape.quantile import find_percentiles

ANYWHERE = "*"
HOUR_S = 3_600

Kind = tuple[str, str]  # GPU model ("" for none), region


class Deal(Struct, frozen=True, array_like=True, gc=False):
    """A lease whose job started, as the tape keeps it."""

    at_s: int
    price: int  # micro-USD an hour for one GPU, or one CPU where there is no GPU
    units_milli: int  # thousandths of a GPU, or of a CPU


class Hour(Struct, frozen=True, array_like=True, gc=False):
    """The deals of one hour; prices in micro-USD an hour and unit, counted by units."""

    hour: int  # since the epoch: at_s // 3,600
    deals: int
    units_milli: int  # of all of them
    p10: int
    median: int
    p90: int
    last: int


class Series(Struct, frozen=True, gc=False):
    """The deals of one kind of machine in one region."""

    model: str
    region: str
    recent: tuple[Deal, ...] = ()  # newest last; never empty once it is on the tape
    hours: tuple[Hour, ...] = ()  # that are over and had deals, oldest first
    open_deals: int = 0  # in the hour of the newest deal
    open_units_milli: int = 0

    @property
    def last(self) -> Deal:
        """The newest deal."""
        return self.recent[-1]


class Tape:
    """All series; changed by the fold alone."""

    def __init__(self) -> None:
        """Start without any deal."""
        self.series: dict[Kind, Series] = {}

    def copy(self) -> "Tape":
        """Give an independent tape with the same content."""
        twin = Tape()
        twin.series = self.series.copy()
        return twin

    def note(self, deal: Deal, *, model: str, region: str) -> None:
        """Note a deal; its time is not before that of any other."""
        for place in dict.fromkeys((region, ANYWHERE)):
            kind = (model, place)
            series = self.series.get(kind)
            if series is None:
                self._make_room(deal.at_s)
                series = Series(model, place)
            self.series[kind] = _add(series, deal)

    def _make_room(self, now_s: int) -> None:
        if len(self.series) < TAPE_SERIES_MAX:
            return
        least = min(
            self.series.values(),
            key=lambda each: (
                _count_deals(each, now_s=now_s),
                each.last.at_s,
                each.model,
                each.region,
            ),
        )
        del self.series[least.model, least.region]


def list_hours(series: Series, *, now_s: int) -> tuple[Hour, ...]:
    """List the hours with deals that are kept at ``now_s``, oldest first.

    The hour that is not over yet is the last of them, as it is so far.
    """
    oldest = _oldest_hour(now_s)
    hours = (*series.hours, _sum_up(series))
    return tuple(hour for hour in hours if hour.hour >= oldest)


def _oldest_hour(now_s: int) -> int:
    return now_s // HOUR_S - TAPE_HOURS_MAX + 1


def _count_deals(series: Series, *, now_s: int) -> int:
    """Count the deals of the hours that are kept; ranks nothing."""
    oldest = _oldest_hour(now_s)
    is_open_kept = series.last.at_s // HOUR_S >= oldest
    return series.open_deals * is_open_kept + sum(
        hour.deals for hour in series.hours if hour.hour >= oldest
    )


def _add(series: Series, deal: Deal) -> Series:
    hour = deal.at_s // HOUR_S
    hours = series.hours
    open_deals, open_units_milli = series.open_deals, series.open_units_milli
    if series.recent and series.last.at_s // HOUR_S != hour:
        hours = list_hours(series, now_s=deal.at_s)
        open_deals = open_units_milli = 0
    return replace(
        series,
        recent=(*series.recent[1 - TAPE_DEALS_MAX :], deal),
        hours=hours,
        open_deals=open_deals + 1,
        open_units_milli=open_units_milli + deal.units_milli,
    )


def _sum_up(series: Series) -> Hour:
    """Close the hour of the newest deal."""
    hour = series.last.at_s // HOUR_S
    p10, median, p90 = find_percentiles(
        (deal.price, deal.units_milli)
        for deal in series.recent
        if deal.at_s // HOUR_S == hour
    )
    return Hour(
        hour=hour,
        deals=series.open_deals,
        units_milli=series.open_units_milli,
        p10=p10,
        median=median,
        p90=p90,
        last=series.last.price,
    )
