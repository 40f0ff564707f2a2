"""Write ``synthetic.jsonl``: three hours of made-up prices, in the form of a history.

RENDER falls by 18 % within four minutes, which halts it, and stays there; meanwhile one
source goes quiet, and at the end another says twice the price. USDC is doubted for a while.
Nothing of it was ever read anywhere.
"""

from math import sin
from pathlib import Path

import msgspec

from sublet.core.pricing.reading import E8, Fault, Reading, Round

PLACE = Path(__file__).with_name("synthetic.jsonl")
FIRST_S = 1_790_000_000
EVERY_S = 120
ROUNDS = 91
# Of each source: how far it lies off, in parts per million, and how old its prices are.
SOURCES = {
    "chainlink": (-900, 45, 3_660),
    "coingecko": (700, 70, 300),
    "pyth": (0, 2, 60),
}


def render_price(minute: int) -> float:
    """Give a made-up price in dollars."""
    wave = 1 + 0.004 * sin(minute / 7) + 0.003 * sin(minute / 2.3)
    fall = min(max(minute - 60, 0), 4) / 4
    return 7.20 * wave * (1 - 0.18 * fall)


def usdc_price(minute: int) -> float:
    """Give a made-up price of a dollar."""
    return 0.9938 if 100 <= minute < 124 else 0.9998


def make_round(number: int) -> Round:
    """Make what all sources said once."""
    at_s, minute = FIRST_S + number * EVERY_S, number * EVERY_S // 60
    readings, faults = [], []
    for source, (off_ppm, age_s, fresh_s) in SOURCES.items():
        for token, price in (
            ("RENDER", render_price(minute)),
            ("USDC", usdc_price(minute)),
        ):
            if source == "coingecko" and 66 <= minute < 90:
                faults.append(Fault(source=source, token=token, why="feed_busy"))
                continue
            lie = (
                2 if (source, token) == ("coingecko", "RENDER") and minute > 174 else 1
            )
            readings.append(
                Reading(
                    source=source,
                    token=token,
                    price_e8=int(price * (1 + off_ppm / 1e6) * lie * 1e6)
                    * E8
                    // 1_000_000,
                    published_at_s=at_s - age_s,
                    fresh_s=fresh_s,
                )
            )
    return Round(at_s=at_s, readings=tuple(readings), faults=tuple(faults))


if __name__ == "__main__":
    PLACE.write_bytes(
        b"".join(msgspec.json.encode(make_round(n)) + b"\n" for n in range(ROUNDS))
    )
