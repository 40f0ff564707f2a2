"""What a market says of its prices: the bodies of ``/v1/prices``.

All prices are micro-USD an hour for one unit: one GPU or, for the model "", one CPU.
-1 stands for a price that there is not. ``docs/protocol.md`` says how they come about.
"""

from sublet.wire.message import Message


class PriceRow(Message, frozen=True):
    """One kind of machine; region "*" for all of them."""

    model: str
    region: str
    machines: int
    units_milli: int  # thousandths of a GPU or CPU that are offered
    units_milli_free: int
    ask: int  # the lowest of what is free
    ask_p10: int
    ask_median: int
    ask_p90: int
    last: int
    last_at_s: int
    deals: int  # of the last 24 hours
    p10: int
    median: int
    p90: int


class Prices(Message, frozen=True):
    """GET /v1/prices: one page of kinds, sorted by model and region."""

    at_s: int
    size: int  # entries of the log that it is made of
    total: int  # kinds on all pages
    rows: tuple[PriceRow, ...]


class DepthRow(Message, frozen=True):
    """What is offered at one price."""

    price: int
    machines: int
    units_milli: int
    units_milli_free: int


class DepthOf(Message, frozen=True):
    """One kind of machine, the lowest prices first."""

    model: str
    region: str
    levels: int  # that there are; as many as ``limit`` says are shown
    rows: tuple[DepthRow, ...]


class PriceDepth(Message, frozen=True):
    """GET /v1/prices/depth: how much is offered at which price."""

    at_s: int
    size: int
    total: int
    kinds: tuple[DepthOf, ...]


class HourRow(Message, frozen=True):
    """What was paid in one hour."""

    from_s: int  # when it began
    deals: int
    units_milli: int
    p10: int
    median: int
    p90: int
    last: int


class HistoryOf(Message, frozen=True):
    """One kind of machine, the oldest hour first; hours without a deal are left out."""

    model: str
    region: str
    rows: tuple[HourRow, ...]


class PriceHistory(Message, frozen=True):
    """GET /v1/prices/history: what was paid, hour by hour."""

    at_s: int
    size: int
    total: int
    kinds: tuple[HistoryOf, ...]
