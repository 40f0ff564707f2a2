"""What an offer's score is made of, as it is shown to whoever asks. Plain values.

Not here: how the terms are computed (``score``).
"""

from msgspec import Struct

from sublet.base.ids import Address, Digest


class Standing(Struct, frozen=True):
    """Each term of one offer's score."""

    offer_id: Digest
    provider: Address
    asked_hour: int  # micro-USD for the slice: what the owner asks at least
    latency_ms: int  # to the place that the order wants to be near to; 0 for no such
    latency_penalty_hour: int  # micro-USD
    data_penalty_hour: int  # micro-USD; 0 where the data is
    work: str  # whose speed counts; "" for none
    speed: int  # measured; 1 where none counts
    chance_ppm: int  # of finishing the asked duration
    cost_hour: int  # micro-USD for an hour's work of that speed, finished; rounded up
